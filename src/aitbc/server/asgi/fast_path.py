"""The fast path: dispatches plain JSON operations from the boundary to the handler, bypassing router and injection.

An operation takes this path when its handler takes no more than the caller, the Idempotency-Key, services, one path
parameter, a query and a JSON body, and returns a struct. Handler, permission check, parsing of query and body, and all
errors are the same; only what the framework would do in between is left out. Which operations these are is found from
the signatures of their handlers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, get_args, get_origin

from litestar import Litestar, Response
from litestar.connection import ASGIConnection
from litestar.enums import MediaType, ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.serialization import encode_json
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from aitbc.kernel.http.admission import ADMITTED, lasts, raise_if_key_ended, release_request
from aitbc.kernel.http.body import read_body
from aitbc.kernel.http.guard import REPLAYED, Guard
from aitbc.kernel.http.problems import convert_error
from aitbc.kernel.http.scope import MUTATING
from aitbc.kernel.http.signature import HandlerSignature, signature_of
from aitbc.kernel.identity.principal import PUBLIC
from aitbc.kernel.primitives.errors import AppError, FieldError, Invalid
from aitbc.server.asgi.app_options import handlers
from aitbc.server.asgi.parameters import check_parameters, read_query

CONTENT_TYPE = (b"content-type", b"application/json")
REQUEST_PARAMETERS = frozenset({"who", "once", "admission", "data"})
"""The parameters of a handler that are not services, nor the path parameter."""


class FastRoute(Struct, frozen=True, eq=False, kw_only=True):
    """An operation on the fast path, with everything needed to call its handler."""

    call: Callable[..., Awaitable[Any]]
    """The handler."""
    services: Mapping[str, Any]
    """The services that it injects."""
    takes_who: bool
    takes_once: bool
    takes_admission: bool
    path_parameter: str | None
    """The name of its path parameter."""
    contract: HandlerSignature
    """Its signature: query parameters and body."""
    opt: Mapping[str, Any]
    """What its route declares: permission, idempotency, whether it waits."""
    guards: tuple[Any, ...]
    """The module's own guards, which look at the head of a request."""
    handler: HTTPRouteHandler
    needs_preparation: bool
    """Whether the guard must prepare it: idempotency, or waiting for its turn."""
    status: int
    template: str
    """The path as logs and metrics show it."""


class FastRoutes:
    """The operations on the fast path, by method and path."""

    def __init__(self, app: Litestar, services: Mapping[str, Any]) -> None:
        """`services` are those that handlers may inject, by name."""
        self._fixed: dict[str, dict[str, FastRoute]] = {}
        """All paths without a parameter, those off the fast path too: they are no values of a path parameter."""
        self._named: dict[tuple[str, str, str], FastRoute] = {}
        """Paths with a parameter: by method, prefix and suffix."""
        for handler, template, methods in handlers(app):
            if "{" not in template:
                self._fixed.setdefault(template, {})
            route = _fast_route(handler, template, services, len(app.guards))
            if route is not None:
                self._add(route, methods)

    def _add(self, route: FastRoute, methods: set[str]) -> None:
        before, brace, rest = route.template.partition("{")
        after = rest.partition("}")[2]
        for method in methods:
            if not brace:
                self._fixed[route.template][method] = route
            elif after.count("/") < 2 and "{" not in after:
                self._named[method, before, after] = route

    def __iter__(self) -> Any:
        """All routes, each with its method."""
        yield from ((method, route) for routes in self._fixed.values() for method, route in routes.items())
        yield from ((method, route) for (method, _, _), route in self._named.items())

    def find(self, method: str, path: str) -> tuple[FastRoute | None, str]:
        """The route for a request, and the value of its path parameter."""
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed.get(method), ""
        before, slash, last = path.rpartition("/")
        route = self._named.get((method, before + slash, ""))
        if route is not None:
            return route, last
        before, slash, path_value = before.rpartition("/")
        return self._named.get((method, before + slash, "/" + last)), path_value


class FastPath:
    """Answers requests on the fast path, and passes all others on."""

    def __init__(self, app: ASGIApp, routes: FastRoutes, guard: Guard) -> None:
        self._app = app
        self._routes = routes
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        route, path_value = None, ""
        if scope["type"] == ScopeType.HTTP:
            route, path_value = self._routes.find(scope["method"], scope["path"])
        if route is None:
            await self._app(scope, receive, send)
            return
        start: Any = {"type": "http.response.start"}
        try:
            body = await self._respond(route, path_value, scope, receive, start)
        except asyncio.CancelledError:
            raise_if_key_ended(scope)
            raise
        finally:
            if route.needs_preparation:
                release_request(scope)
        start["headers"].append((b"content-length", str(len(body)).encode()))
        await send(start)
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _respond(
        self, route: FastRoute, path_value: str, scope: Any, receive: Receive, start: dict[str, Any]
    ) -> bytes:
        """The body of the response; status and headers go into `start`. Raises `AppError` only."""
        scope["path_template"] = route.template
        try:
            who = await self._guard.admit(scope, route.opt["permission"], route.opt.get("alternative"))
            body_reader = _Body(receive)
            if route.needs_preparation:
                await self._guard.prepare(scope, route.opt, who, body_reader.read)
            for guard in route.guards:
                await guard(ASGIConnection(scope, receive), route.handler)
            arguments = dict(route.services)
            if route.contract.query or scope["query_string"]:
                arguments |= read_query(route.contract, scope["query_string"])
            if route.contract.body is not None:
                arguments["data"] = _decode_body(await body_reader.read(), route.contract.body)
            if route.takes_who:
                arguments["who"] = who
            if route.takes_once:
                arguments["once"] = scope["state"]["once"]
            if route.takes_admission:
                arguments["admission"] = scope["state"][ADMITTED]
            if route.path_parameter is not None:
                arguments[route.path_parameter] = path_value
            body = _encode_response(await route.call(**arguments), route, start)
            if route.takes_once and scope["state"]["once"].replayed:
                start["headers"].append(REPLAYED)
            return body
        except AppError:
            raise
        except Exception as error:
            raise convert_error(error, scope) from error


class _Body:
    """The body of a request, which the boundary has read and checked."""

    __slots__ = ("_body", "_receive")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._body: bytes | None = None

    async def read(self) -> bytes:
        """Read the whole body, once."""
        if self._body is None:
            message: Any = await self._receive()
            self._body = message.get("body", b"")
        return self._body


def _decode_body(body: bytes, kind: Any) -> Any:
    if not body:
        raise Invalid(fields=(FieldError("", "A JSON body is required"),))
    return read_body(body, kind)


def _encode_response(answer: Any, route: FastRoute, start: dict[str, Any]) -> bytes:
    """Encode the response body; its status and headers go into `start`."""
    start["status"], start["headers"] = route.status, [CONTENT_TYPE]
    if isinstance(answer, Response):
        start["status"] = answer.status_code or route.status
        start["headers"] += [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
        answer = answer.content
    return encode_json(answer)


def _fast_route(handler: Any, template: str, services: Mapping[str, Any], guards_of_all: int) -> FastRoute | None:
    """The fast route of a handler; none for one that needs the framework."""
    if not isinstance(handler, HTTPRouteHandler) or _has_hooks(handler):
        return None
    contract = signature_of(handler)
    path_parameter = next((parameter.name for parameter in contract.path.values()), None)
    of_query = {parameter.argument for parameter in contract.query.values()}
    wanted = contract.takes - REQUEST_PARAMETERS - of_query - {path_parameter}
    if not (_is_plain(handler) and _is_simple(contract, template) and wanted <= services.keys()):
        return None
    mutates = not MUTATING.isdisjoint(str(method) for method in handler.http_methods)
    return FastRoute(
        call=handler.fn,
        services={name: services[name] for name in wanted},
        takes_who="who" in contract.takes,
        takes_once="once" in contract.takes,
        takes_admission="admission" in contract.takes,
        path_parameter=path_parameter,
        contract=contract,
        opt=handler.opt,
        guards=tuple(handler.resolve_guards()[guards_of_all:]),  # those of the app come first
        handler=handler,
        needs_preparation=mutates or lasts(handler.opt),
        status=handler.status_code,
        template=template,
    )


def _is_plain(handler: HTTPRouteHandler) -> bool:
    """Whether a handler is an authenticated coroutine that returns JSON."""
    return bool(
        handler.opt["permission"] != PUBLIC
        and handler.opt.get("raw_body_bytes") is None
        and handler.media_type in (MediaType.JSON, "application/json", "")
        and not handler.has_sync_callable
    )


def _is_simple(contract: HandlerSignature, template: str) -> bool:
    """Whether a handler takes one path parameter at most, single query values, and a required body if any."""
    parameters = list(contract.path.values())
    return (
        not contract.any_query
        and not any(parameter.many for parameter in contract.query.values())
        and (contract.body_required or contract.body is None)
        and len(parameters) == template.count("{") <= 1
        and all(parameter.annotation is str for parameter in parameters)
        and _is_struct(contract.answer)
    )


def _has_hooks(handler: HTTPRouteHandler) -> bool:
    """Whether a handler has hooks, middleware or headers that only the framework runs."""
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
