"""The straight way: from the boundary to a handler and back, past the machinery that most operations need nothing of.

An operation goes this way when its handler takes no more than who asks, the Idempotency-Key, services, one name in its path, a
query and a JSON body, and answers a struct. Handler, permission, reading of query and body, and the words of every error are the
same ones; only what the framework would do in between is left out. Which operations these are is found out from the handlers.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, get_args, get_origin

from litestar import Litestar, Response
from litestar.connection import ASGIConnection
from litestar.enums import MediaType, ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.serialization import encode_json
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from aitbc.kernel.http.guard import REPLAYED, Guard, release_idempotency_key
from aitbc.kernel.http.problems import MUTATING, check_parameters, handlers, read_body, read_query, told
from aitbc.kernel.http.signature import Contract, contract_of
from aitbc.kernel.identity.principal import PUBLIC
from aitbc.kernel.primitives.errors import AppError, FieldError, Invalid

CONTENT_TYPE = (b"content-type", b"application/json")
GIVEN = frozenset({"who", "once", "data"})
"""What a handler may ask for by name beside services and the name in its path."""


class FastRoute(Struct, frozen=True, eq=False, kw_only=True):
    """How one operation is answered."""

    call: Callable[..., Awaitable[Any]]
    """The handler."""
    things: Mapping[str, Any]
    """The services that it takes."""
    takes_who: bool
    takes_once: bool
    name: str | None
    """The parameter for the name in its path."""
    contract: Contract
    """What it takes in query and body."""
    opt: Mapping[str, Any]
    """What its route declares: permission, idempotency, whether it waits."""
    guards: tuple[Any, ...]
    """The module's own guards, which look at the head of a request."""
    handler: HTTPRouteHandler
    prepares: bool
    """Whether there is more to prepare than to let the caller in."""
    status: int
    template: str
    """The path as logs and metrics show it."""


class FastRoutes:
    """The operations that are answered straight, by method and path."""

    def __init__(self, app: Litestar, things: Mapping[str, Any]) -> None:
        """`things` are the services that handlers may ask for by name."""
        self._fixed: dict[str, dict[str, FastRoute]] = {}
        """Paths without a name in them, all of the app's: those that lead nowhere here are no names either."""
        self._named: dict[tuple[str, str, str], FastRoute] = {}
        """Method, what stands before the name, and what behind it."""
        for handler, template, methods in handlers(app):
            if "{" not in template:
                self._fixed.setdefault(template, {})
            way = _way(handler, template, things, len(app.guards))
            if way is not None:
                self._keep(way, methods)

    def _keep(self, way: FastRoute, methods: set[str]) -> None:
        before, brace, rest = way.template.partition("{")
        after = rest.partition("}")[2]
        for method in methods:
            if not brace:
                self._fixed[way.template][method] = way
            elif after.count("/") < 2 and "{" not in after:
                self._named[method, before, after] = way

    def __iter__(self) -> Any:
        """All of them, each with its method."""
        yield from ((method, way) for ways in self._fixed.values() for method, way in ways.items())
        yield from ((method, way) for (method, _, _), way in self._named.items())

    def find(self, method: str, path: str) -> tuple[FastRoute | None, str]:
        """The way for a request, and the name in its path."""
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed.get(method), ""
        before, slash, last = path.rpartition("/")
        way = self._named.get((method, before + slash, ""))
        if way is not None:
            return way, last
        before, slash, name = before.rpartition("/")
        return self._named.get((method, before + slash, "/" + last)), name


class FastPath:
    """Answers what goes straight, and hands everything else on."""

    def __init__(self, app: ASGIApp, ways: FastRoutes, guard: Guard) -> None:
        self._app = app
        self._ways = ways
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        way, name = None, ""
        if scope["type"] == ScopeType.HTTP:
            way, name = self._ways.find(scope["method"], scope["path"])
        if way is None:
            await self._app(scope, receive, send)
            return
        start: Any = {"type": "http.response.start"}
        try:
            body = await self._answer(way, name, scope, receive, start)
            start["headers"].append((b"content-length", str(len(body)).encode()))
            await send(start)
            await send({"type": "http.response.body", "body": body, "more_body": False})
        finally:
            if way.prepares:
                release_idempotency_key(scope)

    async def _answer(self, way: FastRoute, name: str, scope: Any, receive: Receive, start: dict[str, Any]) -> bytes:
        """The body of the answer, whose head is filled in. Raises nothing but an `AppError`, which the boundary tells."""
        scope["path_template"] = way.template
        try:
            who = await self._guard.admit(scope, way.opt["permission"])
            content = _Content(receive)
            if way.prepares:
                await self._guard.prepare(scope, way.opt, who, content.read)
            for guard in way.guards:
                await guard(ASGIConnection(scope, receive), way.handler)
            arguments = dict(way.things)
            if way.contract.query or scope["query_string"]:
                arguments |= read_query(way.contract, scope["query_string"])
            if way.contract.body is not None:
                arguments["data"] = _decoded(await content.read(), way.contract.body)
            if way.takes_who:
                arguments["who"] = who
            if way.takes_once:
                arguments["once"] = scope["state"]["once"]
            if way.name is not None:
                arguments[way.name] = name
            body = _told(await way.call(**arguments), way, start)
            if way.takes_once and scope["state"]["once"].replayed:
                start["headers"].append(REPLAYED)
            return body
        except AppError:
            raise
        except Exception as error:
            raise told(error, scope) from error


class _Content:
    """The body of a request, which the boundary has read and checked."""

    __slots__ = ("_body", "_receive")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._body: bytes | None = None

    async def read(self) -> bytes:
        """All of it."""
        if self._body is None:
            message: Any = await self._receive()
            self._body = message.get("body", b"")
        return self._body


def _decoded(body: bytes, kind: Any) -> Any:
    if not body:
        raise Invalid(fields=(FieldError("", "A JSON body is required"),))
    return read_body(body, kind)


def _told(answer: Any, way: FastRoute, start: dict[str, Any]) -> bytes:
    """The bytes of an answer; its status and headers go into the head."""
    start["status"], start["headers"] = way.status, [CONTENT_TYPE]
    if isinstance(answer, Response):
        start["status"] = answer.status_code or way.status
        start["headers"] += [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
        answer = answer.content
    return encode_json(answer)


def _way(handler: Any, template: str, things: Mapping[str, Any], guards_of_all: int) -> FastRoute | None:
    """The way of a handler; none for one that takes or answers anything out of the ordinary."""
    if not isinstance(handler, HTTPRouteHandler) or _has_hooks(handler):
        return None
    contract = contract_of(handler)
    name = next((parameter.name for parameter in contract.path.values()), None)
    services = contract.takes - GIVEN - contract.query.keys() - {name}
    if not (_is_plain(handler) and _is_simple(contract, template) and services <= things.keys()):
        return None
    mutates = not MUTATING.isdisjoint(str(method) for method in handler.http_methods)
    return FastRoute(
        call=handler.fn,
        things={service: things[service] for service in services},
        takes_who="who" in contract.takes,
        takes_once="once" in contract.takes,
        name=name,
        contract=contract,
        opt=handler.opt,
        guards=tuple(handler.resolve_guards()[guards_of_all:]),  # those of the app come first
        handler=handler,
        prepares=mutates or bool(handler.opt.get("waits")),
        status=handler.status_code,
        template=template,
    )


def _is_plain(handler: HTTPRouteHandler) -> bool:
    """Whether a handler is a coroutine for callers with a key that answers a struct as JSON."""
    return bool(
        handler.opt["permission"] != PUBLIC
        and handler.opt.get("raw_body_bytes") is None
        and handler.media_type in (MediaType.JSON, "application/json", "")
        and not handler.has_sync_callable
    )


def _is_simple(contract: Contract, template: str) -> bool:
    """Whether a handler takes one name in its path at most, single query parameters and a required body, if any."""
    parameters = list(contract.path.values())
    return (
        not contract.any_query
        and all(alias in contract.takes and not query.many for alias, query in contract.query.items())
        and (contract.body_required or contract.body is None)
        and len(parameters) == template.count("{") <= 1
        and all(parameter.annotation is str for parameter in parameters)
        and _is_struct(contract.answer)
    )


def _has_hooks(handler: HTTPRouteHandler) -> bool:
    """Whether the framework does something for this handler that only the framework can."""
    return bool(
        handler.handler_name == "options_handler"
        or handler.resolve_before_request() is not check_parameters
        or any(layer.after_request for layer in handler.ownership_layers)
        or handler.resolve_after_response()
        or handler.resolve_middleware()
        or handler.resolve_response_headers()
        or handler.resolve_response_cookies()
        or handler.background
        or handler.cache
    )


def _is_struct(answer: Any) -> bool:
    kind = get_args(answer)[0] if get_origin(answer) is Response else answer
    kind = get_origin(kind) or kind
    return isinstance(kind, type) and issubclass(kind, Struct)
