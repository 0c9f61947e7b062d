"""Builds the ASGI application: the routers of every module behind guard, fast path, gateway and boundary."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from re import Pattern
from typing import Any

from litestar import Controller, Litestar, Router
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, Scope

from aitbc.kernel.database.migrations import head_of
from aitbc.kernel.http.dialects import Dialect, dialect_at
from aitbc.kernel.http.guard import Guard, IdempotencyMiddleware, bearer, dependencies
from aitbc.kernel.module import Module
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.version import Build
from aitbc.kernel.telemetry.metrics import Metrics
from aitbc.server.admin.health import STATE, Health, HealthRoutes
from aitbc.server.admin.identity import AccountController, KeyController, SessionController
from aitbc.server.admin.inspection_routes import InspectionController
from aitbc.server.admin.legacy_gateway import CoordinatorHealthRoutes, gateway_routes
from aitbc.server.admin.operations_routes import OperationsController
from aitbc.server.admin.security_txt import security_routes
from aitbc.server.asgi.access_log import AccessLog
from aitbc.server.asgi.app_options import (
    app_options,
    check_routes,
    handlers,
    path_pattern,
    raw_bodies,
    resolve_dependencies_in_sequence,
    waiting_routes,
)
from aitbc.server.asgi.boundary import Boundary, Limits, Observer
from aitbc.server.asgi.cross_origin import CrossOrigin, Preflights
from aitbc.server.asgi.deprecations import Deprecations, deprecated_routes
from aitbc.server.asgi.fast_path import FastPath, FastRoutes
from aitbc.server.asgi.openapi_pages import documentation
from aitbc.server.asgi.pages import Pages
from aitbc.server.cluster.gateway import Gateway
from aitbc.server.cluster.internal_api import InternalApi
from aitbc.server.cluster.legacy_key import GatewayKey
from aitbc.server.cluster.peers import Peer
from aitbc.server.config.placement import COORDINATOR_PORTS, LEGACY_COORDINATOR_PREFIX, LEGACY_PREFIX, MAIN
from aitbc.server.runtime.bootstrap import Runtime
from aitbc.server.runtime.routers import Application, OwnRouter
from aitbc.server.runtime.traces import Spanned, Traces, traces_of
from aitbc.server.runtime.wiring import Wired
from aitbc.server.webhooks.routes import DeliveryController, EndpointController

TITLE = "AITBC"
DESCRIPTION = (
    "A self-hosted marketplace for GPU compute. Amounts are decimal strings in AITBC, times are RFC 3339 in UTC, lists are "
    "pages with a cursor, and every failure is a problem document with a stable code."
)
GUARD = "guard"
"""The app state's key of its `Guard`: the fast path shares it, since it knows which commands are in progress."""
TRACES = "traces"
"""The app state's key of its `Traces`, or of none."""
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def litestar(runtime: Runtime, build: Build, metrics: Metrics, pages: Pages | None = None) -> Litestar:
    """The Litestar application: the routes of every module and of the kernel, and in the main process of the pages.

    Raises when a route declares no permission.

    The gateway's process has the routes of all modules: those of modules in other processes are described and never
    reached. The process of a split module has its own and those of health.
    """
    guard = Guard(runtime.identity, runtime.denials)
    traces = traces_of(runtime.settings.traces, runtime.placement.process)

    async def guarded(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        await guard(connection, handler)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        try:
            async with runtime.running():
                yield
        finally:
            if traces is not None:
                await asyncio.to_thread(traces.close)

    app = Application(
        [*_routers(runtime, build), HealthRoutes, CoordinatorHealthRoutes, *(() if pages is None else (pages.router,))],
        guards=[guarded],
        dependencies=dependencies(),
        lifespan=[lifespan],
        **app_options(),
    )
    _collect_metrics(runtime, metrics)
    app.state[GUARD] = guard
    app.state[TRACES] = traces
    app.state[STATE] = _health(runtime, build, metrics)
    check_routes(app)
    resolve_dependencies_in_sequence(app)
    return app


def _routers(runtime: Runtime, build: Build) -> list[Router | type[Controller]]:
    """The routers of the modules that are shown here, and in the main process those of the kernel."""
    wired, is_main = runtime.wired, runtime.placement.process == MAIN
    shown = runtime.modules if is_main else wired.modules
    return [
        *(
            OwnRouter(
                f"/api/v1/{module.name}",
                route_handlers=list(module.routes),
                dependencies=_dependencies(module, wired),
            )
            for module in shown
        ),
        *(
            OwnRouter("/", route_handlers=list(module.protocol), dependencies=_dependencies(module, wired))
            for module in shown
            if module.protocol
        ),
        *_legacy_routers(shown, wired),
        *(_kernel_routers(runtime, build) if is_main else ()),
    ]


def _collect_metrics(runtime: Runtime, metrics: Metrics) -> None:
    """Register the metrics of webhooks, of each service that has some, and of the bus."""
    metrics.collector("webhooks", runtime.webhooks.measure)
    metrics.collector("hooks", runtime.platform.hooks.measure)
    runtime.installed.metrics = metrics
    for name, service in runtime.wired.services.items():
        if hasattr(service, "measure"):
            metrics.collector(name, service.measure)
    if runtime.platform.bus is not None:
        metrics.collector("bus", runtime.platform.bus.measure)


def _kernel_routers(runtime: Runtime, build: Build) -> list[Router | type[Controller]]:
    """The kernel's own routers: identity, operations, webhooks, documentation, and the legacy gateway's endpoints."""
    names = [name for module in runtime.modules if (name := LEGACY_PREFIX.get(module.name)) is not None]
    return [
        OwnRouter(
            "/api/v1/identity",
            route_handlers=[AccountController, KeyController, SessionController],
            dependencies={"identity": _provided(runtime.identity), "sessions": _provided(runtime.sessions)},
        ),
        OwnRouter(
            "/api/v1/operations",
            route_handlers=[OperationsController, InspectionController],
            dependencies={
                "operations": _provided(runtime.operations),
                "directory": _provided(runtime.directory),
                "described": _provided_by(lambda: runtime.described),
                "database_inspection": _provided(runtime.database_inspection),
                "log_levels": _provided(runtime.log_levels),
            },
        ),
        OwnRouter(
            "/api/v1/webhooks",
            route_handlers=[EndpointController, DeliveryController],
            dependencies={
                "webhook_endpoints": _provided(runtime.webhooks.endpoints),
                "webhook_log": _provided(runtime.webhooks.log),
            },
        ),
        gateway_routes({name: f"/{name}" for name in (*names, LEGACY_COORDINATOR_PREFIX)}),
        security_routes(runtime.settings.server.security_contact),
        documentation(title=TITLE, version=build.api, description=DESCRIPTION),
    ]


def _legacy_routers(modules: Sequence[Module], wired: Wired) -> list[Router]:
    """The legacy paths, each module's under its own prefix and the coordinator's under that of the coordinator."""
    found: list[Router] = []
    for module in modules:
        for prefix, controllers in (
            (LEGACY_PREFIX.get(module.name), module.legacy),
            (LEGACY_COORDINATOR_PREFIX, module.legacy_coordinator),
            *((LEGACY_PREFIX[name], controllers) for name, controllers in module.legacy_elsewhere.items()),
        ):
            if controllers:
                found.append(
                    OwnRouter(
                        f"/{prefix}",
                        route_handlers=list(controllers),
                        dependencies=_dependencies(module, wired),
                        opt={"module": module.name},
                        include_in_schema=False,
                    )
                )
    return found


def _coordinator(app: Litestar) -> Callable[[str, str], str | None]:
    """Finds the module that answers a path of the legacy coordinator."""
    routes: list[tuple[str, Pattern[str], str]] = []
    for handler, path, methods in handlers(app):
        if path.startswith(f"/{LEGACY_COORDINATOR_PREFIX}/") and "module" in handler.opt:
            pattern = path_pattern(path)
            routes += [(method, pattern, handler.opt["module"]) for method in methods if method != "OPTIONS"]

    def owner(method: str, path: str) -> str | None:
        fits = {verb: module for verb, pattern, module in routes if pattern.match(path)}
        return fits.get("GET" if method == "HEAD" else method) or next(iter(fits.values()), None)

    return owner


def _elsewhere(modules: Sequence[Module]) -> dict[str, str]:
    """The single legacy paths that another module answers than the one whose prefix they have, with that module."""
    return {
        f"/{LEGACY_PREFIX[name]}{vars(controller)['path']}": module.name
        for module in modules
        for name, controllers in module.legacy_elsewhere.items()
        for controller in controllers
    }


def asgi_app(app: Litestar, runtime: Runtime, metrics: Metrics, pages: Pages | None = None) -> ASGIApp:
    """The layers: internal API, access log, CORS, deprecations, boundary, gateway, fast path, and the application.

    Pages call the API below the boundary, and show its errors as pages above it.
    """
    settings = runtime.settings.server
    limits = Limits(
        body_bytes=settings.max_body_bytes,
        body_seconds=settings.body_seconds,
        in_flight=settings.in_flight_max,
        waiting=settings.poll_max,
    )
    hosts = LOOPBACK_NAMES | {settings.host} | set(settings.hosts)
    routed, origins, is_main = _routed(app, runtime), frozenset(settings.origins), runtime.placement.process == MAIN
    has_origins = bool(origins) and is_main
    boundary = Boundary(
        Preflights(routed, origins) if has_origins else routed,
        limits,
        hosts,
        origins,
        raw_bodies(app),
        watch=_watched(metrics, app.state[TRACES]),
        dialect_of=_dialect_of(runtime),
    )
    metrics.gauge("aitbc_websockets_open", "WebSockets that are open.").set_function(lambda: boundary.sockets)
    outer: ASGIApp = boundary if app.state[TRACES] is None else Spanned(boundary)
    if is_main and (deprecated := deprecated_routes(app)):
        outer = Deprecations(outer, deprecated)
    if has_origins:
        outer = CrossOrigin(outer, origins)
    if pages is not None:
        pages.connect(routed)
        outer = pages.around(outer)
    logged = AccessLog(outer)
    if not runtime.placement.has_peers:
        return logged
    faces = {module.name: (module.api, runtime.wired.services[module.name]) for module in runtime.wired.modules}
    port = runtime.placement.internal_listener.port if runtime.placement.internal_listener is not None else None
    own = runtime.installed.own_operations()
    return InternalApi(logged, runtime.tokens, faces, runtime.wired.event_handlers, runtime.process, port, own)


def _watched(metrics: Metrics, traces: Traces | None) -> Observer:
    """Who is told of each request."""
    if traces is None:
        return metrics.observe

    def observe(scope: Scope, status: int, seconds: float) -> None:
        metrics.observe(scope, status, seconds)
        traces.observe(scope, status, seconds)

    return observe


def _dialect_of(runtime: Runtime) -> Callable[[Scope], Dialect | None]:
    """Finds the dialect of a request.

    A module's own port speaks the dialects of its modules only, and the legacy coordinator's ports none: their other
    paths are legacy ones, whatever they look like.
    """
    dialects = {module.name: module.dialect for module in runtime.modules if module.dialect is not None}
    everywhere = list(dialects.values())
    by_port = {
        port: [] if port in COORDINATOR_PORTS else [dialects[name] for name in modules if name in dialects]
        for port, modules in runtime.placement.ports.items()
    }

    def dialect_of(scope: Scope) -> Dialect | None:
        port = (scope.get("server") or (None, None))[1]
        return dialect_at(everywhere if port is None else by_port.get(port, everywhere), scope["path"])

    return dialect_of


def _routed(app: Litestar, runtime: Runtime) -> ASGIApp:
    """The application behind the fast path, and behind the gateway where there is more than one port or process."""
    fast = FastPath(IdempotencyMiddleware(app), FastRoutes(app, _offered(runtime)), app.state[GUARD])
    key = GatewayKey.of(runtime.settings.gateway) if runtime.placement.process == MAIN else None
    if not (runtime.placement.ports or runtime.peers or key is not None):
        return fast
    return Gateway(
        fast,
        runtime.placement,
        runtime.peers,
        _coordinator(app),
        runtime.loopback_key,
        elsewhere=_elsewhere(runtime.modules),
        waits=waiting_routes(app),
        key=key,
        breaker_seconds=runtime.settings.gateway.breaker_seconds,
    )


def _offered(runtime: Runtime) -> dict[str, Any]:
    """What routes may inject by name: the kernel's own parts, and those of the modules' services."""
    kernel_parts = {
        "identity": runtime.identity,
        "sessions": runtime.sessions,
        "operations": runtime.operations,
        "webhook_endpoints": runtime.webhooks.endpoints,
        "webhook_log": runtime.webhooks.log,
        "directory": runtime.directory,
    }
    offered = [kernel_parts, *(runtime.wired.offered(module) for module in runtime.wired.modules)]
    found = {name: thing for each in offered for name, thing in each.items()}
    assert len(found) == sum(map(len, offered)), "two modules offer their routes a part of the same name"
    return found


def _dependencies(module: Module, wired: Wired) -> dict[str, Provide]:
    return {name: _provided(thing) for name, thing in wired.offered(module).items()}


def _provided_by(ask: Callable[[], Any]) -> Provide:
    """A provider of what is known only later."""

    async def provide() -> Any:
        return ask()

    return Provide(provide)


def _provided(thing: Any) -> Provide:
    """A provider as a closure: the framework would copy the object of a bound method."""

    async def provide() -> Any:
        return thing

    return Provide(provide)


def _health(runtime: Runtime, build: Build, metrics: Metrics) -> Health:
    async def may_see(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
        try:
            return (await runtime.identity.authenticate(bearer(connection.scope))).may("health:read")
        except AppError:
            return False

    checks: dict[str, Callable[[], Any]] = dict(runtime.installed.looks.checks)
    if runtime.placement.process == MAIN:
        checks |= {module: _is_ready(peer) for module, peer in runtime.peers.items()}
    return Health(
        checks,
        build=build,
        draining=runtime.platform.draining,
        metrics=metrics,
        may_see=may_see,
        schema={part.name: head_of(part) for part in runtime.parts},
    )


def _is_ready(peer: Peer) -> Callable[[], Awaitable[str | None]]:
    """The readiness of another process, as it reports it."""

    async def check() -> str | None:
        return await peer.readiness()

    return check
