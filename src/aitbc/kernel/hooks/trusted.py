"""Trusted plugins: Python packages that the operator installed and named in the settings; they run in the process.

A package has an entry point of the group `aitbc.plugins`, which names a module or an object; its functions that are
marked with `@plugin_hook` are asked. What they do in the process nobody contains but their author: only exceptions,
wrong answers and coroutines that take too long end here.
"""

import asyncio
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any, NamedTuple, TypeVar

import structlog

from aitbc.kernel.hooks.hooks import Inner
from aitbc.kernel.hooks.kinds import JobKind
from aitbc.kernel.hooks.points import Hook
from aitbc.kernel.hooks.routes import ROUTE_MARK, Route, route_hook

GROUP = "aitbc.plugins"
ROUTES = "routes"
PLACES = {"first": 0, "usual": 50, "last": 1000, ROUTES: 50}
_MARK = "__aitbc_hook__"

log = structlog.get_logger("aitbc.hooks")
F = TypeVar("F", bound=Callable[..., Any])


class _Mark(NamedTuple):
    hook: str
    wraps: bool
    place: str


def plugin_hook(hook: Hook[Any, Any], *, wraps: bool = False, place: str = "usual") -> Callable[[F], F]:
    """Mark a function, or a coroutine function, that is asked at a hook.

    It takes the question; with `wraps` also `inner`, by which it asks those behind it. `place` is `first`, `usual` or
    `last`; the operator's plugins of the registry stand between `usual` and `last`.
    """
    assert place in PLACES, f"there are the places {', '.join(PLACES)}"

    def mark(function: F) -> F:
        setattr(function, _MARK, _Mark(hook.key, wraps, place))
        return function

    return mark


class Trusted:
    """The functions of one place of one package."""

    def __init__(
        self,
        name: str,
        version: str,
        priority: int,
        functions: Mapping[_Mark, Callable[..., Any]],
        routes: Sequence[Route] = (),
    ) -> None:
        self.name = name
        self.routes = tuple(routes)
        self.version = version
        self.priority = priority
        self.hooks = frozenset(mark.hook for mark in functions if not mark.wraps)
        self.wraps = frozenset(mark.hook for mark in functions if mark.wraps)
        self._functions = {(mark.hook, mark.wraps): function for mark, function in functions.items()}

    async def ask(self, hook: Hook[Any, Any], question: Any, inner: Inner | None) -> Any:
        """What its function returns. Raises what that raises, and `TimeoutError` of a coroutine."""
        function = self._functions[hook.key, inner is not None]
        answer = function(question) if inner is None else function(question, inner)
        if not inspect.isawaitable(answer):
            return answer
        async with asyncio.timeout(hook.seconds):
            return await answer

    def close(self) -> None:
        """It holds nothing."""


def trusted_plugins(allowed: list[str]) -> list[Trusted]:
    """The plugins of the packages that the settings name; what is installed beside them is not loaded."""
    return [plugin for point, package in _allowed(allowed) for plugin in _loaded(point, package)]


def trusted_kinds(allowed: list[str]) -> list[JobKind]:
    """The kinds of work that the same packages add; of those with one name the first."""
    found: dict[str, JobKind] = {}
    for point, package in _allowed(allowed):
        for _, kind in inspect.getmembers(_thing(point, package), lambda member: isinstance(member, JobKind)):
            if (wrong := kind.wrong()) is not None:
                log.error("kind_refused", plugin=package.name, kind=kind.name, reason=wrong)
            else:
                found.setdefault(kind.name, kind)
    return list(found.values())


def _allowed(allowed: list[str]) -> Iterator[tuple[EntryPoint, Distribution]]:
    """The entry points of the packages that the settings name, whose files have the digest that they say."""
    wanted = {name: pinned.strip() for name, _, pinned in (one.strip().partition(" ") for one in allowed)}
    if not wanted:
        return
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        package = point.dist
        if package is None or package.name not in wanted:
            continue
        pinned = wanted[package.name]
        if pinned and files_digest(package) != pinned:
            log.error("plugin_refused", plugin=package.name, reason="its files are not those of the settings' digest")
            continue
        yield point, package


def _thing(point: EntryPoint, package: Distribution) -> Any:
    """What an entry point names; none where it cannot be loaded."""
    try:
        return point.load()
    except Exception as error:  # noqa: BLE001 - a broken package is its author's matter
        log.error("plugin_refused", plugin=package.name, reason=f"{type(error).__name__}: {error}")
        return None


def _loaded(point: EntryPoint, package: Distribution) -> list[Trusted]:
    """The plugins of an entry point, one for each place; none where it cannot be loaded."""
    thing = _thing(point, package)
    places: dict[str, dict[_Mark, Callable[..., Any]]] = {}
    routes: list[Route] = []
    for _, member in sorted(inspect.getmembers(thing, callable)):
        mark, route = getattr(member, _MARK, None), getattr(member, ROUTE_MARK, None)
        if isinstance(mark, _Mark):
            places.setdefault(mark.place, {})[mark] = member
        if isinstance(route, Route):
            routes.append(route)
            key = route_hook(package.name, route.verb, route.name).key
            places.setdefault(ROUTES, {})[_Mark(key, False, ROUTES)] = member
    return [
        Trusted(
            f"{package.name}:{point.name}:{place}",
            package.version,
            PLACES[place],
            functions,
            routes if place == ROUTES else (),
        )
        for place, functions in places.items()
    ]


def files_digest(package: Distribution) -> str:
    """The digest of a package's own files by their names, without what Python compiles of them: `sha256:…`."""
    total = hashlib.sha256()
    for file in sorted(package.files or [], key=str):
        if file.suffix == ".pyc" or ".dist-info/" in str(file):
            continue
        path = package.locate_file(file)
        total.update(str(file).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())  # type: ignore[attr-defined]
    return f"sha256:{total.hexdigest()}"
