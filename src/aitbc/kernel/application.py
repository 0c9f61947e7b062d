"""One application out of a house: every module under its path, behind one guard, inside one boundary."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Router
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp

from aitbc.kernel.access_log import AccessLog
from aitbc.kernel.boundary import Boundary, Limits
from aitbc.kernel.build import Build
from aitbc.kernel.doors import Guard, Leaving, bearer, dependencies
from aitbc.kernel.errors import AppError
from aitbc.kernel.gateway import Gateway
from aitbc.kernel.health import STATE, Health, HealthRoutes, database_answers, disk_has_room
from aitbc.kernel.house import House
from aitbc.kernel.http import manners, raw_bodies, seal
from aitbc.kernel.identity_routes import AccountController, KeyController
from aitbc.kernel.inner import InnerDoors
from aitbc.kernel.metrics import Metrics
from aitbc.kernel.migrations import head_of
from aitbc.kernel.openapi_pages import documentation
from aitbc.kernel.operations_routes import OperationsController
from aitbc.kernel.places import MAIN
from aitbc.kernel.roads import Neighbour

TITLE = "AITBC"
DESCRIPTION = (
    "A self-hosted marketplace for GPU compute. Amounts are decimal strings in AITBC, times are RFC 3339 in UTC, lists are "
    "pages with a cursor, and every failure is a problem document with a stable code."
)
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def litestar(house: House, build: Build, metrics: Metrics) -> Litestar:
    """The routes of every module and of the kernel itself. Raises when one of them declares no permission."""
    wired = house.wired
    # The gateway's process has the routes of all modules: those of modules elsewhere are described and never reached.
    shown = house.modules if house.places.me == MAIN else wired.modules
    routers = [
        Router(
            f"/api/v1/{module.name}",
            route_handlers=list(module.routes),
            dependencies={module.name: _provided(wired.services.get(module.name))},
        )
        for module in shown
    ]
    routers.append(
        Router(
            "/api/v1/identity",
            route_handlers=[AccountController, KeyController],
            dependencies={"identity": _provided(house.identity)},
        )
    )
    routers.append(
        Router(
            "/api/v1/operations",
            route_handlers=[OperationsController],
            dependencies={"operations": _provided(house.operations), "house": _provided(house)},
        )
    )
    for name, service in wired.services.items():
        if hasattr(service, "measure"):
            metrics.collector(name, service.measure)
    door = Guard(house.identity)

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        await door(connection, handler)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with house.running():
            yield

    app = Litestar(
        [*routers, HealthRoutes, documentation(title=TITLE, version=build.api, description=DESCRIPTION)],
        guards=[guard],
        dependencies=dependencies(),
        lifespan=[lifespan],
        **manners(),
    )
    app.state[STATE] = _health(house, build, metrics)
    seal(app)
    return app


def bounded(app: Litestar, house: House, metrics: Metrics) -> ASGIApp:
    """The application behind the boundary, which every request passes first, with one line in the log for each.

    Between the two stands the gateway, where there is another port or another process to tell apart.
    """
    settings = house.settings.server
    limits = Limits(
        body_bytes=settings.max_body_bytes,
        body_seconds=settings.body_seconds,
        in_flight=settings.in_flight_max + settings.poll_max,
    )
    hosts = LOOPBACK_NAMES | {settings.host} | set(settings.hosts)
    inner: ASGIApp = Leaving(app)
    if house.places.ports or house.neighbours:
        inner = Gateway(inner, house.places, house.neighbours)
    outer = Boundary(inner, limits, hosts, frozenset(settings.origins), raw_bodies(app), watch=metrics.observe)
    logged = AccessLog(outer)
    if house.places.socket is None:
        return logged
    faces = {module.name: (module.api, house.wired.services[module.name]) for module in house.wired.modules}
    return InnerDoors(logged, house.tokens, faces, house.wired.hearers, house.process)


def _provided(thing: Any) -> Provide:
    """A closure on purpose: the framework would copy what a bound method belongs to."""

    async def give() -> Any:
        return thing

    return Provide(give)


def _health(house: House, build: Build, metrics: Metrics) -> Health:
    async def may_see(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
        try:
            return (await house.identity.authenticate(bearer(connection))).may("health:read")
        except AppError:
            return False

    checks: dict[str, Callable[[], Any]] = {
        "database": database_answers(house.databases),
        "disk": disk_has_room(house.settings.state_dir),
        "signer": house.signer_answers,
    }
    if house.places.me == MAIN:
        checks |= {module: _is_ready(neighbour) for module, neighbour in house.neighbours.items()}
    return Health(
        checks,
        build=build,
        draining=house.platform.draining,
        metrics=metrics,
        may_see=may_see,
        schema={part.name: head_of(part) for part in house.parts},
    )


def _is_ready(neighbour: Neighbour) -> Callable[[], Awaitable[str | None]]:
    """The readiness of another process, as it tells itself."""

    async def check() -> str | None:
        return await neighbour.readiness()

    return check
