"""The door's manners: strict reading of what comes in, and one form for everything that goes wrong (RFC 9457).

An app is built with `**manners()` and then given to `seal`, which refuses an app whose handlers do not say who may call them.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import structlog
from litestar import Litestar, Request, Response
from litestar.dto import AbstractDTO
from litestar.dto.data_structures import DTOFieldDefinition
from litestar.exceptions import (
    ClientException,
    HTTPException,
    ImproperlyConfiguredException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.handlers import BaseRouteHandler
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition
from msgspec import Struct

from aitbc.kernel.crypto.api_key import without_keys
from aitbc.kernel.database.sql_errors import translate
from aitbc.kernel.http.signature import Contract, Unfit, contract_of, query_values, without_none
from aitbc.kernel.identity.principal import PUBLIC
from aitbc.kernel.primitives.errors import (
    AppError,
    FieldError,
    Forbidden,
    Invalid,
    Malformed,
    NotFound,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from aitbc.kernel.primitives.ids import MalformedId
from aitbc.kernel.primitives.request_errors import MethodNotAllowed, UnknownParameter, UnsupportedMedia
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.kernel.primitives.text import explained, normal

PROBLEM_TYPE = "application/problem+json"
ERRORS_PAGE = "/docs/errors"
FAULTS_MAX = 20
"""So many faults of one body are told at once."""
MESSAGE_LENGTH_MAX = 200
MUTATING = frozenset({"POST", "PUT", "PATCH", "DELETE"})

log = structlog.get_logger("aitbc.http")
_MISSING = re.compile(r"Missing required (\w+) parameter '([^']{1,64})'")
_BY_STATUS: Mapping[int, type[AppError]] = {
    400: Malformed,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    413: TooLarge,
    415: UnsupportedMedia,
    422: Invalid,
    429: TooMany,
    503: Unavailable,
}


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong with a request. `code` is stable and meant for programs, `detail` for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str | None = None
    """Quote this when you ask for help; the server's log knows it."""
    retryable: bool
    """The same request may succeed later; with an Idempotency-Key it is safe to repeat."""
    docs: str
    errors: tuple[FieldError, ...] = ()
    """What is wrong, field by field: JSON pointers into the body, `?name` for the query."""
    details: dict[str, Any] = {}


_encoder = msgspec.json.Encoder(enc_hook=str)


def problem(error: AppError, request_id: str | None) -> bytes:
    """The body of the answer to a request that failed."""
    page = f"{ERRORS_PAGE}#{error.code}"
    body = Problem(
        type=page,
        title=_title(type(error)),
        status=error.status,
        code=error.code,
        detail=error.message,
        request_id=request_id,
        retryable=is_retryable(type(error)),
        docs=page,
        errors=error.fields[:FAULTS_MAX],
        details=error.details,
    )
    try:
        return without_keys(_encoder.encode(body))
    except (UnicodeEncodeError, msgspec.MsgspecError):  # a detail that JSON cannot hold must not hide the error itself
        return _encoder.encode(msgspec.structs.replace(body, detail=_title(type(error)), errors=(), details={}))


def problem_headers(error: AppError) -> dict[str, str]:
    """The headers that belong to an error's answer, names in lower case."""
    headers = {name.lower(): value for name, value in error.headers.items()}
    if error.status == Unauthenticated.status:
        headers.setdefault("www-authenticate", "Bearer")
    return headers


def is_retryable(kind: type[AppError]) -> bool:
    """Whether the same request may succeed a little later."""
    return kind.status in (408, 429, 503) or bool(getattr(kind, "retryable", False))


def _title(kind: type[AppError]) -> str:
    return "Something went wrong on our side." if kind is AppError else kind.summary()


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The answer for whatever a handler, or the framework before it, raised."""
    refusal = told(error, request.scope)
    body = problem(refusal, current_request_id())
    return Response(body, status_code=refusal.status, headers=problem_headers(refusal), media_type=PROBLEM_TYPE)


def told(error: Exception, scope: Any) -> AppError:
    """The error that the caller is told for any exception; the log is told of one that is our fault."""
    refusal = as_app_error(error)
    if refusal.status >= 500 and not isinstance(refusal, Unavailable):
        log.error("request_failed", exc_info=error, path=scope.get("path"), method=scope.get("method"))
    return refusal


def as_app_error(error: Exception) -> AppError:
    """The error that a caller may see for any exception; nothing of an unexpected one shows."""
    match error:
        case AppError():
            return error
        case ValidationException():
            return _from_validation(error)
        case MethodNotAllowedException():
            return MethodNotAllowed(headers={"Allow": with_head((error.headers or {}).get("allow", ""))})
        case NotFoundException():
            return NotFound("There is nothing at this path.")
        case HTTPException() if error.status_code < 500 or error.status_code == 503:
            return _BY_STATUS.get(error.status_code, Malformed)()
        case MalformedId():
            return NotFound()
    return translate(error) or AppError("Something went wrong on our side; the log knows more under this request id.")


def with_head(allow: str) -> str:
    """The methods of `Allow` with HEAD, which is answered wherever GET is."""
    methods = {method.strip() for method in allow.split(",") if method.strip()}
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


def _from_validation(error: ValidationException) -> AppError:
    """What the framework found wrong on its own: a parameter that is missing, or that it could not convert."""
    if found := _MISSING.search(error.detail):
        place = "?" if found[1] == "query" else f"{found[1]} "
        return Invalid(fields=(FieldError(place + found[2], "This parameter is required"),))
    extra = error.extra if isinstance(error.extra, list) else []
    if any(item.get("source") == "path" for item in extra):
        return NotFound()
    fields = []
    for item in extra:
        key, message = str(item.get("key", "")), str(item.get("message", ""))[:MESSAGE_LENGTH_MAX]
        body = item.get("source") == "body"
        fields.append(
            FieldError("", "A JSON body is required") if body and key == "data" else FieldError(f"?{key}", message)
        )
    return Invalid(fields=tuple(fields))


class StrictBody(AbstractDTO[Any]):
    """Reads JSON bodies exactly as their types say: the framework's own reading would take "5" and 1.0 for whole numbers."""

    @classmethod
    def create_for_field_definition(
        cls, field_definition: FieldDefinition, handler_id: str, backend_cls: Any = None
    ) -> None:
        """Nothing to prepare: a handler's contract holds the type."""

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Iterator[DTOFieldDefinition]:  # type: ignore[override]
        """Structs are read whole, not field by field."""
        return iter(())

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        """Structs are read whole, so nothing in them is nested."""
        return False

    def decode_bytes(self, value: bytes) -> Any:
        """The body as the handler's `data`. Raises `Invalid` with a JSON pointer for each fault."""
        return read_body(value, contract_of(self.asgi_connection.route_handler).body)

    def decode_builtins(self, value: Mapping[str, Any]) -> Any:
        """Forms are not taken."""
        raise UnsupportedMedia


_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def read_body(body: bytes, kind: Any) -> Any:
    """The value of this type in a JSON text. Raises `Invalid` with a JSON pointer for each fault."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        return normal(decoder.decode(body), kind)
    except msgspec.ValidationError as error:
        value = msgspec.json.decode(body)
        raise Invalid(fields=tuple(_faults(value, kind, "")[:FAULTS_MAX]) or (_fault("", error),)) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Malformed from None


def _faults(value: Any, kind: Any, pointer: str) -> list[FieldError]:
    """Everything that is wrong with a value, down to the fields of nested structs."""
    plain = without_none(kind)
    if not (isinstance(plain, type) and issubclass(plain, Struct) and isinstance(value, dict)):
        return _faults_of_one(value, kind, pointer)
    if plain.__struct_config__.tag_field is not None:
        return _faults_of_one(value, kind, pointer)
    faults = []
    fields = {field.encode_name: field for field in msgspec.structs.fields(plain)}
    if plain.__struct_config__.forbid_unknown_fields:
        for name in value.keys() - fields.keys():
            faults.append(FieldError(f"{pointer}/{_escaped(name)}", "There is no such field"))  # noqa: PERF401
    for name, field in fields.items():
        if name in value:
            faults += _faults(value[name], field.type, f"{pointer}/{_escaped(name)}")
        elif field.required:
            faults.append(FieldError(f"{pointer}/{_escaped(name)}", "This field is required"))
    return faults or _faults_of_one(value, kind, pointer)


def _faults_of_one(value: Any, kind: Any, pointer: str) -> list[FieldError]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return [_fault(pointer, error)]
    return []


def _escaped(name: str) -> str:
    return name[:64].replace("~", "~0").replace("/", "~1")


_PLACE = re.compile(r" - at `(?:key in )?\$?(.*)`\Z", re.DOTALL)
_STEPS = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")


def _fault(pointer: str, error: msgspec.ValidationError) -> FieldError:
    """The decoder's message with its place turned from `$.a[0]` into the pointer `/a/0`."""
    told = str(error)
    place = _PLACE.search(told)
    for step in _STEPS.finditer(place[1]) if place else ():
        if step[2] == "...":  # some key of a mapping, which one is not told
            break
        pointer += f"/{_escaped(step[1] or step[2])}"
    message = told[: place.start()] if place else told
    return FieldError(pointer, explained(message)[:MESSAGE_LENGTH_MAX])


async def check_parameters(request: Request[Any, Any, Any]) -> Response[None] | None:
    """Hold path and query against the handler's contract. Raises `NotFound`, `UnknownParameter`, `Invalid`.

    Answers OPTIONS, whatever the query: the framework's own handler knows only the first of a path's handlers.
    """
    scope = request.scope
    if allow := scope["route_handler"].opt.get("allow"):
        return Response(None, status_code=204, headers={"Allow": allow})
    contract = contract_of(scope["route_handler"])
    if contract.path:
        _check_path(contract, scope)
    query = scope.get("query_string", b"")
    if (query or contract.query) and not contract.any_query:
        read_query(contract, query)
    return None


def _check_path(contract: Contract, scope: Any) -> None:
    values: Mapping[str, Any] = scope["path_params"]
    for name, parameter in contract.path.items():
        if parameter.annotation is str:
            continue
        text = str(values.get(name, ""))
        try:
            parameter.read(text)
        except Unfit:
            raise NotFound from None
        if text not in scope["path"].split("/"):  # 007 and +7 are not names of 7
            raise NotFound


def read_query(contract: Contract, query: bytes) -> dict[str, Any]:
    """The values of a query's parameters, those that came. Raises `UnknownParameter`, `Invalid`."""
    pairs = (
        parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="utf-8", errors="replace") if query else []
    )
    seen: set[str] = set()
    faults = []
    for name, _ in pairs:
        parameter = contract.query.get(name)
        if parameter is None:
            faults.append(FieldError(f"?{name[:64]}", "There is no such parameter"))
        elif name in seen and not parameter.many:
            faults.append(FieldError(f"?{name}", "This parameter came twice"))
        seen.add(name)
    if faults:
        raise UnknownParameter(fields=tuple(faults[:FAULTS_MAX]))
    values, faults = query_values(contract, pairs)
    if faults:
        raise Invalid(fields=tuple(faults[:FAULTS_MAX]))
    return values


def app_options() -> dict[str, Any]:
    """What every app of ours is built with: `Litestar(routes, **manners())`."""
    return {
        "dto": StrictBody,
        "return_dto": None,
        "before_request": check_parameters,
        "exception_handlers": {Exception: answer_error, HTTPException: answer_error, ClientException: answer_error},
        "openapi_config": None,
        "debug": False,
        "pdb_on_exception": False,
        "logging_config": None,
        "multipart_form_part_limit": 1,
    }


def seal(app: Litestar) -> None:
    """Check that every handler says what it must say, and read all contracts ahead of the first request.

    Raises `ImproperlyConfiguredException` that names each handler without `opt["permission"]`, and each one that changes
    something but neither takes `once` nor declares `opt["idempotency"] = "natural"`.
    """
    missing = []
    taken: dict[str, set[str]] = defaultdict(set)
    for _, path, methods in handlers(app):
        taken[path] |= methods
    for handler, path, methods in handlers(app):
        if handler.handler_name == "options_handler" and methods == {"OPTIONS"}:
            handler.opt["permission"] = PUBLIC  # the framework's own: it answers with Allow and nothing else
            handler.opt["allow"] = ", ".join(sorted(taken[path]))
        if not handler.opt.get("permission"):
            missing.append(f"{path}: {handler} declares no permission")
        contract = contract_of(handler)
        if methods & MUTATING and "once" not in contract.takes and handler.opt.get("idempotency") != "natural":
            missing.append(f"{path}: {handler} changes something, so it must take `once` or declare itself natural")
    if missing:
        raise ImproperlyConfiguredException("; ".join(sorted(missing)))


def header_values(scope: Any, name: bytes) -> list[str]:
    """The values of a header, by its name in lower case, straight from the request: the framework would copy all of them."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def resolve_in_turn(app: Litestar) -> None:
    """Have a handler's dependencies resolved one after the other.

    Ours answer at once, and the framework's task for each of them costs more than all else that they do.
    """
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for _, model in route.route_handler_map.values():
                model.dependency_batches = [{one} for batch in model.dependency_batches for one in batch]


def raw_bodies(app: Litestar) -> Callable[[str, str], int | None]:
    """How large the body of a route may be that takes something else than JSON, and declares so: `opt["raw_body_bytes"]`."""
    routes: list[tuple[str, re.Pattern[str], int]] = []
    for handler, path, methods in handlers(app):
        if (limit := handler.opt.get("raw_body_bytes")) is not None:
            pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(path))
            routes += [(method, re.compile(pattern + r"\Z"), limit) for method in methods]

    def limit_of(method: str, path: str) -> int | None:
        return next((limit for verb, pattern, limit in routes if verb == method and pattern.match(path)), None)

    return limit_of


def handlers(app: Litestar) -> Iterator[tuple[BaseRouteHandler, str, set[str]]]:
    """Every handler with its path and its methods; those of WebSocket and ASGI routes have none."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                yield handler, route.path_format, {str(method) for method in handler.http_methods}
        else:
            yield route.route_handler, route.path_format, set()
