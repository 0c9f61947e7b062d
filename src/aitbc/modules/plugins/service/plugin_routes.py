"""Routes of trusted plugins: listed, and called under the scope that each demands."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Struct

from aitbc.kernel.hooks.hooks import Hooks
from aitbc.kernel.hooks.routes import Route, RouteAsked, Verb, route_hook
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, NotFound, Unavailable
from aitbc.kernel.primitives.json_schema import one_of

ANSWER_BYTES_MAX = 1024 * 1024


class PluginRouteNotFound(NotFound):
    """No package that the settings trust has such a route."""

    code = "plugin_route_not_found"


class PluginRouteRefused(Conflict):
    """The plugin refuses this call; the message says why."""

    code = "plugin_route_refused"


class PluginRouteFailed(Unavailable):
    """The plugin gave no answer that can be passed on, or rests after others that it did not give."""

    code = "plugin_route_failed"


class PluginRoute(Struct, frozen=True, kw_only=True):
    """A route of a package that the settings trust."""

    package: str
    """The package. For example `house-rules`."""
    route: str
    """Its name. For example `limits`."""
    verb: Annotated[str, one_of(("GET", "POST"))]
    """`GET` for one that changes nothing. For example `GET`."""
    permission: str
    """The scope that a key needs for it. For example `plugins:read`."""
    summary: str
    """What it answers, as its author says. For example `The most that a job of this house may cost.`."""


class PluginRouteAnswer(Struct, frozen=True, kw_only=True):
    """What a route of a package answered."""

    package: str
    """The package. For example `house-rules`."""
    route: str
    """The route. For example `limits`."""
    body: dict[str, Any]
    """What it said. For example `{"max_price": "100"}`."""


class PluginRoutes:
    """Calls what trusted packages answer."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks

    def all(self) -> Sequence[PluginRoute]:
        """Every route, in the order of packages and names."""
        return [
            PluginRoute(package=package, route=one.name, verb=one.verb, permission=one.permission, summary=one.summary)
            for package, one in self._hooks.routes()
        ]

    async def call(
        self, who: Principal, verb: Verb, package: str, name: str, *, argument: str, arguments: Mapping[str, Any]
    ) -> PluginRouteAnswer:
        """What a route answers.

        Raises `PluginRouteNotFound`, `Forbidden`, `PluginRouteRefused`, `PluginRouteFailed`.
        """
        who.require(self._route(verb, package, name).permission)
        asked = RouteAsked(
            at=int(now().timestamp()),
            account=who.account,
            scopes=who.scopes,
            argument=argument,
            arguments=arguments,
        )
        given = await self._hooks.first(route_hook(package, verb, name), asked)
        if given is None:
            raise PluginRouteFailed
        if given.answer.refusal:
            raise PluginRouteRefused(f"{package} refuses it: {given.answer.refusal[:500]}")
        answer = PluginRouteAnswer(package=package, route=name, body=given.answer.body)
        _check(answer)
        return answer

    def _route(self, verb: Verb, package: str, name: str) -> Route:
        for owner, one in self._hooks.routes():
            if (owner, one.verb, one.name) == (package, verb, name):
                return one
        raise PluginRouteNotFound


def _check(answer: PluginRouteAnswer) -> None:
    """Raises `PluginRouteFailed` for what no JSON can hold, or too much of it."""
    try:
        size = len(msgspec.json.encode(answer))
    except (TypeError, ValueError, RecursionError):
        raise PluginRouteFailed("The plugin answered what no JSON can hold.") from None
    if size > ANSWER_BYTES_MAX:
        raise PluginRouteFailed(f"The plugin answered more than {ANSWER_BYTES_MAX} bytes.")
