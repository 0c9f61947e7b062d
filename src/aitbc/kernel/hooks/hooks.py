"""The hooks of one process: asks its plugins in their order, contains what they do wrong, and counts it."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, NamedTuple, Protocol, TypeVar

import structlog
from msgspec import Struct
from prometheus_client import Metric

from aitbc.kernel.hooks.kinds import JobKind
from aitbc.kernel.hooks.points import Hook, PluginFailed
from aitbc.kernel.hooks.routes import Route
from aitbc.kernel.hooks.settings import HookSettings
from aitbc.kernel.telemetry.metrics import gauge

log = structlog.get_logger("aitbc.hooks")

Question = TypeVar("Question", bound=Struct)
Answer = TypeVar("Answer", bound=Struct)
Inner = Callable[[Any], Awaitable[Any]]


class Extension(Protocol):
    """A loaded plugin: the same for those in the process, in a sandbox and far away."""

    name: str
    version: str
    priority: int
    """The least is asked first; of equal ones in the order of their names."""
    hooks: frozenset[str]
    """The keys of the hooks at which it is asked."""
    wraps: frozenset[str]
    """The keys of those at which it is asked around the others: it calls them itself, or does not."""

    async def ask(self, hook: Hook[Any, Any], question: Any, inner: Inner | None) -> Any:
        """Its answer, or none. A wrapper gets what it wraps as `inner`.

        It keeps to the deadline of the hook by itself, since one that never waits needs no timer. Raises
        `PluginFailed`, `TimeoutError`, or anything else.
        """

    def close(self) -> None:
        """Give back what it holds; it is not asked any more."""


class Given(NamedTuple):
    """An answer, and the plugin that gave it."""

    answer: Any
    plugin: str


class Count(Struct):
    """What became of the calls of one plugin's version."""

    calls: int = 0
    failures: int = 0


class _Standing:
    """A plugin with how it does: it rests after too many failures in a row."""

    def __init__(self, extension: Extension, settings: HookSettings) -> None:
        self.extension = extension
        self.count = Count()
        self.reason = ""
        self._settings = settings
        self._in_a_row = 0
        self._rests_until = 0.0

    @property
    def rests(self) -> bool:
        """Whether it is not asked at the moment."""
        return self._rests_until > 0.0 and monotonic() < self._rests_until

    async def ask(self, hook: Hook[Any, Any], question: Any, inner: Inner | None = None) -> Any:
        """Its answer; none where it has none, fails or rests."""
        if self.rests:
            return None
        self.count.calls += 1
        try:
            answer = await self.extension.ask(hook, question, inner)
            if answer is not None:
                self._check(hook, question, answer)
        except TimeoutError:
            self._failed(hook, f"no answer within {hook.seconds:g} s")
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends here
            self._failed(hook, str(error) if isinstance(error, PluginFailed) else f"{type(error).__name__}: {error}")
        else:
            self._in_a_row, self._rests_until = 0, 0.0
            return answer
        return None

    @staticmethod
    def _check(hook: Hook[Any, Any], question: Any, answer: Any) -> None:
        if not isinstance(answer, hook.answer):
            raise PluginFailed(f"its answer is no {hook.answer.__name__}")
        if (wrong := hook.wrong(question, answer)) is not None:
            raise PluginFailed(f"its answer is {wrong}")

    def _failed(self, hook: Hook[Any, Any], reason: str) -> None:
        self.count.failures += 1
        self._in_a_row += 1
        self.reason = reason[:500]
        one = self.extension
        log.warning("plugin_failed", plugin=one.name, version=one.version, hook=hook.key, reason=self.reason)
        if self._in_a_row >= self._settings.rest_after:
            self._rests_until = monotonic() + self._settings.rest_seconds
            log.warning("plugin_rests", plugin=one.name, seconds=self._settings.rest_seconds)


class Hooks:
    """The plugins of this process by the hooks at which they are asked."""

    def __init__(self, settings: HookSettings | None = None) -> None:
        self.settings = settings or HookSettings()
        self.kinds: Sequence[JobKind] = ()
        """The kinds of work that trusted packages add; set before the modules are made."""
        self._standings: dict[str, _Standing] = {}
        self._asked: Mapping[str, Sequence[_Standing]] = {}
        self._wrapping: Mapping[str, Sequence[_Standing]] = {}
        self._gone: dict[tuple[str, str], Count] = {}

    def has(self, hook: Hook[Any, Any]) -> bool:
        """Whether anybody is asked there; call sites ask this first, so that nothing is made for nobody."""
        return hook.key in self._asked

    def load(self, extension: Extension) -> None:
        """Ask this plugin from now on, in place of another version of it."""
        self._remove(extension.name)
        self._standings[extension.name] = _Standing(extension, self.settings)
        self._arrange()

    def unload(self, name: str) -> None:
        """Ask this plugin no more."""
        self._remove(name)
        self._arrange()

    def loaded(self) -> Mapping[str, Extension]:
        """The plugins that are asked, by name."""
        return {name: standing.extension for name, standing in self._standings.items()}

    def routes(self) -> Sequence[tuple[str, Route]]:
        """The routes of trusted plugins with their packages, in the order of packages and names."""
        found = [
            (name.partition(":")[0], route)
            for name, standing in self._standings.items()
            for route in getattr(standing.extension, "routes", ())
        ]
        return sorted(found)

    def trouble(self, name: str) -> str:
        """What a plugin did wrong last in this process; empty for nothing."""
        return self._standings[name].reason if name in self._standings else ""

    def _remove(self, name: str) -> None:
        standing = self._standings.pop(name, None)
        if standing is not None:
            self._keep(standing)
            standing.extension.close()

    def _keep(self, standing: _Standing) -> None:
        kept = self._gone.setdefault((standing.extension.name, standing.extension.version), Count())
        kept.calls += standing.count.calls
        kept.failures += standing.count.failures
        standing.count = Count()

    def _arrange(self) -> None:
        asked, wrapping = defaultdict(list), defaultdict(list)
        for one in sorted(self._standings.values(), key=lambda one: (one.extension.priority, one.extension.name)):
            for key in one.extension.hooks | one.extension.wraps:
                asked[key].extend([one] if key in one.extension.hooks else [])
                wrapping[key].extend([one] if key in one.extension.wraps else [])
        self._asked, self._wrapping = dict(asked), dict(wrapping)

    async def first(self, hook: Hook[Question, Answer], question: Question) -> Given | None:
        """The first answer that a plugin gives, and whose it is; none where nobody has one."""
        given: Given | None = await self._around(hook, question, partial(self._first, hook))
        return given

    async def fold(self, hook: Hook[Question, Answer], question: Question) -> Question:
        """What the answers of all plugins make of a question, one after the other."""
        fold = hook.fold
        assert fold is not None, "only a folded hook has answers that change its question"
        given = await self._around(hook, question, partial(self._folded, hook))
        return question if given is None else fold(question, given.answer)

    async def tell(self, hook: Hook[Question, Answer], question: Question) -> None:
        """Ask every plugin one after the other; what they answer counts for nothing, what they do wrong for itself."""
        for standing in self._asked.get(hook.key, ()):
            await standing.ask(hook, question)

    async def _first(self, hook: Hook[Any, Any], question: Any) -> Given | None:
        for standing in self._asked.get(hook.key, ()):
            answer = await standing.ask(hook, question)
            if answer is not None:
                return Given(answer, standing.extension.name)
        return None

    async def _folded(self, hook: Hook[Any, Any], question: Any) -> Given | None:
        assert hook.fold is not None
        all_: Given | None = None
        asked = question
        for standing in self._asked.get(hook.key, ()):
            answer = await standing.ask(hook, asked)
            if answer is not None:
                asked = hook.fold(asked, answer)
                both = answer if all_ is None or hook.join is None else hook.join(question, all_.answer, answer)
                all_ = Given(both, standing.extension.name)
        return all_

    async def _around(self, hook: Hook[Any, Any], question: Any, inner: Inner) -> Any:
        """Ask the wrappers, the first one outermost, and inside of them the others."""
        for standing in reversed(self._wrapping.get(hook.key, ())):
            inner = partial(_wrapped, standing, hook, inner)
        return await inner(question)

    def take_counts(self) -> Mapping[tuple[str, str], Count]:
        """The calls since this was asked last, by plugin and version."""
        for standing in self._standings.values():
            self._keep(standing)
        taken, self._gone = self._gone, {}
        return {key: count for key, count in taken.items() if count.calls}

    def give_back(self, counts: Mapping[tuple[str, str], Count]) -> None:
        """Counts that could not be written: they are taken anew the next time."""
        for key, count in counts.items():
            kept = self._gone.setdefault(key, Count())
            kept.calls += count.calls
            kept.failures += count.failures

    async def measure(self) -> Iterable[Metric]:
        """How many plugins are asked here, and how many of them rest."""
        rests = sum(standing.rests for standing in self._standings.values())
        found = gauge(
            "aitbc_plugins_loaded", "Plugins of this process, by whether they rest after failures.", ["state"]
        )
        found.add_metric(["asked"], float(len(self._standings) - rests))
        found.add_metric(["resting"], float(rests))
        return [found]


async def _wrapped(standing: _Standing, hook: Hook[Any, Any], inner: Inner, question: Any) -> Given | None:
    """What a wrapper answers; what it wraps where it fails, asked at most once."""
    asked: list[Given | None] = []

    async def once(changed: Any) -> Any:
        if not asked:
            asked.append(await inner(changed))
        return None if asked[0] is None else asked[0].answer

    if standing.rests:
        return await inner(question)  # type: ignore[no-any-return]
    failures = standing.count.failures
    answer = await standing.ask(hook, question, once)
    if standing.count.failures != failures:
        return asked[0] if asked else await inner(question)
    if answer is None:
        return None
    unchanged = bool(asked) and asked[0] is not None and asked[0].answer is answer
    return asked[0] if unchanged else Given(answer, standing.extension.name)
