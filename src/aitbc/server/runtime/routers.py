"""Routers and application as Litestar's, whose registration repeats nothing: that was a third of a start's CPU time.

A router of Litestar may be registered in several applications, so it is copied deeply with each handler, and for each
path the map of all paths before it is made anew. Ours belong to one application.
"""

import copy
import functools
import types
from collections import defaultdict
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from litestar import Controller, Litestar, Router
from litestar.handlers import BaseRouteHandler
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin
from litestar.routes import ASGIRoute, BaseRoute, HTTPRoute, WebSocketRoute
from litestar.types import ControllerRouterHandler
from litestar.types.internal_types import RouteHandlerMapItem

_MUTABLE = ("opt", "_response_handler_mapping")
"""What a handler changes in place when it is registered; everything else it replaces."""


class _PathMap:
    """Handlers by path and method, made once from the routes that there are and then from those that come."""

    def __init__(self) -> None:
        self._routes: list[BaseRoute] = []
        self._handlers: dict[str, RouteHandlerMapItem] = defaultdict(dict)

    def of(self, routes: Sequence[BaseRoute]) -> dict[str, RouteHandlerMapItem]:
        """The map of these routes."""
        if list(routes[: len(self._routes)]) != self._routes:  # one of them was replaced by one with more methods
            self._routes, self._handlers = [], defaultdict(dict)
        for route in routes[len(self._routes) :]:
            self._add(route)
        self._routes = list(routes)
        return self._handlers

    def _add(self, route: BaseRoute) -> None:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                self._handlers[route.path].update(dict.fromkeys(handler.http_methods, handler))
        elif isinstance(route, WebSocketRoute):
            self._handlers[route.path]["websocket"] = route.route_handler
        elif isinstance(route, ASGIRoute):
            self._handlers[route.path]["asgi"] = route.route_handler


class _Registering(Router):
    """What router and application do otherwise than Litestar's: see above."""

    @property
    def route_handler_method_map(self) -> dict[str, RouteHandlerMapItem]:
        """The handlers of each path, by method."""
        paths: _PathMap = self.__dict__.setdefault("_paths", _PathMap())
        return paths.of(self.routes)

    def _validate_registration_value(self, value: ControllerRouterHandler) -> Any:
        if isinstance(value, type) and issubclass(value, Controller):
            controller = value(owner=self)
            setattr(controller, "get_route_handlers", functools.partial(_handlers_of, controller))  # noqa: B010
            return controller.as_router()
        if isinstance(value, Router):
            value.owner = self
            return value
        return super()._validate_registration_value(value)


class OwnRouter(_Registering):
    """A router of one application."""


class Application(_Registering, Litestar):
    """Litestar without its plugins for other model libraries, which cost 6 MiB a process: we use msgspec."""

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return [*plugins, MsgspecDIPlugin()]


def _handlers_of(controller: Controller) -> list[BaseRouteHandler]:
    """A controller's handlers as those of one application: copies that share what no registration changes in place."""
    kept = set(dir(Controller))
    found = (getattr(controller, name) for name in dir(controller) if name not in kept)
    handlers = []
    for declared in sorted((one for one in found if isinstance(one, BaseRouteHandler)), key=attrgetter("handler_id")):
        handler = copy.copy(declared)
        for name in _MUTABLE:
            if hasattr(handler, name):
                setattr(handler, name, dict(getattr(handler, name)))
        handler._fn = types.MethodType(handler._fn, controller)  # noqa: SLF001 - as Litestar's own controller does it
        handler.owner = controller
        handlers.append(handler)
    controller.validate_route_handlers(handlers)
    return handlers
