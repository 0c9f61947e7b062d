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
        variant = copy.deepcopy(whole) | {"title": names[tag]}
        properties = variant["properties"]
        properties[tag_field] = {
            "type": "string",
            "enum": [tag],
            "description": properties[tag_field].get("description", ""),
        }
        for field, inner in fields.items():
            properties[field] = {
                "$ref": SCHEMAS + inner.__name__,
                "description": properties[field].get("description", ""),
            }
        found[names[tag]] = variant
    mapping = {tag: SCHEMAS + variant for tag, variant in names.items()}
    found[name] = {
        "title": name,
        "description": whole.get("description", ""),
        "oneOf": [{"$ref": reference} for reference in mapping.values()],
        "discriminator": {"propertyName": tag_field, "mapping": mapping},
    }
    return found
