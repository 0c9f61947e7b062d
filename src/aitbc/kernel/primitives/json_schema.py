"""JSON schemas of Python types, for OpenAPI: patterns in ECMA-262 syntax, times with `format: date-time`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import inspect

DATE_TIME = {"format": "date-time", "examples": ["2030-01-31T12:00:00Z"]}
"""What the schema of a time says besides `type: string`."""


def schema_of(kind: Any) -> dict[str, Any]:
    """The schema of one type, with the named schemas it refers to under `$defs`."""
    (schema,), named = schemas_of([kind], ref_template="#/$defs/{name}")
    return {**schema, "$defs": named} if named else schema


def schemas_of(kinds: Sequence[Any], *, ref_template: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The schema of each type, and the named schemas they refer to."""
    schemas, named = msgspec.json.schema_components(kinds, ref_template=ref_template)
    text = json.dumps([list(schemas), named])
    found, named = json.loads(text.replace(r'\\Z"', '$"'))  # the end of the text: `\\Z` in Python, `$` in ECMA-262
    seen: set[str] = set()
    for schema, kind in zip(found, inspect.multi_type_info(kinds), strict=True):
        _mark_times(kind, schema, named, seen)
    return found, named


def _mark_times(kind: inspect.Type, schema: dict[str, Any], named: Mapping[str, Any], seen: set[str]) -> None:
    """Mark each string that is a time, walking the type and its schema side by side."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        if name in seen:
            return
        seen.add(name)
        schema = named[name]
    if isinstance(kind, inspect.DateTimeType):
        schema.update({**DATE_TIME, **schema})
    for inner, part in _inner_types(kind, schema):
        _mark_times(inner, part, named, seen)


def _inner_types(kind: inspect.Type, schema: Mapping[str, Any]) -> Iterator[tuple[inspect.Type, dict[str, Any]]]:
    """The inner types of a type, each with its part of the schema."""
    match kind:
        case inspect.StructType():
            for field in kind.fields:
                yield field.type, schema["properties"][field.encode_name]
        case inspect.ListType() | inspect.VarTupleType() if "items" in schema:
            yield kind.item_type, schema["items"]
        case inspect.TupleType():
            yield from zip(kind.item_types, schema.get("prefixItems", ()), strict=False)
        case inspect.DictType() if isinstance(schema.get("additionalProperties"), dict):
            yield kind.value_type, schema["additionalProperties"]
        case inspect.UnionType():
            yield from _alternatives(kind, schema)


def _alternatives(kind: inspect.UnionType, schema: Mapping[str, Any]) -> Iterator[tuple[inspect.Type, dict[str, Any]]]:
    """The alternatives of a union with their schemas: plain types in order, then the structs, grouped if several."""
    structs: list[inspect.Type] = []
    plain: list[inspect.Type] = []
    for one in kind.types:
        bare = one.type if isinstance(one, inspect.Metadata) else one
        if not isinstance(bare, inspect.NoneType):
            (structs if isinstance(bare, inspect.StructType) else plain).append(one)
    options = list(schema.get("anyOf", ()))
    yield from zip(plain, options, strict=False)
    for option in [schema] if "discriminator" in schema else options[len(plain) :]:
        yield from zip(structs, option.get("anyOf", [option]) if structs else (), strict=False)
        structs = []  # the option after them is null
