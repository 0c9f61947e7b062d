"""The HTTP of what trusted packages answer below their own names."""

from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta

from aitbc.kernel.primitives.errors import Forbidden
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.plugins.routes.bodies import CallPluginRoute
from aitbc.modules.plugins.routes.publishing import READ, WRITE, Who
from aitbc.modules.plugins.service.plugin_routes import (
    PluginRoute,
    PluginRouteAnswer,
    PluginRouteFailed,
    PluginRouteNotFound,
    PluginRouteRefused,
    PluginRoutes,
)

Argument = Annotated[str, Meta(max_length=500)]
REFUSALS = (PluginRouteNotFound, Forbidden, PluginRouteRefused, PluginRouteFailed)


class PluginRouteController(Controller):
    """Routes of packages that the settings trust."""

    path = "/routes"
    tags = ("plugins",)

    @get(
        "/",
        operation_id="list_plugin_routes",
        summary="List the routes of trusted plugins",
        opt={"permission": READ, "errors": (InvalidCursor,)},
    )
    async def all(
        self,
        plugin_routes: NamedDependency[PluginRoutes],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[PluginRoute]:
        """List what the packages that the settings trust answer, and which scope each demands."""
        after = Page.position("plugin_routes", cursor) or ""
        found = [one for one in plugin_routes.all() if _place(one) > after]
        return Page.of("plugin_routes", found[: limit + 1], limit, _place)

    @get(
        "/{package:str}/{route:str}",
        operation_id="read_plugin_route",
        summary="Ask a route of a trusted plugin",
        opt={"permission": READ, "errors": REFUSALS},
    )
    async def read(
        self,
        plugin_routes: NamedDependency[PluginRoutes],
        who: Who,
        package: FromPath[str],
        route: FromPath[str],
        argument: FromQuery[Argument] = "",
    ) -> PluginRouteAnswer:
        """Ask a route that changes nothing."""
        return await plugin_routes.call(who, "GET", package, route, argument=argument, arguments={})

    @post(
        "/{package:str}/{route:str}",
        status_code=200,
        operation_id="call_plugin_route",
        summary="Call a route of a trusted plugin",
        opt={"permission": WRITE, "idempotency": "natural", "errors": REFUSALS},
    )
    async def call(
        self,
        plugin_routes: NamedDependency[PluginRoutes],
        who: Who,
        package: FromPath[str],
        route: FromPath[str],
        data: JSONBody[CallPluginRoute],
    ) -> PluginRouteAnswer:
        """Call a route that may change something; its author sees to it that a repetition changes nothing more."""
        return await plugin_routes.call(who, "POST", package, route, argument="", arguments=data.arguments)


def _place(one: PluginRoute) -> str:
    return f"{one.package} {one.route} {one.verb}"
