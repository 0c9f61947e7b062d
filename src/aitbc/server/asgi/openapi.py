"""The OpenAPI 3.1 document, made from the signatures of the handlers."""

import copy
import functools
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, get_args, get_origin

from litestar import Litestar
from litestar.handlers import BaseRouteHandler
from litestar.response import Response, Stream
from litestar.response.sse import ServerSentEvent
from litestar.utils.helpers import unwrap_partial

from aitbc.kernel.database.idempotency import (
    KEY_LENGTH_MAX,
    IdempotencyKeyInFlight,
    IdempotencyKeyMalformed,
    IdempotencyKeyRequired,
    IdempotencyKeyReused,
)
from aitbc.kernel.http.dialects import Shown
from aitbc.kernel.http.problems import PROBLEM_TYPE, Problem, is_retryable, problem
from aitbc.kernel.http.scope import MUTATING
from aitbc.kernel.http.signature import HandlerSignature, Parameter, signature_of
from aitbc.kernel.identity.principal import PUBLIC
from aitbc.kernel.primitives.errors import (
    AppError,
    Forbidden,
    Invalid,
    NotFound,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from aitbc.kernel.primitives.json_schema import DATE_TIME, Tagged, schemas_of
from aitbc.kernel.primitives.pagination import InvalidCursor
from aitbc.kernel.primitives.request_errors import (
    BodyTimeout,
    BodyTooLarge,
    DuplicateKey,
    InvalidText,
    MalformedJson,
    MalformedPath,
    OutOfRange,
    TooDeep,
    UnknownParameter,
    UnsupportedMedia,
)
from aitbc.server.asgi.app_options import handlers
from aitbc.server.asgi.openapi_examples import example_of
from aitbc.server.asgi.openapi_parameters import described
from aitbc.server.asgi.openapi_protocols import inlined, refusals_in_dialect
from aitbc.server.asgi.openapi_variants import SCHEMAS, types_by_tag, variants

EXAMPLE_REQUEST_ID = "req_01k0000000000000000000000a"


def document(app: Litestar, *, title: str, version: str, description: str) -> dict[str, Any]:
    """The whole document. Raises `ValueError` for an operation without id, summary or description."""
    operations = [
        (ProtocolOperation if "shown" in handler.opt else _Operation)(handler, path, method)
        for handler, path, method in _documented(app)
    ]
    kinds = [kind for operation in operations for kind in operation.kinds()]
    tagged = {kind.__name__: kind for kind in kinds if isinstance(getattr(kind, "tagged", None), Tagged)}
    schemas, components = _schemas([*kinds, *(one for kind in tagged.values() for one in types_by_tag(kind)), Problem])
    for kind in tagged.values():
        components |= variants(kind, components)
    lookup = dict(zip(map(repr, kinds), schemas, strict=False))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = operation.to_openapi(lookup, components)
    repeated = _repeated([operation.ident for operation in operations])
    if repeated:
        raise ValueError(f"operation ids must be unique: {', '.join(repeated)}")
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in sorted({tag for operation in operations for tag in operation.tags})],
        "paths": {path: dict(sorted(methods.items())) for path, methods in sorted(paths.items())},
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key: `Authorization: Bearer <key>`.",
                }
            },
        },
    }


def _documented(app: Litestar) -> Iterator[tuple[BaseRouteHandler, str, str]]:
    for handler, path, methods in handlers(app):
        if getattr(handler, "resolve_include_in_schema", lambda: False)():
            for method in sorted(methods - {"OPTIONS", "HEAD"}):
                yield handler, path, method


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _schemas(kinds: Sequence[Any]) -> tuple[Sequence[dict[str, Any]], dict[str, Any]]:
    """The schema of each type, and the named ones they refer to, with `Page[Item]` named `PageOfItem`."""
    schemas, components = schemas_of(kinds, ref_template=SCHEMAS + "{name}")
    text = json.dumps([schemas, components])
    for name in components:
        if plain := re.fullmatch(r"(\w+?)_(\w+)_", name):
            text = text.replace(f'{SCHEMAS}{name}"', f'{SCHEMAS}{plain[1]}Of{plain[2]}"')
            text = text.replace(f'"{name}": {{', f'"{plain[1]}Of{plain[2]}": {{')
    found, named = json.loads(text)
    return found, dict(sorted(named.items()))


JSON_REFUSALS = (MalformedJson, DuplicateKey, TooDeep, InvalidText, OutOfRange, UnsupportedMedia)
"""What any operation with a JSON body may refuse it for."""


class _Operation:
    """One method of one path."""

    def __init__(self, handler: BaseRouteHandler, path: str, method: str) -> None:
        self.handler: Any = handler
        self.path = path
        self.method = method
        self.contract: HandlerSignature = signature_of(handler)
        self.permission: str = handler.opt["permission"]
        text = inspect.cleandoc(unwrap_partial(self.handler.fn).__doc__ or "")
        self.summary: str = self.handler.summary or text.partition("\n")[0].rstrip(".")  # type: ignore[attr-defined]
        self.description: str = self.handler.description or text  # type: ignore[attr-defined]
        self.ident = self.handler.operation_id  # type: ignore[attr-defined]
        self.tags: list[str] = sorted(self.handler.resolve_tags() or ())  # type: ignore[attr-defined]
        if not (isinstance(self.ident, str) and self.summary and self.description):
            raise ValueError(f"{method} {path} needs an operation_id and a docstring")

    def kinds(self) -> Iterator[Any]:
        """All types of parameters, body and response."""
        contract = self.contract
        yield from (parameter.annotation for parameter in (*contract.path.values(), *contract.query.values()))
        if contract.body is not None:
            yield contract.body
        if (answer := self.answer) is not None:
            yield answer

    @property
    def answer(self) -> Any:
        """The type of the answer's JSON, or none where it has no body or one of another kind."""
        kind = self.contract.answer
        if get_origin(kind) is Response:
            kind = get_args(kind)[0]
        if kind in (None, type(None), bytes) or (isinstance(kind, type) and issubclass(kind, Response)):
            return None
        return kind

    def to_openapi(self, lookup: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
        """The operation object."""
        parameters = [_parameter(p, lookup) for p in (*self.contract.path.values(), *self.contract.query.values())]
        if "once" in self.contract.takes:
            parameters.append(_idempotency_key(required=self.handler.opt.get("idempotency") == "required"))
        operation: dict[str, Any] = {
            "operationId": self.ident,
            "summary": self.summary,
            "description": self.description,
        }
        if self.tags:
            operation["tags"] = self.tags
        if (deprecated := self.handler.opt.get("deprecated")) is not None:
            operation |= {"deprecated": True, "x-sunset": deprecated.sunset.isoformat()}
        operation["security"] = [] if self.permission == PUBLIC else [{"bearer": []}]
        operation["x-permission"] = self.permission
        if parameters:
            operation["parameters"] = parameters
        if body := self._body(lookup, components):
            operation["requestBody"] = body
        operation["responses"] = self._responses(lookup, components)
        return operation

    def _responses(self, lookup: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
        return {**self._success(lookup, components), **_problems(self._errors())}

    def _body(self, lookup: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any] | None:
        if media_type := self.handler.opt.get("raw_body"):
            limit = self.handler.opt.get("raw_body_bytes")
            schema = {
                "type": "string",
                "format": "binary",
                "maxLength": limit,
                "description": f"At most {limit} bytes.",
            }
            return {"required": True, "content": {media_type: {"schema": schema}}}
        if self.contract.body is None:
            return None
        schema = lookup[repr(self.contract.body)]
        content = {"schema": schema, "example": example_of(schema, components)}
        return {"required": self.contract.body_required, "content": {"application/json": content}}

    def _success(self, lookup: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
        status = str(self.handler.status_code)
        response: dict[str, Any] = {"description": HTTPStatus(self.handler.status_code).phrase}
        kind = self.contract.answer
        media_type = getattr(self.handler.media_type, "value", self.handler.media_type) or "application/json"
        if self.answer is not None:
            schema = lookup[repr(self.answer)]
            response["content"] = {media_type: {"schema": schema, "example": example_of(schema, components)}}
        elif kind not in (None, type(None)):
            streams = isinstance(kind, type) and issubclass(kind, (Stream, ServerSentEvent))
            text = (
                {"type": "string"}
                if streams or media_type.startswith("text/")
                else {"type": "string", "format": "binary"}
            )
            response["content"] = {media_type: {"schema": text}}
        return {status: response}

    def _errors(self) -> list[type[AppError]]:
        """What this operation may answer besides success, without repetition."""
        contract, opt = self.contract, self.handler.opt
        found: list[type[AppError]] = [*opt.get("errors", ()), MalformedPath, UnknownParameter, TooMany, Unavailable]
        if self.permission != PUBLIC:
            found += [Unauthenticated, Forbidden]
        if contract.path:
            found.append(NotFound)
        if contract.query or contract.body is not None:
            found += [Invalid, InvalidCursor] if "cursor" in contract.query else [Invalid]
        if contract.body is not None:
            found += JSON_REFUSALS
        if contract.body is not None or opt.get("raw_body"):
            found += [BodyTooLarge, BodyTimeout]
        if "once" in contract.takes and self.method in MUTATING:
            found += [IdempotencyKeyReused, IdempotencyKeyInFlight, IdempotencyKeyMalformed]
            found += [IdempotencyKeyRequired] if opt.get("idempotency") == "required" else []
        return sorted(set(found), key=lambda error: (error.status, error.code))


class ProtocolOperation(_Operation):
    """An operation of a public protocol: described by examples, its body where it stands, its errors in its dialect."""

    def kinds(self) -> Iterator[Any]:
        """The types of its parameters."""
        yield from (one.annotation for one in (*self.contract.path.values(), *self.contract.query.values()))

    def _body(self, lookup: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any] | None:
        if self.contract.body is None:
            return super()._body(lookup, components)
        content = {"schema": inlined(self.contract.body), "example": self.shown.request}
        return {"required": True, "content": {"application/json": content}}

    def _success(self, lookup: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
        if self.shown.answer is None:
            return super()._success(lookup, components)
        content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}, "example": self.shown.answer}}
        if self.shown.streams:
            content["text/event-stream"] = {"schema": {"type": "string"}}
        return {"200": {"description": HTTPStatus(200).phrase, "content": content}}

    def _responses(self, lookup: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
        return {**self._success(lookup, components), **refusals_in_dialect(self.path)}

    @property
    def shown(self) -> Shown:
        """Its examples."""
        shown: Shown = self.handler.opt["shown"]
        return shown


def _parameter(parameter: Parameter, lookup: Mapping[str, Any]) -> dict[str, Any]:
    schema = copy.deepcopy(lookup[repr(parameter.annotation)])
    text, example = described(parameter.where, parameter.name)
    text = schema.pop("description", None) or text
    if parameter.is_time:
        schema |= DATE_TIME
    if parameter.many:
        schema = {"type": "array", "items": schema}
    if not parameter.required and parameter.default is not None:
        schema["default"] = parameter.default
    required = parameter.required or parameter.where == "path"
    result: dict[str, Any] = {"name": parameter.name, "in": parameter.where, "required": required, "schema": schema}
    if text:
        result["description"] = text
    if example is not None and not schema.get("examples"):
        result["example"] = example
    return result


def _idempotency_key(*, required: bool) -> dict[str, Any]:
    return {
        "name": "Idempotency-Key",
        "in": "header",
        "required": required,
        "description": "A text of your own choice. The same request with the same key has its effect once, and gets the same answer.",  # noqa: E501
        "schema": {"type": "string", "minLength": 1, "maxLength": KEY_LENGTH_MAX, "pattern": "^[ -~]+$"},
        "example": "order-2030-000017",
    }


def _problems(errors: Sequence[type[AppError]]) -> dict[str, Any]:
    """The problem responses, one for each status, with an example for each code."""
    by_status: dict[str, list[type[AppError]]] = {}
    for error in errors:
        by_status.setdefault(str(error.status), []).append(error)
    responses: dict[str, Any] = {}
    for status, group in by_status.items():
        examples = {error.code: {"summary": error.summary(), "value": _example_problem(error)} for error in group}  # type: ignore[arg-type]
        content = {PROBLEM_TYPE: {"schema": {"$ref": f"{SCHEMAS}Problem"}, "examples": examples}}
        responses[status] = {
            "description": "\n".join(f"- `{e.code}`: {e.summary()}" for e in group),
            "content": content,
        }
    responses["default"] = {
        "description": "Any other failure.",
        "content": {PROBLEM_TYPE: {"schema": {"$ref": f"{SCHEMAS}Problem"}}},
    }
    return responses


@functools.cache
def _example_problem(error: type[AppError]) -> Any:
    return json.loads(problem(error(), EXAMPLE_REQUEST_ID))


def catalogued() -> list[type[AppError]]:
    """Every error that this program may answer with, in the order of the catalogue."""
    ours = {AppError, *AppError.registry.values()}
    return sorted(
        (kind for kind in ours if kind.__module__.startswith("aitbc.")),  # type: ignore[misc]
        key=lambda kind: (kind.status, kind.code),
    )


def advice(kind: type[AppError]) -> str:
    """What somebody who meets this error can do."""
    _, _, more = inspect.cleandoc(kind.__doc__ or "").partition("\n")
    if more.strip() and kind is not AppError:
        return " ".join(more.split())
    if is_retryable(kind):
        return "Wait as long as `Retry-After` says and send the same request again, with the same Idempotency-Key."
    by_status = {
        400: "Correct how the request is written.",
        401: "Send a valid key as `Authorization: Bearer <key>`; `aitbc key` makes and lists keys.",
        402: "Deposit money or lower the price.",
        403: "Use a key that has the permission; the message says what is missing.",
        404: "Check the id, and that the key belongs to the owner.",
        405: "Use one of the methods in `Allow`.",
        409: "Read the object again and decide anew.",
        413: "Send less at once.",
        422: "Correct the fields listed under `errors`.",
        500: "Report it with the request id.",
        501: "Choose another way; the message says why this one is closed.",
    }
    return by_status.get(kind.status, "Correct the request as the message says.")
