"""The operations of the API, read from its own description, and a valid request for each."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast
from urllib.parse import quote

from aitbc.kernel.identity.principal import PUBLIC
from aitbc.server.asgi.openapi_examples import example_of
from tests.poison.fields import Field, fields_of, put
from tools.api import described

JSON = "application/json"
MUTATING = ("POST", "PUT", "PATCH", "DELETE")
Header = tuple[bytes, bytes]
Pair = tuple[str, str]


@dataclass(frozen=True)
class Call:
    """One request, in parts that can be exchanged one by one; values in `places` and `query` are percent-encoded."""

    method: str
    template: str
    places: Mapping[str, str]
    query: tuple[Pair, ...] = ()
    headers: tuple[Header, ...] = ()
    body: bytes | None = None
    target: bytes | None = None
    """The whole target, where the parts are not to count."""

    @property
    def path(self) -> str:
        """The template with its places filled in."""
        path = self.template
        for name, value in self.places.items():
            path = path.replace("{" + name + "}", value)
        return path

    @property
    def whole_target(self) -> bytes:
        """What stands in the request line."""
        if self.target is not None:
            return self.target
        query = "&".join(f"{name}={value}" for name, value in self.query)
        return (self.path + (f"?{query}" if query else "")).encode("latin-1")

    def placed(self, name: str, value: str) -> "Call":
        """With another value in one place of the path."""
        return replace(self, places={**self.places, name: value})

    def asked(self, name: str, *values: str) -> "Call":
        """With these values, or none, for one parameter of the query."""
        kept = tuple(pair for pair in self.query if pair[0] != name)
        return replace(self, query=kept + tuple((name, value) for value in values))

    def headed(self, name: str, *values: str | bytes) -> "Call":
        """With these values, or none, for one header."""
        kept = tuple(pair for pair in self.headers if pair[0] != name.encode())
        new = tuple((name.encode(), v if isinstance(v, bytes) else v.encode("latin-1")) for v in values)
        return replace(self, headers=kept + new)

    def by(self, secret: str) -> "Call":
        """From the owner of this key."""
        return self.headed("authorization", f"Bearer {secret}")

    def saying(self, body: bytes) -> "Call":
        """With these bytes as its JSON body."""
        return replace(self, body=body).headed("content-type", JSON)


@dataclass(frozen=True)
class Operation:
    """One operation, as it is described."""

    ident: str
    method: str
    path: str
    told: Mapping[str, Any]
    components: Mapping[str, Any]
    path_methods: frozenset[str]
    """All the methods of its path."""

    @property
    def permission(self) -> str:
        """The scope that it needs, or `public`."""
        return str(self.told["x-permission"])

    @property
    def has_named_sibling(self) -> bool:
        """Whether beside its path, where this ends with a word, is one that ends with a name."""
        above, _, last = self.path.rpartition("/")
        named = (one for one in DESCRIPTION["paths"] if one.endswith("}") and one.rpartition("/")[0] == above)
        return not last.endswith("}") and any(named)

    @property
    def is_public(self) -> bool:
        """Whether it needs no key."""
        return self.permission == PUBLIC

    @cached_property
    def statuses(self) -> frozenset[int]:
        """The statuses that are described one by one."""
        return frozenset(int(status) for status in self.told["responses"] if status.isdigit())

    @cached_property
    def success(self) -> int:
        """The status of the answer when all is well."""
        return min(self.statuses)

    def parameters(self, where: str) -> list[Field]:
        """What is taken in the `path`, the `query` or a `header`."""
        return [
            Field((told["name"],), told["schema"], required=told["required"], components=self.components)
            for told in self.told.get("parameters", ())
            if told["in"] == where
        ]

    @cached_property
    def media_type(self) -> str | None:
        """Of the body that it takes."""
        return next(iter(self.told.get("requestBody", {}).get("content", ())), None)

    @property
    def takes_json(self) -> bool:
        """Whether it reads a JSON body."""
        return self.media_type == JSON

    @property
    def may_lack_body(self) -> bool:
        """Whether it can do without the body that it takes."""
        return not self.told["requestBody"]["required"]

    @cached_property
    def body_schema(self) -> Mapping[str, Any]:
        """Of its JSON body."""
        return cast(Mapping[str, Any], self.told["requestBody"]["content"][JSON]["schema"])

    @cached_property
    def body(self) -> Any:
        """A JSON body that is right, with every field that can be filled in."""
        value = json.loads(json.dumps(self.told["requestBody"]["content"][JSON]["example"]))
        for field in self.fields:
            if "number" in field.types and "minimum" in field.schema:  # seconds to wait, more often than not
                value = put(value, field.pointer, field.schema["minimum"], self.body_schema, self.components)
        return value

    @cached_property
    def fields(self) -> list[Field]:
        """Every field of its JSON body, down to those of items and nested objects."""
        return list(fields_of(self.body_schema, self.components)) if self.takes_json else []

    def with_field(self, field: Field, value: Any) -> Any:
        """The right body with another value in one field."""
        base = json.loads(json.dumps(self.body))
        return put(base, field.pointer, value, self.body_schema, self.components)

    def call(self, known: Mapping[str, str], secret: str | None) -> Call:
        """A right request about known things: the values of path parameters by name."""
        places = {field.name: quote(known[field.name], safe="") for field in self.parameters("path")}
        query = tuple(
            (f.name, quote(known.get(f.name) or _right(f), safe="")) for f in self.parameters("query") if f.required
        )
        call = Call(self.method, self.path, places, query, ((b"host", b"localhost"),))
        if secret is not None:
            call = call.by(secret)
        if any(field.name == "Idempotency-Key" for field in self.parameters("header")):
            call = call.headed("idempotency-key", "poison")
        if self.takes_json:
            return call.saying(as_json(self.body))
        if self.media_type is not None:
            return replace(call, body=b"content").headed("content-type", self.media_type)
        return call

    def brisk(self, call: Call) -> Call:
        """The same, told to wait no longer than it must."""
        for field in self.parameters("query"):
            if "number" in field.types and "minimum" in field.schema:
                call = call.asked(field.name, str(field.schema["minimum"]))
        return call


def as_json(value: Any) -> bytes:
    """As bytes; lone surrogates become escapes."""
    return json.dumps(value).encode()


def _right(field: Field) -> str:
    value = example_of(field.schema, field.components)
    return value if isinstance(value, str) else json.dumps(value)


def operations(told: Mapping[str, Any]) -> Iterator[Operation]:
    """Every operation of a description."""
    components = told["components"]["schemas"]
    for path, item in told["paths"].items():
        methods = frozenset(method.upper() for method in item)
        for method, operation in item.items():
            yield Operation(operation["operationId"], method.upper(), path, operation, components, methods)


DESCRIPTION = described()
PROTOCOLS = "/v1/"
"""Below it are the public protocols: they have other errors, and a matrix of their own."""
DESCRIPTION["paths"] = {path: told for path, told in DESCRIPTION["paths"].items() if not path.startswith(PROTOCOLS)}
OPERATIONS = {operation.ident: operation for operation in operations(DESCRIPTION)}
