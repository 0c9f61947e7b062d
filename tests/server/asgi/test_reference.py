"""The reference of the whole API: every field says what it means, closed sets name their members, examples are real."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args, get_origin

import jsonschema_rs

from aitbc.kernel.identity.principal import OWN_SCOPES, KeyKind
from aitbc.modules.ai import api as ai
from aitbc.modules.ai.models import life as jobs
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.gpu.api import MinerState
from aitbc.modules.gpu.models import life as miners
from aitbc.modules.trading.models import records as ledger
from aitbc.modules.trading.models.views import TransactionKind
from aitbc.server.asgi.openapi_examples import example_of
from tools.api import described

DESCRIBED = described()
COMPONENTS = DESCRIBED["components"]["schemas"]
SETS = {"state", "status", "fault", "device", "role", "disabled_reason"}
"""Fields of these names are one of a closed set, wherever they stand."""
OPEN_KINDS = {
    "AgentJobStep",
    "CanaryResult",
    "CreateStudy",
    "GraphNode",
    "Job",
    "JobDetail",
    "KindInfo",
    "KindStatistics",
    "Lease",
    "MakeMarketOffer",
    "MarketOffer",
    "ModelInfo",
    "Quote",
    "ReceiptLine",
    "SignedReceipt",
    "TrackRecord",
    "ToldEvent",
    "Usage",
}
"""Where `kind` is a kind of work or of event: those grow with the modules."""
OPEN_TEXTS = {"Device.fault"}
"""What a driver says."""
UNITS = re.compile(
    r"seconds|MiB|GB|bytes|degrees|watts|Percent|percent|how many|How many|AITBC|1/10 000|price|Price|long|soon"
)
PLACEHOLDERS = {"text", "a", "x", "string"}


class Property(NamedTuple):
    """A property of a named schema."""

    owner: str
    name: str
    schema: Any

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}"

    @property
    def options(self) -> list[Any]:
        """What it may be, but null."""
        return [one for one in self.schema.get("anyOf", [self.schema]) if one.get("type") != "null"]


def properties() -> Iterator[Property]:
    """Every property of the API."""
    for owner, schema in COMPONENTS.items():
        for name, one in schema.get("properties", {}).items():
            yield Property(owner, name, one)


PROPERTIES = list(properties())


def test_every_field_says_what_it_means() -> None:
    assert len(PROPERTIES) > 600
    without = [str(one) for one in PROPERTIES if len(one.schema.get("description", "")) < 5]
    assert not without, "write a docstring under these fields"


def test_every_parameter_says_what_it_means() -> None:
    without = [
        f"{method.upper()} {path}: {one['name']}"
        for path, methods in DESCRIBED["paths"].items()
        for method, operation in methods.items()
        for one in operation.get("parameters", ())
        if len(one.get("description", "")) < 5
    ]
    assert not without, "describe these in openapi_parameters.py, or in the annotation"


def test_every_closed_set_names_its_members() -> None:
    bare = [
        str(one)
        for one in PROPERTIES
        if str(one) not in OPEN_TEXTS
        if (one.name in SETS or (one.name == "kind" and one.owner not in OPEN_KINDS))
        for option in one.options
        if option.get("type") == "string" and not {"enum", "const"} & option.keys()
    ]
    assert not bare, "annotate these with one_of(…)"
    listed = [
        str(one)
        for one in PROPERTIES
        for option in one.options
        if option.get("type") == "string" and not {"enum", "const", "pattern"} & option.keys()
        if re.match(r"`\w+`(, `\w+`)* or `\w+`", one.schema.get("description", ""))
    ]
    assert not listed, "a description that lists the values is no enum"


def values(kind: Any) -> set[str]:
    """The members of an annotated closed set."""
    (meta,) = [one for one in get_args(kind) if hasattr(one, "extra_json_schema")]
    return set(meta.extra_json_schema["enum"])


def test_the_sets_are_those_of_the_code() -> None:
    assert values(ai.JobState) == set(jobs.State)
    assert values(ai.JobReason) == set(jobs.Reason) - {
        jobs.Reason.OVERCOUNTED,
        jobs.Reason.TOO_FAST,
        jobs.Reason.WRONG_RESULT,
        jobs.Reason.UNVERIFIED,
    }  # those are an attempt's
    assert values(ai.Blamed) == set(jobs.Fault)
    assert values(ai.AttemptState) == {"leased", "running", *jobs.Ended}
    assert values(MinerState) == set(miners.Status)
    assert values(TransactionKind) == set(ledger.KINDS)
    assert values(KeyKind) >= set(OWN_SCOPES)
    assert get_origin(ai.JobState) is not None


def test_numbers_of_something_name_their_unit() -> None:
    without = [
        str(one)
        for one in PROPERTIES
        if re.search(r"_(seconds|mib|gb|bytes|celsius|watts|points)\Z|\Abytes\Z", one.name)
        if not UNITS.search(one.schema["description"])
    ]
    assert not without, "say what it is counted in"


def test_examples_are_real_and_fit() -> None:
    bare = []
    registry = jsonschema_rs.Registry([("urn:api", {"components": {"schemas": COMPONENTS}})])  # read once for all
    for name, schema in COMPONENTS.items():
        value = example_of(schema, COMPONENTS)
        named = {"$ref": f"urn:api#/components/schemas/{name}"}
        jsonschema_rs.Draft202012Validator(named, registry=registry).validate(value)
        open_fields = [key for key, field in schema.get("properties", {}).items() if "enum" not in field]
        bare += [
            f"{name}.{key}" for key in open_fields if isinstance(value.get(key), str) and value[key] in PLACEHOLDERS
        ]
    assert not bare, "end the docstring of these with an example: For example `…`."


def test_a_job_is_described_by_its_kind() -> None:
    schema = COMPONENTS["SubmitJob"]
    assert schema["discriminator"]["propertyName"] == "kind"
    assert schema["discriminator"]["mapping"].keys() == KINDS.keys()
    chat = COMPONENTS[schema["discriminator"]["mapping"]["chat"].rsplit("/", 1)[1]]
    assert chat["properties"]["kind"]["enum"] == ["chat"]
    assert "messages" in COMPONENTS[chat["properties"]["input"]["$ref"].rsplit("/", 1)[1]]["required"]
