"""Poison for the target of a request: its path and its query."""

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

from aitbc.kernel.primitives.pagination import encode_cursor
from tests.poison.cases import Case, Poison, refused
from tests.poison.operations import Call, Operation

UNREADABLE = {
    "NUL": "%00",
    "NUL inside": "a%00b",
    "bad UTF-8": "%ff",
    "overlong UTF-8": "%c0%af",
    "surrogate": "%ed%a0%80",
    "half an escape": "%4",
    "no escape": "%zz",
    "line feed": "%0a",
    "delete": "%7f",
}
UNKNOWN = frozenset({404, 409, 422})
"""What something that nobody has may be answered with: a lease, for one, is lost."""
NUMBERS = ("-1", "9223372036854775808", "-9223372036854775809", "18446744073709551616", "9" * 5000, "1.0", "1e3", "+5")
WRONG_LIMITS = (
    "-1",
    "0",
    "1001",
    "1" + "0" * 20,
    "9223372036854775808",
    "1.0",
    "5.0",
    "+5",
    "05",
    "1e1",
    "٣",
    "",
    " ",
    "true",
)
WRONG_CURSORS = ("AAAA", "a" * 600, "a" * 7000, "====", "%2e%2e", "null", "0", "-1", "eyJhIjoxfQ", "é", "' OR 1=1 --")
WRONG_TIMES = (
    "2030-01-31T12:00:00",
    "0000-01-01T00:00:00Z",
    "10000-01-01T00:00:00Z",
    "2030-02-30T00:00:00Z",
    "5",
    "",
    "now",
)


def unreadable_paths(operation: Operation, call: Call) -> Iterator[Case]:
    """Escapes that give no text, in every place of the path and after its end."""
    for name, bad in UNREADABLE.items():
        for place in call.places:
            yield refused(f"{name} in {{{place}}}", call.placed(place, bad), 400, code="malformed_path")
        behind = replace(call, target=call.path.encode() + bad.encode())
        yield refused(f"{name} after the path", behind, 400, code="malformed_path")


def ids_that_are_none(operation: Operation, call: Call) -> Iterator[Case]:
    """Numbers past 64 bits, UUIDs in other spellings, too long, too short, of another kind."""
    uuid = "0190163d-8694-739b-aea5-966c26f8ad91"
    for place, right in call.places.items():
        others = {uuid, uuid.upper(), f"{{{uuid}}}", f"urn:uuid:{uuid}", uuid[:-1], uuid.replace("-", ""), "0" * 32}
        others |= {
            right.upper(),
            right + "0",
            right[:-1],
            f"x{right}",
            right.replace("_", "-"),
            "null",
            "undefined",
            "*",
        }
        others |= {
            *NUMBERS,
            "a" * 5000,
            "é",
            "\uff11",
            "'",
            '"',
            "' OR 1=1 --",
            "$(id)",
            "{{7*7}}",
            "<script>",
            "%s%n",
            "job_",
        }
        for value in sorted(others - {right}):
            poisoned = call.placed(place, quote(value, safe=""))
            yield refused(f"{value[:40]!r} for {{{place}}}", poisoned, *(UNKNOWN & operation.statuses))


def paths_spelled_otherwise(operation: Operation, call: Call) -> Iterator[Case]:
    """Each path has one spelling; nothing leads out of it."""
    path, bare = call.path, replace(call, body=None).headed("content-type")
    first, _, rest = path[1:].partition("/")
    spelled = {
        "a slash at the end": path + "/",
        "two slashes": "/" + path,
        "two slashes inside": f"/{first}//{rest}",
        "a dot": "/." + path,
        "a dot at the end": path + "/.",
        "two dots": f"/x/..{path}",
        "escaped dots": f"/x/%2e%2e{path}",
        "an escaped slash": path + "%2f",
        "an escaped letter": f"/%{ord(first[0]):x}{path[2:]}",
        "escaped twice": path + "%252f",
        "a backslash": path + "%5c",
        "parameters": path + ";a=b",
        "more": path + "/poison/poison",
        "upper case": "/" + first.upper() + path[1 + len(first) :],
    }
    if operation.has_named_sibling:  # there each of these is a name
        for name in ("an escaped slash", "escaped twice", "a backslash", "parameters"):
            del spelled[name]
    # Behind a name at the end of a path they are a name that nobody has, or a request without the body that it needs.
    bodiless = (422,) if operation.takes_json and operation.path.endswith("}") else ()
    for name, target in spelled.items():
        yield refused(name, replace(bare, target=target.encode()), 404, *bodiless, of_the_wall=True)
    yield refused(
        "a target that is too long", replace(bare, target=f"{path}?{'a' * 9000}".encode()), 414, of_the_wall=True
    )
    for name, raw in {"raw UTF-8": b"/\xc3\xa9", "raw bytes": b"/\xff", "no slash": b"x", "an asterisk": b"*"}.items():
        yield refused(name, replace(bare, target=raw), 400, 404, of_the_wall=True)


def unreadable_queries(operation: Operation, call: Call) -> Iterator[Case]:
    """The same escapes in names and values of the query, known and unknown."""
    names = [field.name for field in operation.parameters("query")]
    for name, bad in UNREADABLE.items():
        for parameter in names:
            poisoned = call.asked(parameter, bad)
            yield refused(f"{name} in ?{parameter}", poisoned, 400, code="malformed_path")
        yield refused(f"{name} as a parameter", call.asked(bad, "1"), 400, code="malformed_path")


def parameters_that_do_not_belong(operation: Operation, call: Call) -> Iterator[Case]:
    """Unknown ones, and a known one twice."""
    for name in ("poison", "owner_id", "api_key", "limit ", "Limit", "limit[]", "__proto__", ""):
        yield refused(f"?{name!r}", call.asked(quote(name), "1"), 422, code="unknown_parameter")
    for field in operation.parameters("query"):
        twice = call.asked(field.name, "1", "2")
        if "array" not in field.types:
            yield refused(f"?{field.name} twice", twice, 422, code="unknown_parameter")


def parameters_of_another_form(operation: Operation, call: Call) -> Iterator[Case]:
    """Limits past their ends, cursors that nobody gave, unknown words, times without an offset, texts too long."""
    for field in operation.parameters("query"):
        for value in _wrong_for(field.name, field.types, field.schema):
            poisoned = call.asked(field.name, quote(value, safe=""))
            yield refused(f"?{field.name}={value[:40]!r}", poisoned, 422)
        if field.required:
            yield refused(f"no ?{field.name}", call.asked(field.name), 422)


def _wrong_for(name: str, types: frozenset[str], schema: object) -> list[str]:
    assert isinstance(schema, dict)
    wrong: list[str] = []
    if "integer" in types:
        wrong += WRONG_LIMITS
    if "number" in types:
        wrong += ["NaN", "Infinity", "-Infinity", "1e999", "", "abc", "0x10", "1_0", str(schema.get("minimum", 0) - 1)]
    if "boolean" in types:
        wrong += ["1", "0", "yes", "True", ""]
    if name == "cursor":
        wrong += WRONG_CURSORS
    if schema.get("format") == "date-time":
        wrong += WRONG_TIMES
    if "enum" in schema:
        wrong += ["poison", "", *(word.upper() for word in schema["enum"])]
    if "maxLength" in schema:
        wrong.append("a" * (schema["maxLength"] + 1))
    if schema.get("minLength"):
        wrong.append("")
    return wrong


def cursors_of_other_lists(operation: Operation, call: Call) -> Iterator[Case]:
    """A cursor that is right, for another list; and one with a letter changed."""
    if not any(field.name == "cursor" for field in operation.parameters("query")):
        return
    foreign = encode_cursor("poison", "poison")
    for name, cursor in {"of another list": foreign, "edited": foreign[:-1] + "A", "cut": foreign[:-4]}.items():
        yield refused(f"a cursor {name}", call.asked("cursor", cursor), 422)


TARGETS: tuple[Poison, ...] = (
    unreadable_paths,
    ids_that_are_none,
    paths_spelled_otherwise,
    unreadable_queries,
    parameters_that_do_not_belong,
    parameters_of_another_form,
    cursors_of_other_lists,
)
