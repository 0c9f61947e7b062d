"""Marks every answer of a deprecated route, refusals too, with `Deprecation` and `Sunset`; not there without one."""

import re
from typing import Any

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from aitbc.server.asgi.app_options import handlers, path_pattern

Routes = list[tuple[str, re.Pattern[str], list[tuple[bytes, bytes]]]]
"""Method, path and headers of each deprecated route."""


def deprecated_routes(app: Litestar) -> Routes:
    """The deprecated routes of an application."""
    return [
        (method, path_pattern(path), deprecated.headers())
        for handler, path, methods in handlers(app)
        if (deprecated := handler.opt.get("deprecated")) is not None
        for method in methods
    ]


class Deprecations:
    """The layer outside of the boundary."""

    def __init__(self, app: ASGIApp, routes: Routes) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        added = self._headers(scope) if scope["type"] == ScopeType.HTTP else []
        if not added:
            await self._app(scope, receive, send)
            return

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, send_marked)

    def _headers(self, scope: Any) -> list[tuple[bytes, bytes]]:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        found = (headers for verb, path, headers in self._routes if verb == method and path.match(scope["path"]))
        return next(found, [])
