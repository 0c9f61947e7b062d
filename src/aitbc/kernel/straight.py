"""The straight way of a simple read: from the boundary to its handler and back, past the machinery that most operations need.

An operation goes this way when its handler takes no more than who asks, one service and the name at the end of its path, and
answers a struct. The handler, its permission and its answer are the same ones; only what the framework would do in between,
for a request that needs none of it, is left out. It decides by itself which operations these are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from litestar import Litestar
from litestar.enums import MediaType, ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.serialization import encode_json
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from aitbc.kernel.auth import PUBLIC, Principal
from aitbc.kernel.contract import contract_of
from aitbc.kernel.errors import AppError
from aitbc.kernel.http import handlers, told

CONTENT_TYPE = (b"content-type", b"application/json")
Admit = Callable[[Any, str], Any]
"""Scope and permission to the caller; see `Guard.admit`."""


@dataclass(frozen=True, slots=True)
class Way:
    """How one operation is answered."""

    call: Callable[..., Any]
    """The handler."""
    given: Mapping[str, Any]
    """What it always gets: its service."""
    caller: str | None
    """The parameter for who asks."""
    name: str | None
    """The parameter for the end of the path."""
    permission: str
    status: int
    template: str
    """The path as logs and metrics show it."""


class Straight:
    """Answers simple reads, and hands everything else on."""

    def __init__(self, app: ASGIApp, ways: "Ways", admit: Admit) -> None:
        self._app = app
        self._ways = ways
        self._admit = admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != ScopeType.HTTP or scope["method"] != "GET" or scope["query_string"]:
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        way, name = self._ways.find(path)
        if way is None:
            await self._app(scope, receive, send)
            return
        body = await self._answer(scope, way, name)
        length = str(len(body)).encode()
        start: Any = {"type": "http.response.start", "status": way.status}
        start["headers"] = [CONTENT_TYPE, (b"content-length", length)]
        await send(start)
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _answer(self, scope: Any, way: Way, name: str) -> bytes:
        """The body of the answer. Raises nothing but an `AppError`, which the boundary tells."""
        scope["path_template"] = way.template
        try:
            who: Principal = await self._admit(scope, way.permission)
            arguments = dict(way.given)
            if way.caller is not None:
                arguments[way.caller] = who
            if way.name is not None:
                arguments[way.name] = name
            return encode_json(await way.call(**arguments))
        except AppError:
            raise
        except Exception as error:
            raise told(error, scope) from error


class Ways:
    """The operations that are answered straight, by their paths."""

    def __init__(self, app: Litestar, things: Mapping[str, Any]) -> None:
        """`things` are the services that handlers may ask for by name."""
        self.fixed: dict[str, Way | None] = {}
        """Paths without a name in them; one that leads to none keeps its siblings' names from matching it."""
        self.named: dict[str, Way] = {}
        """What stands before the name at the end of a path, slash included."""
        for handler, template, methods in handlers(app):
            way = _way(handler, template, things) if "GET" in methods else None
            before, _, last = template.rpartition("/")
            if "{" not in template:
                self.fixed[template] = way or self.fixed.get(template)
            elif way is not None and "{" not in before and last.startswith("{"):
                self.named[f"{before}/"] = way

    def find(self, path: str) -> tuple[Way | None, str]:
        """The way for a path, and the name at its end."""
        if path in self.fixed:
            return self.fixed[path], ""
        before, slash, name = path.rpartition("/")
        return self.named.get(before + slash), name


def _way(handler: Any, template: str, things: Mapping[str, Any]) -> Way | None:
    """The way of a handler; none for one that takes or answers anything out of the ordinary."""
    if not isinstance(handler, HTTPRouteHandler) or handler.handler_name == "options_handler":
        return None
    contract, permission = contract_of(handler), handler.opt["permission"]
    plain = isinstance(contract.answer, type) and issubclass(contract.answer, Struct)
    parameters = list(contract.path.values())
    if not plain or contract.query or contract.any_query or contract.body is not None or handler.opt.get("waits"):
        return None
    if (
        permission == PUBLIC
        or handler.has_sync_callable
        or handler.media_type not in (MediaType.JSON, "application/json")
    ):
        return None
    if len(parameters) > 1 or any(parameter.annotation is not str for parameter in parameters):
        return None
    name = parameters[0].name if parameters else None
    rest = contract.takes - {"who", name}
    if not rest <= things.keys() or (name is not None) != ("{" in template):
        return None
    return Way(
        call=handler.fn,
        given={service: things[service] for service in rest},
        caller="who" if "who" in contract.takes else None,
        name=name,
        permission=permission,
        status=handler.status_code,
        template=template,
    )
