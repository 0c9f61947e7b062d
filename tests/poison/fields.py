"""Fields of a JSON Schema, found one by one, and values put in their places."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aitbc.server.asgi.openapi_examples import example_of

Pointer = tuple[str | int, ...]
DEPTH_MAX = 6


@dataclass(frozen=True)
class Field:
    """One value that a caller sends: a parameter, or a field of a body."""

    pointer: Pointer
    """Names of members and numbers of items on the way to it."""
    told: Mapping[str, Any]
    required: bool
    components: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its own name, the last on the way."""
        return str(self.pointer[-1])

    @property
    def where(self) -> str:
        """The way to it as one word."""
        return "/".join(map(str, self.pointer))

    @cached_property
    def choices(self) -> list[Mapping[str, Any]]:
        """The schemas of which its value fits one; of those that a tag tells apart the first."""
        schema = resolved(self.told, self.components)
        if "discriminator" in schema:
            return [resolved(schema.get("oneOf", schema.get("anyOf"))[0], self.components)]
        return [resolved(one, self.components) for one in schema.get("anyOf", schema.get("oneOf", [schema]))]

    @cached_property
    def schema(self) -> Mapping[str, Any]:
        """The first schema that is not that of null."""
        return next((one for one in self.choices if one.get("type") != "null"), {})

    @cached_property
    def types(self) -> frozenset[str]:
        """The JSON types that fit; none where anything does."""
        found = set()
        for one in self.choices:
            found |= {one["type"]} if "type" in one else {_type_of(value) for value in one.get("enum", ())}
        return frozenset(found)

    @property
    def is_open(self) -> bool:
        """Whether it takes any JSON, or an object of any members."""
        schema = self.schema
        return not self.types or (
            self.types == {"object"} and not schema.get("properties") and "additionalProperties" not in schema
        )

    @property
    def is_text(self) -> bool:
        """Whether it takes text that is not one of a few words."""
        return "string" in self.types and not any("enum" in one for one in self.choices)

    @property
    def is_money(self) -> bool:
        """Whether it is an amount: a decimal in a string."""
        examples = self.schema.get("examples", ())
        return self.is_text and any(re.fullmatch(r"[0-9]+\.[0-9]+", str(example)) for example in examples)

    @property
    def example(self) -> Any:
        """A value that fits."""
        return example_of(self.schema, self.components)

    def refuses_text(self, text: str) -> bool:
        """Whether its lengths, its pattern or its words rule the text out."""
        return not any(_fits_text(one, text) for one in self.choices)


def _fits_text(schema: Mapping[str, Any], text: str) -> bool:
    if "enum" in schema:
        return text in schema["enum"]
    if schema.get("type") != "string":
        return False
    pattern = re.sub(r"\$\Z", r"\\Z", schema.get("pattern", ""))  # what ECMA-262 means by `$`
    longest = schema.get("maxLength", len(text))
    return bool(schema.get("minLength", 0) <= len(text) <= longest and re.search(pattern, text))


def _type_of(value: Any) -> str:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    return names[type(value)]


def resolved(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema itself, where it only names another."""
    if "$ref" in schema:
        return {**components[schema["$ref"].rsplit("/", 1)[1]], **schema}
    return schema


def fields_of(
    schema: Mapping[str, Any], components: Mapping[str, Any], pointer: Pointer = (), *, required: bool = True
) -> Iterator[Field]:
    """The value itself and everything in it."""
    field = Field(pointer, schema, required, components)
    yield field
    if len(pointer) >= DEPTH_MAX:
        return
    for one in field.choices:
        for name, inner in one.get("properties", {}).items():
            yield from fields_of(inner, components, (*pointer, name), required=name in one.get("required", ()))
        if isinstance(one.get("additionalProperties"), Mapping):
            yield from fields_of(one["additionalProperties"], components, (*pointer, _a_member(one)), required=False)
        if isinstance(one.get("items"), Mapping):
            yield from fields_of(one["items"], components, (*pointer, 0), required=False)


def _a_member(schema: Mapping[str, Any]) -> str:
    return str(schema.get("propertyNames", {}).get("examples", ["tokens"])[0])


def put(base: Any, pointer: Pointer, value: Any, schema: Mapping[str, Any], components: Mapping[str, Any]) -> Any:
    """The base with this value in one place; what is missing on the way to it is made up."""
    if not pointer:
        return value
    field = Field((), schema, required=True, components=components)
    step, rest = pointer[0], pointer[1:]
    if isinstance(step, int):
        whole = next(one for one in field.choices if "items" in one)
        items = base if isinstance(base, list) and base else [_filling(whole["items"], components)]
        return [put(items[0], rest, value, whole["items"], components), *items[1:]]
    whole = next(
        one
        for one in field.choices
        if step in one.get("properties", {}) or isinstance(one.get("additionalProperties"), Mapping)
    )
    inner = whole.get("properties", {}).get(step) or whole["additionalProperties"]
    members = base if isinstance(base, dict) else _filling(whole, components)
    before = members.get(step)
    return {
        **members,
        step: put(_filling(inner, components) if before is None else before, rest, value, inner, components),
    }


def _filling(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(example_of(schema, components)))
