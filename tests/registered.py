"""Litestar applications that are registered once, and serve one installation of a test after the other.

To register eight hundred handlers is most of what the start of an application takes, and gives the same each time: the
services that handlers get are all that is another installation's. So an application whose installation has ended is kept, and
the next one with the same routes in this process, or in one that was forked from it, has its own services put in their
places. Two that live at once never share one. Servers that are started as programs register like any other.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from litestar import Litestar, Router
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler
from litestar.utils.helpers import unwrap_partial

from aitbc.server.runtime import application
from aitbc.server.runtime.routers import Application, OwnRouter
from aitbc.web import site


class Outline:
    """What a router is made of, before it registers anything."""

    kind: type[Router] = Router

    def __init__(self, path: str, *, route_handlers: Sequence[Any], **options: Any) -> None:
        self.path = path
        self.route_handlers = route_handlers
        self.dependencies = options.pop("dependencies", {})
        self.options = options

    def made(self) -> Router:
        """The router itself."""
        handlers = list(self.route_handlers)
        return self.kind(self.path, route_handlers=handlers, dependencies=self.dependencies, **self.options)

    @property
    def key(self) -> Any:
        """All of it but the services."""
        handlers, services = tuple(map(_key_of, self.route_handlers)), tuple(self.dependencies)
        return self.kind, self.path, handlers, services, repr(sorted(self.options.items()))


class OwnOutline(Outline):
    """That of a router of a module, or of the kernel."""

    kind = OwnRouter


class Registered:
    """A registered application, and the places of what belongs to an installation."""

    def __init__(self, key: Any, routers: Sequence[Any], options: dict[str, Any]) -> None:
        self.key = key
        self._guard: Any = None
        self._places = list(_services(routers))
        made = [one.made() if isinstance(one, Outline) else one for one in routers]
        self.app = Application(made, guards=[self._guarded], lifespan=[], **options)
        self._managers = list(self.app._lifespan_managers)

    async def _guarded(self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        await self._guard(connection, handler)

    def serve(self, routers: Sequence[Any], guard: Any, lifespan: Sequence[Any]) -> Litestar:
        """The application of this installation."""
        for place, service in zip(self._places, _services(routers), strict=True):
            place.dependency = service.dependency
        self._guard = guard
        self.app._lifespan_managers[:] = [*lifespan, *self._managers]
        return self.app

    def rest(self) -> None:
        """Belong to nobody, and keep nothing of an installation that has ended."""
        for place in self._places:
            place.dependency = None
        self._guard = None
        self.app._lifespan_managers.clear()
        self.app.state = State()


_resting: dict[Any, list[Registered]] = defaultdict(list)
_serving: dict[int, Registered] = {}


def register_once() -> None:
    """From now on applications of this process are taken from those that rest, where one has the same routes."""
    for module, name, stand_in in (
        (application, "Application", _application),
        (application, "OwnRouter", OwnOutline),
        (site, "Router", Outline),
    ):
        assert hasattr(module, name)
        setattr(module, name, stand_in)


def release(app: Litestar) -> None:
    """Let the next installation have this application: its own has ended."""
    registered = _serving.pop(id(app))
    registered.rest()
    _resting[registered.key].append(registered)


def _application(routers: Sequence[Any], *, guards: Sequence[Any], lifespan: Sequence[Any], **options: Any) -> Litestar:
    key = tuple(map(_key_of, routers))
    if not _resting[key]:
        _resting[key].append(Registered(key, routers, options))
    registered = _resting[key].pop()
    _serving[id(registered.app)] = registered
    (guard,) = guards
    return registered.serve(routers, guard, lifespan)


def _services(routers: Sequence[Any]) -> Iterator[Any]:
    """The providers of the services of all routers, in their order."""
    for one in routers:
        if isinstance(one, Outline):
            yield from one.dependencies.values()


def _key_of(routed: Any) -> Any:
    """What tells a router, a controller or a handler from others: of a controller made in a function, what that was given."""
    if isinstance(routed, Outline):
        return routed.key
    if isinstance(routed, type) and "<locals>" in routed.__qualname__:
        handlers = (value for value in vars(routed).values() if isinstance(value, BaseRouteHandler))
        cells = (cell for one in handlers for cell in unwrap_partial(one.fn).__closure__ or ())
        return routed.__module__, routed.__qualname__, *(repr(cell.cell_contents) for cell in cells)
    if isinstance(routed, Router):
        return type(routed), routed.path, len(routed.routes)
    return id(routed)
