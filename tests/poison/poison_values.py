"""Poison for the fields of a JSON body: each field in turn gets what its type or its limits rule out."""

import json
from collections.abc import Iterator
from typing import Any

from tests.poison.cases import Case, Poison, refused
from tests.poison.fields import Field
from tests.poison.operations import Call, Operation, as_json

STAND_IN = "a stand-in for raw JSON"
TOO_LARGE = {"2^63": str(2**63), "-2^63-1": str(-(2**63) - 1), "2^64": str(2**64), "5000 digits": "9" * 5000}
PROTECTED = (
    "id",
    "owner_id",
    "account_id",
    "status",
    "state",
    "balance",
    "role",
    "is_admin",
    "created_at",
    "__class__",
)
CONTROL = {"NUL": "\0", "escape": "\x1b[2J", "direction": "\u202e", "zero width": "\u200b", "byte order mark": "\ufeff"}
FREE = frozenset({"call_agent", "choose_agents", "delegate_agent_run"})
"""Whose budget may be nothing: what costs nothing is done."""
WRONG_MONEY = (
    *(
        "-1",
        "0",
        "-0",
        "1e3",
        "+1",
        " 1",
        "1 ",
        "1,5",
        "0x10",
        ".5",
        "5.",
        "01",
        "1_000",
        "NaN",
        "Infinity",
        "",
        "\uff11",
    ),
    *("0.000000001", "92233720368.54775808", "9" * 25, "1\n"),
)
WRONG_TIMES = (
    *("2030-01-31T12:00:00", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "2030-01-31T23:59:60Z", "2030-01-31"),
    *("2030-02-30T00:00:00Z", "2030-01-31T24:00:00Z", "2030-01-31T12:00:00+99:00", "yesterday", "", "1e9"),
)


def _with(operation: Operation, call: Call, field: Field, value: Any) -> Call:
    return call.saying(as_json(operation.with_field(field, value)))


def _with_raw(operation: Operation, call: Call, field: Field, raw: str) -> Call:
    """With JSON as written: numbers that Python would write otherwise."""
    text = json.dumps(operation.with_field(field, STAND_IN))
    return call.saying(text.replace(json.dumps(STAND_IN), raw).encode())


def nul_and_surrogates_in_text(operation: Operation, call: Call) -> Iterator[Case]:
    """U+0000 and half a pair, wherever text is taken."""
    for field in operation.fields:
        if "string" in field.types:
            start = field.example if isinstance(field.example, str) else ""
            for name, bad in {"NUL": "\0", "high surrogate": "\ud800", "low surrogate": "\udc00"}.items():
                poisoned = _with(operation, call, field, start + bad)
                yield refused(f"{name} in {field.where}", poisoned, 422, code="invalid_text")


def nul_and_surrogates_in_open_json(operation: Operation, call: Call) -> Iterator[Case]:
    """The same deep inside of what takes any JSON, in values and in names of members."""
    for field in operation.fields:
        if field.is_open:
            for name, bad in {"NUL": "\0", "surrogate": "\udfff"}.items():
                for place, value in {"value": {"a": [{"b": bad}]}, "member": {"a": [{bad: 1}]}}.items():
                    poisoned = _with(operation, call, field, value)
                    yield refused(f"{name} as a {place} in {field.where}", poisoned, 422, code="invalid_text")
            for name, raw in TOO_LARGE.items():
                poisoned = _with_raw(operation, call, field, f'{{"a": [{raw}]}}')
                yield refused(f"{name} in {field.where}", poisoned, 422, code="out_of_range")


def text_that_its_limits_refuse(operation: Operation, call: Call) -> Iterator[Case]:
    """Too long, too short, steering, of blanks, or with a line feed at its end, where the description rules that out."""
    for field in operation.fields:
        if "string" not in field.types:
            continue
        start = field.example if isinstance(field.example, str) else "a"
        longest = field.schema.get("maxLength", len(start))
        tries = {"too long": "a" * (longest + 1), "empty": "", "blanks": "   ", "line feed": start + "\n"}
        tries |= {name: start + bad for name, bad in CONTROL.items() if bad != "\0"}
        for name, text in tries.items():
            if field.refuses_text(text):
                yield refused(f"{name} in {field.where}", _with(operation, call, field, text), 422)


def numbers_out_of_range(operation: Operation, call: Call) -> Iterator[Case]:
    """Past 64 bits, and past each limit by one."""
    for field in operation.fields:
        if not field.types & {"integer", "number"}:
            continue
        for name, raw in TOO_LARGE.items():
            poisoned = _with_raw(operation, call, field, raw)
            yield refused(f"{name} in {field.where}", poisoned, 422, code="out_of_range")
        for one in field.choices:
            for limit, step in (("minimum", -1), ("maximum", 1)):
                if limit in one:
                    yield refused(
                        f"past its {limit}: {field.where}", _with(operation, call, field, one[limit] + step), 422
                    )


def numbers_written_wrongly(operation: Operation, call: Call) -> Iterator[Case]:
    """A fraction, an exponent, a text or a truth for a whole number; NaN, Infinity and 1e999 for any."""
    for field in operation.fields:
        if "integer" in field.types:
            for raw in ("1.0", "1e3", "1.5", "-0.5"):
                yield refused(f"{raw} in {field.where}", _with_raw(operation, call, field, raw), 422)
        if field.types & {"integer", "number"}:
            for raw in ('"5"', "true", '"NaN"', '""'):
                if not (raw[0] == '"' and "string" in field.types and not field.refuses_text(json.loads(raw))):
                    yield refused(f"{raw} in {field.where}", _with_raw(operation, call, field, raw), 422)
            for raw in ("01", "+1", "0x10", "1.", ".5", "1_000", "--1"):
                poisoned = _with_raw(operation, call, field, raw)
                yield refused(f"{raw} in {field.where}", poisoned, 400, code="malformed_json")


def not_a_number_anywhere(operation: Operation, call: Call) -> Iterator[Case]:
    """NaN and the infinities in every field: they are no JSON, and 1e999 is no number that can be held."""
    for field in operation.fields:
        for raw in ("NaN", "Infinity", "-Infinity"):
            poisoned = _with_raw(operation, call, field, raw)
            yield refused(f"{raw} in {field.where}", poisoned, 400, code="malformed_json")
        for raw in ("1e999", "-1e999"):
            yield refused(f"{raw} in {field.where}", _with_raw(operation, call, field, raw), 400, 422)


def money_that_is_none(operation: Operation, call: Call) -> Iterator[Case]:
    """Amounts below, at and past their limits, too fine, or not written as a decimal in a string."""
    for field in operation.fields:
        if field.is_money:
            may_be_nothing = field.schema.get("default") == "0" or operation.ident in FREE
            for text in WRONG_MONEY:
                if may_be_nothing and not text.strip("0."):
                    continue
                yield refused(f"money {text!r} in {field.where}", _with(operation, call, field, text), 422)
            for raw in (
                "1",
                "1.0",
                "1.5",
                "1e3",
                "-1",
                "0",
                "true",
                "[]",
                "{}",
                *(["null"] * ("null" not in field.types)),
            ):
                yield refused(f"money {raw} in {field.where}", _with_raw(operation, call, field, raw), 422)


def times_that_are_none(operation: Operation, call: Call) -> Iterator[Case]:
    """Without an offset, outside the calendar, or not a time at all."""
    for field in operation.fields:
        if field.schema.get("format") == "date-time":
            for text in WRONG_TIMES:
                yield refused(f"time {text!r} in {field.where}", _with(operation, call, field, text), 422)


def values_of_another_type(operation: Operation, call: Call) -> Iterator[Case]:
    """Each JSON type where it does not fit, and words that are none of those listed."""
    samples = {"string": "poison", "integer": 7, "boolean": True, "null": None, "array": [], "object": {}}
    for field in operation.fields:
        for kind, value in samples.items():
            if field.types and kind not in field.types and not (kind == "integer" and "number" in field.types):
                yield refused(f"{kind} for {field.where}", _with(operation, call, field, value), 422)
        if any("enum" in one for one in field.choices) and field.refuses_text("poison"):
            yield refused(f"unknown word for {field.where}", _with(operation, call, field, "poison"), 422)


def _code(field: Field) -> str:
    """How a member is refused: the input of a job by its kind."""
    is_of_kind = field.pointer[:1] == ("input",) or field.pointer[:2] == ("job", "input")  # its kind reads it
    return "invalid_input" if is_of_kind else "invalid"


def members_that_do_not_belong(operation: Operation, call: Call) -> Iterator[Case]:
    """Protected and unknown members in every object that lists its own."""
    for field in operation.fields:
        properties = field.schema.get("properties")
        if properties is None:
            continue
        value = operation.with_field(field, field.example)
        inner = _inside(value, field)
        for name in PROTECTED:
            if name not in properties:
                poisoned = operation.with_field(field, {**inner, name: "poison"})
                yield refused(f"{name} in /{field.where}", call.saying(as_json(poisoned)), 422, code=_code(field))


def members_that_are_missing(operation: Operation, call: Call) -> Iterator[Case]:
    """Each required member left out."""
    for field in operation.fields:
        required = field.schema.get("required", ())
        inner = _inside(operation.with_field(field, field.example), field) if required else {}
        for name in required:
            lacking = {member: value for member, value in inner.items() if member != name}
            poisoned = operation.with_field(field, lacking)
            yield refused(f"/{field.where} without {name}", call.saying(as_json(poisoned)), 422, code=_code(field))


def too_many_items(operation: Operation, call: Call) -> Iterator[Case]:
    """One item or one member more than allowed, or none where one is needed."""
    for field in operation.fields:
        schema = field.schema
        if "maxItems" in schema:
            item = field.example[0] if field.example else None
            many = [item] * (schema["maxItems"] + 1)
            yield refused(f"too many items in {field.where}", _with(operation, call, field, many), 422)
        if schema.get("minItems"):
            yield refused(f"no item in {field.where}", _with(operation, call, field, []), 422)
        if "maxProperties" in schema:
            members = {f"a{number}": 1 for number in range(schema["maxProperties"] + 1)}
            yield refused(f"too many members in {field.where}", _with(operation, call, field, members), 422)


def _inside(value: Any, field: Field) -> dict[str, Any]:
    for step in field.pointer:
        value = value[step]
    assert isinstance(value, dict)
    return value


VALUES: tuple[Poison, ...] = (
    nul_and_surrogates_in_text,
    nul_and_surrogates_in_open_json,
    text_that_its_limits_refuse,
    numbers_out_of_range,
    numbers_written_wrongly,
    not_a_number_anywhere,
    money_that_is_none,
    times_that_are_none,
    values_of_another_type,
    members_that_do_not_belong,
    members_that_are_missing,
    too_many_items,
)
