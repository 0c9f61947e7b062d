"""What breaks a client between two OpenAPI documents of this API.

A client may send what the older document allows, and reads what it promises. A request must therefore allow at least as
much as before, an answer promise at least as much. New fields of answers and new codes of errors break nothing, and new
values of a closed set in an answer neither: docs/versioning.md asks clients to expect them.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

MINIMA, MAXIMA = (
    ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"),
    ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"),
)
Document = Mapping[str, Any]


def breaking_changes(before: Document, after: Document) -> list[str]:
    """Each breaking change in one line, which names operation and place."""
    found = []
    for path, methods in before["paths"].items():
        for method, old in methods.items():
            name, new = f"{method.upper()} {path}", after["paths"].get(path, {}).get(method)
            lines = ["removed"] if new is None else _Comparison(before, after).operation(old, new)
            found += [f"{name}: {line}" for line in lines]
    return found


class _Place(NamedTuple):
    """Where two schemas are compared."""

    name: str
    sent: bool
    """Whether clients send it; they read it otherwise."""

    def inner(self, name: str) -> "_Place":
        return _Place(f"{self.name}/{name}", self.sent)


class _Comparison:
    """Compares one operation of both documents."""

    def __init__(self, before: Document, after: Document) -> None:
        self._before = before
        self._after = after
        self._seen: set[tuple[str, str, bool]] = set()

    def operation(self, old: Any, new: Any) -> Iterator[str]:
        """What breaks its callers."""
        if old["operationId"] != new["operationId"]:
            yield f"its id is {new['operationId']} instead of {old['operationId']}"
        if not old.get("security") and new.get("security"):
            yield "it needs a key"
        if old.get("x-permission") != new.get("x-permission"):
            yield f"it needs {new.get('x-permission')} instead of {old.get('x-permission')}"
        yield from self._parameters(old, new)
        yield from self._body(old.get("requestBody"), new.get("requestBody"))
        for status, answer in old["responses"].items():
            if status.startswith("2"):
                if status not in new["responses"]:
                    yield f"it no longer answers {status}"
                else:
                    yield from self._contents(answer, new["responses"][status], _Place(f"answer {status}", sent=False))

    def _parameters(self, old: Any, new: Any) -> Iterator[str]:
        known = {(one["in"], one["name"]): one for one in old.get("parameters", ())}
        offered = {(one["in"], one["name"]): one for one in new.get("parameters", ())}
        for key, parameter in offered.items():
            if parameter["required"] and not known.get(key, {"required": False})["required"]:
                yield f"the {key[0]} parameter {key[1]} is required"
        for key, parameter in known.items():
            if key not in offered:
                yield f"the {key[0]} parameter {key[1]} is removed"
            else:
                place = _Place(f"{key[0]} parameter {key[1]}", sent=True)
                yield from self._schema(parameter["schema"], offered[key]["schema"], place)

    def _body(self, old: Any, new: Any) -> Iterator[str]:
        if new is not None and new["required"] and not (old or {}).get("required"):
            yield "a body is required"
        if old is not None and new is None:
            yield "it takes no body"
        elif old is not None:
            yield from self._contents(old, new, _Place("body", sent=True))

    def _contents(self, old: Any, new: Any, place: _Place) -> Iterator[str]:
        for media_type, content in old.get("content", {}).items():
            if media_type not in new.get("content", {}):
                yield f"{place.name}: no longer {media_type}"
            else:
                yield from self._schema(content["schema"], new["content"][media_type]["schema"], place)

    def _schema(self, old: Any, new: Any, place: _Place) -> Iterator[str]:
        if "$ref" in old and "$ref" in new:
            pair = (old["$ref"], new["$ref"], place.sent)
            if pair in self._seen:
                return
            self._seen.add(pair)
        old, new = _resolved(old, self._before), _resolved(new, self._after)
        yield from self._types(old, new, place)
        yield from _limits(old, new, place) if place.sent else ()
        yield from self._properties(old, new, place)
        for key in ("items", "additionalProperties"):
            if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
                yield from self._schema(old[key], new[key], place.inner("*"))
        if (
            old.get("additionalProperties") != new.get("additionalProperties")
            and new.get("additionalProperties") is False
        ):
            yield f"{place.name}: takes no other properties" if place.sent else f"{place.name}: has no other properties"

    def _types(self, old: Any, new: Any, place: _Place) -> Iterator[str]:
        before, after = self._options(old, self._before), self._options(new, self._after)
        narrower, wider = (after, before) if not place.sent else (before, after)
        lost = narrower.keys() - wider.keys()
        if lost and "any" not in wider:
            yield f"{place.name}: {'no longer takes' if place.sent else 'may be'} {', '.join(sorted(lost))}"
        for name in sorted(before.keys() & after.keys()):
            if before[name] is not old or after[name] is not new:
                yield from self._schema(before[name], after[name], place)
        if place.sent and "enum" in new:
            gone = sorted(map(str, set(old["enum"]) - set(new["enum"]))) if "enum" in old else ["any other value"]
            yield from [f"{place.name}: no longer takes {value}" for value in gone]

    def _options(self, schema: Any, document: Document) -> dict[str, Any]:
        """The alternatives of a schema, by type; by tag or name where there are several objects."""
        found: dict[str, Any] = {}
        options = schema.get("anyOf") or schema.get("oneOf") or [schema]
        for option in options:
            solved = _resolved(option, document)
            if solved is not schema and (solved.get("anyOf") or solved.get("oneOf")):
                found |= self._options(solved, document)
                continue
            kind = solved.get("type", "string" if "enum" in solved else "any")
            many = kind == "object" and len(options) > 2
            found[f"object {solved.get('title', option.get('$ref', ''))}" if many else str(kind)] = solved
        return found

    def _properties(self, old: Any, new: Any, place: _Place) -> Iterator[str]:
        known, offered = old.get("properties", {}), new.get("properties", {})
        required, now_required = set(old.get("required", ())), set(new.get("required", ()))
        for name in sorted(known.keys() - offered.keys()):
            yield f"{place.name}/{name}: removed"
        for name in sorted(now_required - required) if place.sent else ():
            yield f"{place.name}/{name}: required"
        for name in sorted((required - now_required) & offered.keys()) if not place.sent else ():
            yield f"{place.name}/{name}: may be left out"
        for name in sorted(known.keys() & offered.keys()):
            yield from self._schema(known[name], offered[name], place.inner(name))


def _resolved(schema: Any, document: Document) -> Any:
    """A schema, or the named one that it refers to."""
    if "$ref" not in schema:
        return schema
    return document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]


def _limits(old: Any, new: Any, place: _Place) -> Iterator[str]:
    """What values are refused that were taken."""
    for name in MINIMA:
        if name in new and (name not in old or new[name] > old[name]):
            yield f"{place.name}: {name} {new[name]}"
    for name in MAXIMA:
        if name in new and (name not in old or new[name] < old[name]):
            yield f"{place.name}: {name} {new[name]}"
    if "pattern" in new and new["pattern"] != old.get("pattern"):
        yield f"{place.name}: pattern {new['pattern']}"
