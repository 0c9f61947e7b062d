"""The form of a kind of work, made from the schema of its input, and the input that a sent form stands for.

Nothing is known here of any kind: what the schema says decides which field is shown. The API checks what comes of it.
"""

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from aitbc.kernel.primitives.errors import FieldError, Invalid

PREFIX = "in:"
LONG_TEXT = 256
"""A text that may be longer than this is typed into several lines."""


class Field(Struct, frozen=True, kw_only=True):
    """One field of the form."""

    name: str
    label: str
    form: str
    """`text`, `long`, `number`, `lines` (a list of texts), `choice`, `check`, `file`, `talk` (messages), or `json`."""
    required: bool
    hint: str = ""
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    step: str = "any"
    value: str = ""
    """What stands in it at first."""
    example: str = ""
    """What is shown while nothing stands in it."""

    @property
    def is_extra(self) -> bool:
        """Whether most people leave it alone."""
        return not self.required


def fields_of(schema: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> list[Field]:
    """The fields for an input schema, filled with an earlier input where there is one; required ones first."""
    definitions = schema.get("$defs", {})
    whole = _resolved(schema, definitions)
    required = set(whole.get("required", ()))
    found = [
        _field(name, _resolved(one, definitions), definitions, required=name in required, given=(given or {}).get(name))
        for name, one in whole.get("properties", {}).items()
    ]
    return sorted(found, key=lambda field: field.is_extra)


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema without references, and without the null of what may be left out."""
    if "$ref" in schema:
        return {**definitions[schema["$ref"].rpartition("/")[2]], **{k: v for k, v in schema.items() if k != "$ref"}}
    choices = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    if len(choices) == 1:
        return {**_resolved(choices[0], definitions), **{k: v for k, v in schema.items() if k != "anyOf"}}
    return schema


def _field(
    name: str, schema: Mapping[str, Any], definitions: Mapping[str, Any], *, required: bool, given: Any
) -> Field:
    form = _form_of(schema, definitions)
    start = given if given is not None else schema.get("default")
    examples = schema.get("examples") or schema.get("items", {}).get("examples") or [""]
    return Field(
        name=name,
        label=name.replace("_", " ").capitalize(),
        form=form,
        required=required,
        hint=schema.get("description", ""),
        choices=tuple(schema.get("enum", ())),
        least=schema.get("minimum"),
        most=schema.get("maximum"),
        step="1" if schema.get("type") == "integer" else "any",
        value=_shown(start, form),
        example=_shown(examples[0], form) if form in ("text", "long", "lines") else "",
    )


def _form_of(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if any("$ref" in one for one in schema.get("anyOf", ())):
        return "file"
    if schema.get("enum"):
        return "choice"
    match schema.get("type"):
        case "string":
            return "long" if schema.get("maxLength", 0) > LONG_TEXT else "text"
        case "integer" | "number":
            return "number"
        case "boolean":
            return "check"
        case "array":
            items = _resolved(schema.get("items", {}), definitions)
            if items.get("type") == "string":
                return "lines"
            if {"role", "content"} <= set(items.get("properties", {})):
                return "talk"
    return "json"


def _shown(value: Any, form: str) -> str:
    if value is None or value == []:
        return ""
    if form == "lines":
        return "\n".join(value) if isinstance(value, list) else str(value)
    if form in ("json", "talk", "file"):
        return json.dumps(value, ensure_ascii=False, indent=2)
    return str(value)


def talk_of(field: Field) -> tuple[str, str, str]:
    """The messages of an earlier input: the system's, the last one, and the ones between them as JSON."""
    messages = json.loads(field.value) if field.value else []
    system = messages.pop(0)["content"] if messages and messages[0]["role"] == "system" else ""
    last = messages.pop()["content"] if messages and messages[-1]["role"] == "user" else ""
    return system, last, json.dumps(messages, ensure_ascii=False, indent=2) if messages else ""


def input_of(fields: list[Field], sent: Mapping[str, str], uploaded: str | None) -> dict[str, Any]:
    """The input that a form stands for; `uploaded` is the artifact that its file became. Raises `Invalid`."""
    found: dict[str, Any] = {}
    faults: list[FieldError] = []
    for field in fields:
        text = sent.get(PREFIX + field.name, "").replace("\r\n", "\n")
        try:
            value = _value(field, text, sent, uploaded)
        except ValueError as fault:
            faults.append(FieldError(f"/input/{field.name}", str(fault)))
            continue
        if value is not None:
            found[field.name] = value
    if faults:
        raise Invalid(fields=tuple(faults))
    return found


def _value(field: Field, text: str, sent: Mapping[str, str], uploaded: str | None) -> Any:
    """The value of one field; none where it was left out."""
    match field.form:
        case "file":
            kept = sent.get(f"{PREFIX}{field.name}:kept", "")
            return {"artifact": uploaded} if uploaded is not None else json.loads(kept) if kept else None
        case "talk":
            return _messages(field.name, text, sent)
        case "check":
            return bool(text)
        case "lines":
            return [line for line in text.split("\n") if line.strip()] or None
    if not text.strip():
        return None
    match field.form:
        case "number":
            return _number(text.strip(), whole=field.step == "1")
        case "json":
            return _json(text)
    return text


def _messages(name: str, text: str, sent: Mapping[str, str]) -> list[Any] | None:
    earlier = sent.get(f"{PREFIX}{name}:earlier", "").strip()
    system = sent.get(f"{PREFIX}{name}:system", "").strip()
    between = _json(earlier) if earlier else []
    if not isinstance(between, list):
        raise ValueError("Earlier messages are a JSON list")
    found = [{"role": "system", "content": system}] if system else []
    found += between
    if text.strip():
        found.append({"role": "user", "content": text})
    return found or None


def _number(text: str, *, whole: bool) -> int | float:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        raise ValueError("Expected a whole number" if whole else "Expected a number") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError("Expected JSON") from None
