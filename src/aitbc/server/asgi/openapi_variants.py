"""Describes a struct with a tag as one schema for each tag, told apart by a discriminator."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

SCHEMAS = "#/components/schemas/"


def types_by_tag(kind: Any) -> Iterator[type]:
    """The types that the fields of a tagged struct may have."""
    for fields in kind.tagged.fields.values():
        yield from fields.values()


def variants(kind: Any, components: Mapping[str, Any]) -> dict[str, Any]:
    """The schemas of a tagged struct: its own, which names the others, and one for each tag."""
    name, whole, tag_field = kind.__name__, components[kind.__name__], kind.tagged.tag
    found: dict[str, Any] = {}
    names: dict[str, str] = {}
    for tag, fields in kind.tagged.fields.items():
        names[tag] = name + tag.capitalize()
        narrowed = {field: {"$ref": SCHEMAS + inner.__name__} for field, inner in fields.items()}
        narrowed[tag_field] = {"type": "string", "enum": [tag]}
        found[names[tag]] = _variant(names[tag], whole, narrowed)
    mapping = {tag: SCHEMAS + variant for tag, variant in names.items()}
    found[name] = {
        "title": name,
        "description": whole.get("description", ""),
        "oneOf": [{"$ref": reference} for reference in mapping.values()],
        "discriminator": {"propertyName": tag_field, "mapping": mapping},
    }
    return found


def _variant(name: str, whole: Any, narrowed: Mapping[str, Any]) -> Any:
    """The schema of one tag: the whole one with other types for some fields, whose texts stay."""
    variant = copy.deepcopy(whole) | {"title": name}
    for field, schema in narrowed.items():
        variant["properties"][field] = schema | {"description": variant["properties"][field].get("description", "")}
    return variant
