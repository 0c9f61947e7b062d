"""JSON schemas of Python types, for OpenAPI.

Patterns are in ECMA-262 syntax, times have `format: date-time`, and fields of structs the docstrings under them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_origin

import msgspec
from msgspec import Meta, inspect

from aitbc.kernel.primitives.field_texts import FieldText, field_texts

DATE_TIME = {"format": "date-time", "examples": ["2030-01-31T12:00:00Z"]}
"""What the schema of a time says besides `type: string`."""


class Tagged(NamedTuple):
    """What a struct has as `tagged: ClassVar[Tagged]` where a tag decides the types of other fields.

    OpenAPI describes it as one schema for each tag. What decodes it checks those fields itself.
    """

    tag: str
    """The field with the tag."""
    fields: Mapping[str, Mapping[str, type]]
    """By tag: the other fields' types."""


def one_of(values: Iterable[str]) -> Meta:
    """Metadata of a text that is one of a closed set. It describes what is answered; nothing is checked."""
    return Meta(extra_json_schema={"enum": [str(value) for value in values]})


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
        _describe(kind, schema, named, seen)
    return found, named


def _describe(kind: inspect.Type, schema: dict[str, Any], named: Mapping[str, Any], seen: set[str]) -> None:
    """Describe each field and mark each string that is a time, walking the type and its schema side by side."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        if name in seen:
            return
        seen.add(name)
        schema = named[name]
    if "type" not in schema and schema.get("enum") and all(isinstance(value, str) for value in schema["enum"]):
        schema["type"] = "string"
    if isinstance(kind, inspect.DateTimeType):
        schema.update({**DATE_TIME, **schema})
    for inner, part in _inner_types(kind, schema):
        _describe(inner, part, named, seen)
    if isinstance(kind, inspect.StructType):
        texts = field_texts(get_origin(kind.cls) or kind.cls)
        for field in kind.fields:
            if (text := texts.get(field.name)) is not None:
                _add_text(schema["properties"][field.encode_name], text)
        if kind.tag_field is not None:
            tag = schema["properties"][kind.tag_field]
            schema["properties"][kind.tag_field] = {**tag, "description": "Which form this is.", "examples": [kind.tag]}


def _add_text(schema: dict[str, Any], text: FieldText) -> None:
    """Add what a field means, and an example where it has none of its own and no default."""
    schema["description"] = text.description
    option = next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)
    if text.example is None or "default" in schema or "$ref" in option or "enum" in option:
        return
    is_text = option.get("type") == "string"
    option["examples"] = [text.example if is_text else json.loads(text.example)]


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
