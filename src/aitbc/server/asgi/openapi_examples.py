"""Generates example values from JSON schemas, for the OpenAPI document."""

import re
from collections.abc import Mapping
from typing import Any

DEPTH_MAX = 8
_FORMATS = {
    "date-time": "2030-01-31T12:00:00Z",
    "date": "2030-01-31",
    "uuid": "0190163d-8694-739b-aea5-966c26f8ad91",
    "duration": "PT30S",
    "byte": "AAEC",
    "decimal": "0.05",
}
_TEXTS = (
    "text",
    "0.05",
    "text_01k0000000000000000000000a",
    "sha256:" + "0" * 64,
    "0" * 64,
    "A" * 43,
    "A" * 86,
    "1",
    "a",
)
"""The first of them that fits is the example of a text."""


def example_of(schema: Mapping[str, Any], components: Mapping[str, Any], *, depth: int = 0) -> Any:
    """A value that fits the schema: its own example where it has one, else the least that its limits allow."""
    if "$ref" in schema:
        schema = {**components[schema["$ref"].rsplit("/", 1)[1]], **{k: v for k, v in schema.items() if k != "$ref"}}
    for key in ("example", "const"):
        if key in schema:
            return schema[key]
    if schema.get("examples"):
        return schema["examples"][0]
    if schema.get("enum"):
        return schema["enum"][0]
    if schema.get("default") not in (None, [], {}):
        return schema["default"]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            kinds = [one for one in schema[key] if one.get("type") != "null"]
            return example_of(kinds[0], components, depth=depth) if kinds and depth < DEPTH_MAX else None
    return _by_type(schema, components, depth)


def _by_type(schema: Mapping[str, Any], components: Mapping[str, Any], depth: int) -> Any:
    match schema.get("type"):
        case "object":
            return _an_object(schema, components, depth)
        case "array":
            return _an_array(schema, components, depth)
        case "string":
            return _a_string(schema)
        case "integer":
            return _a_number(schema)
        case "number":
            return float(_a_number(schema)) if "minimum" in schema else 1.5
        case "boolean":
            return False
    return None if schema.get("type") == "null" else {}


def _an_object(schema: Mapping[str, Any], components: Mapping[str, Any], depth: int) -> dict[str, Any]:
    if depth >= DEPTH_MAX:
        return {}
    required = schema.get("required", [])
    shown = {
        name: one
        for name, one in schema.get("properties", {}).items()
        if name in required or (depth < 2 and not _is_nullable(one)) or "examples" in one
    }
    return {name: example_of(one, components, depth=depth + 1) for name, one in shown.items()}


def _is_nullable(schema: Mapping[str, Any]) -> bool:
    return any(one.get("type") == "null" for one in schema.get("anyOf", ()))


def _an_array(schema: Mapping[str, Any], components: Mapping[str, Any], depth: int) -> list[Any]:
    if "prefixItems" in schema:
        return [example_of(one, components, depth=depth + 1) for one in schema["prefixItems"]]
    if depth >= DEPTH_MAX or not isinstance(schema.get("items"), Mapping):
        return []
    return [example_of(schema["items"], components, depth=depth + 1)] * max(1, schema.get("minItems", 1))


def _a_string(schema: Mapping[str, Any]) -> str:
    if "format" in schema:
        return _FORMATS.get(schema["format"], "text")
    for text in _TEXTS:
        fits = schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", 10_000)
        if fits and re.search(schema.get("pattern", ""), text):
            return text
    if "pattern" in schema:
        return "text"
    return "x" * schema.get("minLength", 1)  # type: ignore[no-any-return]


def _a_number(schema: Mapping[str, Any]) -> int:
    least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1 if "exclusiveMinimum" in schema else 1)
    most = schema.get("maximum", schema.get("exclusiveMaximum", least + 1))
    return int(min(max(1, least), most)) if least <= most else int(least)
