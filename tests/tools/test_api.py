"""The committed description of the API: a change that breaks its clients is refused without a note."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools import api
from tools.api_changes import breaking_changes

DESCRIBED = api.described()
PATHS = ("/api/v1/ai/jobs", "/api/v1/ai/jobs/{job}", "/api/v1/identity/keys")
"""What the changes of these tests are made to; the whole description is compared once, with itself."""
FEW = DESCRIBED | {"paths": {path: DESCRIBED["paths"][path] for path in PATHS}}
Change = Callable[[Any], object]


def copied() -> Any:
    """A description of few paths, to change."""
    return json.loads(json.dumps(FEW))


def changed(change: Change) -> list[str]:
    """What a change of the description breaks."""
    after = copied()
    change(after)
    return breaking_changes(FEW, after)


def schema(document: Any, name: str) -> Any:
    """One named schema."""
    return document["components"]["schemas"][name]


def submit(document: Any) -> Any:
    """The operation that submits a job."""
    return document["paths"]["/api/v1/ai/jobs"]["post"]


BREAKING: dict[str, tuple[Change, str]] = {
    "a route that goes": (lambda d: d["paths"].pop("/api/v1/ai/jobs/{job}"), "GET /api/v1/ai/jobs/{job}: removed"),
    "another id": (lambda d: submit(d).update(operationId="x"), "its id is x instead of submit_job"),
    "another permission": (lambda d: submit(d).update({"x-permission": "x"}), "it needs x instead of jobs:create"),
    "a status": (
        lambda d: submit(d)["responses"].update({"200": submit(d)["responses"].pop("201")}),
        "no longer answers 201",
    ),
    "a parameter that goes": (
        lambda d: d["paths"]["/api/v1/ai/jobs"]["get"]["parameters"].clear(),
        "GET /api/v1/ai/jobs: the query parameter limit is removed",
    ),
    "a parameter that is required": (
        lambda d: [one.update(required=True) for one in d["paths"]["/api/v1/ai/jobs"]["get"]["parameters"]],
        "GET /api/v1/ai/jobs: the query parameter limit is required",
    ),
    "a field of an answer that goes": (
        lambda d: schema(d, "Job")["properties"].pop("price"),
        "answer 201/price: removed",
    ),
    "a field of an answer that may be missing": (
        lambda d: schema(d, "Job")["required"].remove("id"),
        "id: may be left out",
    ),
    "a field of an answer that may be null": (
        lambda d: schema(d, "Job")["properties"].update(id={"anyOf": [{"type": "string"}, {"type": "null"}]}),
        "answer 201/id: may be null",
    ),
    "a field of a request that goes": (
        lambda d: schema(d, "SubmitJobEmbed")["properties"].pop("max_price"),
        "POST /api/v1/ai/jobs: body/max_price: removed",
    ),
    "a field of a request that is required": (
        lambda d: schema(d, "CreateKey")["required"].append("kind"),
        "POST /api/v1/identity/keys: body/kind: required",
    ),
    "another type": (
        lambda d: schema(d, "CreateKey")["properties"].update(name={"type": "integer"}),
        "no longer takes string",
    ),
    "a tighter limit": (
        lambda d: schema(d, "CreateKey")["properties"]["name"].update(maxLength=3),
        "body/name: maxLength 3",
    ),
    "a closed set": (
        lambda d: schema(d, "CreateKey")["properties"]["name"].update(enum=["a"]),
        "takes any other value",
    ),
}
HARMLESS: dict[str, Change] = {
    "a new route": lambda d: d["paths"].update({"/new": {}}),
    "a new field of an answer": lambda d: schema(d, "Job")["properties"].update(new={"type": "string"}),
    "a new optional field of a request": lambda d: schema(d, "SubmitJobEmbed")["properties"].update(
        new={"type": "string"}
    ),
    "a wider limit": lambda d: schema(d, "CreateKey")["properties"]["name"].update(maxLength=5000),
    "another text": lambda d: schema(d, "Job").update(description="Else."),
    "a new error": lambda d: submit(d)["responses"].update({"418": {"description": "x"}}),
}


def test_the_description_breaks_nothing_of_itself() -> None:
    assert breaking_changes(DESCRIBED, DESCRIBED) == []


@pytest.mark.parametrize("name", BREAKING)
def test_what_breaks_a_client_is_found(name: str) -> None:
    change, line = BREAKING[name]
    assert [found for found in changed(change) if line in found], changed(change)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_breaks_no_client_is_let_through(name: str) -> None:
    assert changed(HARMLESS[name]) == []


def test_a_breaking_change_needs_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    notes = tmp_path / api.NOTES
    notes.write_text("")
    monkeypatch.setattr(api, "described", copied)
    assert api.main(["write"], tmp_path) == 0
    assert api.main(["check"], tmp_path) == 0
    after = copied()
    del schema(after, "Job")["properties"]["price"]
    monkeypatch.setattr(api, "described", lambda: after)
    for command in ("check", "write"):
        capsys.readouterr()
        assert api.main([command], tmp_path) == 1
        assert "`POST /api/v1/ai/jobs: answer 201/price: removed`" in capsys.readouterr().err
    lines = breaking_changes(FEW, after)
    notes.write_text("\n".join(f"* `{line}`: it was never right." for line in lines))
    assert api.main(["check"], tmp_path) == 1
    assert "run: make map" in capsys.readouterr().err
    assert [api.main([command], tmp_path) for command in ("write", "check")] == [0, 0]
