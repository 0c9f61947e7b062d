"""Routes of trusted plugins: what a package answers to callers of the API, below its own name.

A route is asked as a hook of its own: what its function does wrong ends there, is counted, and makes the plugin rest.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from msgspec import Struct

from aitbc.kernel.hooks.points import Hook

ROUTE_MARK = "__aitbc_route__"
SECONDS = 10.0
F = TypeVar("F", bound=Callable[..., Any])
Verb = Literal["GET", "POST"]


class RouteAsked(Struct, frozen=True, kw_only=True):
    """A call of a route, by somebody whose key has the scope that the route demands."""

    at: int
    """Seconds since 1970, UTC."""
    account: str
    scopes: frozenset[str]
    """Those of the caller's key."""
    argument: str
    """What a GET names; empty for nothing."""
    arguments: Mapping[str, Any]
    """What a POST brings; a repeated one must have no further effect."""


class RouteAnswer(Struct, frozen=True, kw_only=True):
    """What the caller is answered."""

    body: dict[str, Any]
    refusal: str = ""
    """Why the call is refused, in words that its caller may read; empty where it is not."""


class Route(NamedTuple):
    """A route of a package."""

    name: str
    verb: Verb
    permission: str
    """The scope that a caller's key must have."""
    summary: str


def plugin_route(
    name: str, *, verb: Verb = "GET", permission: str = "plugins:read", summary: str = ""
) -> Callable[[F], F]:
    """Mark a function, or a coroutine function, that takes `RouteAsked` and gives `RouteAnswer`."""
    assert name.replace("-", "").isalnum(), "the name of a route is made of letters, digits and dashes"

    def mark(function: F) -> F:
        setattr(function, ROUTE_MARK, Route(name, verb, permission, summary))
        return function

    return mark


def route_hook(package: str, verb: Verb, name: str) -> Hook[RouteAsked, RouteAnswer]:
    """The hook by which a route is asked."""
    return Hook(f"route {verb} {package}/{name}", 1, RouteAsked, RouteAnswer, lambda _, __: None, seconds=SECONDS)
