"""The host of served models: which engines run, for whom, and for how long."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc_cli.miner.executors.model_facts import PIN, Facts, announced, pinned
from aitbc_cli.miner.executors.work import WorkFailed
from aitbc_cli.miner.serving.declared import NAME, ServedModel, Serving, serving_of
from aitbc_cli.miner.serving.engine import Engine, EngineFailed
from aitbc_cli.miner.serving.weights import Weights

REST_SECONDS_MAX = 300.0
"""The longest that a model is not tried again after its engine failed; the first rest takes two seconds."""
LOOK_SECONDS = 1.0
WEIGHTS_SECONDS = 60.0
"""How often it is looked whether a served file has become another."""
ENDING_SECONDS = 2.0
SPARE_PERCENT = 5
"""How much of the machine's memory is kept free: below it, engines without work are ended."""
RECORDS = "served-models.json"


@dataclass
class _Place:
    """A model, and its engine while it has one."""

    model: ServedModel
    digest: str | None = None
    """That of the weights that an engine has or would load, once they have been read."""
    engine: Engine | None = None
    loading: "asyncio.Task[Engine] | None" = None
    watching: "asyncio.Task[None] | None" = None
    users: int = 0
    """How many chats need it now."""
    used_at: float = 0.0
    failures: int = 0
    """How often it failed since it last came up."""
    rests_until: float = 0.0


class ModelHost:
    """Starts an engine when the first chat asks for its model, and ends it when it has been idle or memory is short.

    `note` is told what happens, by the name of an event and facts; `on_change` is called when there are other models to
    announce, `on_gone` with the name of a model whose engine has gone.
    """

    def __init__(self, serving: Serving, *, slots: int, folder: Path, note: Callable[..., None]) -> None:
        self._serving = serving
        self._slots = slots
        self._folder = folder
        self._note = note
        self._places = {name: _Place(model) for name, model in serving.models.items()}
        self._records = _read_records(folder / RECORDS)
        self._one_at_a_time = asyncio.Lock()
        self._ending: set[Engine] = set()
        """Engines that are being ended, whoever began that."""
        self._weights = Weights(folder)
        self._is_idle = asyncio.Event()
        """Some engine has come to have no work."""
        self.on_change: Callable[[], None] = _nothing
        self.on_gone: Callable[[str], None] = _nothing

    @property
    def names(self) -> list[str]:
        """The models to announce, and then those with known weights once more under the names of these: all but those
        whose engine failed a moment ago.
        """
        now = time.monotonic()
        there = [self.names_of(name) for name, place in self._places.items() if place.rests_until <= now]
        return [names[0] for names in there] + [pin for names in there for pin in names[1:]]

    def names_of(self, name: str) -> list[str]:
        """The name of a model, and the one of its weights, where they have been read."""
        digest = self._places[name].digest
        pin = None if digest is None else pinned(name, digest)
        return [name] if pin is None or not NAME.match(pin) else [name, pin]

    @property
    def facts(self) -> dict[str, Facts]:
        """What is known of these models, by the names to announce."""
        known = {one: dict(place.model.facts) for name, place in self._places.items() for one in self.names_of(name)}
        return announced(known)

    def free(self, working: Counter[str]) -> dict[str, int]:
        """How many more chats each model takes that has slots of its own, while so many of each are worked on."""
        free: dict[str, int] = {}
        for name, place in self._places.items():
            if place.model.slots is not None:
                names = self.names_of(name)
                left = max(0, place.model.slots - sum(working[one] for one in names))
                free |= dict.fromkeys(names, left)
        return free

    def served(self, name: Any) -> str | None:
        """The model that a name means; none where it is none of these, or its weights are others by now."""
        if not isinstance(name, str):
            return None
        model, pin, _ = name.partition(PIN)
        if name in self._places:
            return name
        return model if pin and model in self._places and name in self.names_of(model) else None

    @property
    def loaded(self) -> list[str]:
        """The models whose engines run."""
        return [name for name, place in self._places.items() if place.engine is not None and place.engine.alive]

    def seconds_to_load(self, name: str) -> float | None:
        """How long its last load took; none before the first."""
        seconds = self._records.get(name, {}).get("load_seconds")
        return float(seconds) if isinstance(seconds, int | float) else None

    @asynccontextmanager
    async def use(self, name: str, tell: Callable[[str], None]) -> AsyncIterator[Engine]:
        """The engine of a model, kept while it is used; `tell` gets a line when it has to load first.

        Raises `WorkFailed` where it cannot be loaded now.
        """
        place = self._places[name]
        place.users += 1
        try:
            yield await self._ready(place, tell)
        finally:
            place.users -= 1
            place.used_at = time.monotonic()
            if not place.users:
                self._is_idle.set()

    async def doubt(self, name: str, engine: Engine) -> None:
        """End an engine that failed a chat and does not answer: the next chat starts it anew."""
        place = self._places[name]
        if place.engine is not engine or await engine.is_well():
            return
        with suppress(TimeoutError):  # one that is ending says why itself
            async with asyncio.timeout(ENDING_SECONDS):
                await engine.ended()
        if place.engine is engine and engine.alive:
            self._failed(place, "it does not answer")
            await self._end(place)

    async def run(self) -> None:
        """End engines that have been idle for long, or while memory is short."""
        reading = asyncio.create_task(self._read_weights())
        try:
            await self._end_idle_ones()
        finally:
            await cancel_and_wait([reading])

    async def _read_weights(self) -> None:
        """Read the files that are served, one after the other: their digests are announced once they are known."""
        while True:
            for place in self._places.values():
                if place.model.weights is not None:
                    await self._read_one(place, place.model.weights)
            await asyncio.sleep(WEIGHTS_SECONDS)

    async def _read_one(self, place: _Place, weights: Path) -> None:
        digest = await asyncio.to_thread(self._weights.read, weights)
        if digest is None or digest == place.digest:
            return
        if place.digest is not None and place.users:
            return  # what runs has the weights of before, and ends under their name
        if place.digest is not None and place.engine is not None:
            await self._unload(place, "its file has become another")
        place.digest = digest
        self.on_gone(place.model.name)  # its worker knows the model by the names of before
        self.on_change()

    async def _end_idle_ones(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            idle = self._idle_places()
            if idle and _available_bytes() < _spare_bytes():
                await self._unload(idle[0], "memory is short")
                continue
            for place in idle:
                if time.monotonic() - place.used_at >= self._serving.idle_seconds:
                    await self._unload(place, "it was idle")

    async def stop(self) -> None:
        """End all engines."""
        await cancel_and_wait([place.loading for place in self._places.values() if place.loading is not None])
        await asyncio.gather(*(self._end(place) for place in self._places.values()))
        await asyncio.gather(*(engine.stop() for engine in self._ending))
        await cancel_and_wait([place.watching for place in self._places.values() if place.watching is not None])

    async def _ready(self, place: _Place, tell: Callable[[str], None]) -> Engine:
        if place.engine is not None and place.engine.alive:
            return place.engine
        name = place.model.name
        if place.rests_until > time.monotonic():
            raise _unavailable(name, "its engine failed a moment ago")
        if place.loading is None:
            place.loading = asyncio.create_task(self._load(place))
            place.loading.add_done_callback(_seen)
        expected = self.seconds_to_load(name)
        tell(f"loading {name}" + (f", about {max(1, round(expected))} s" if expected is not None else ""))
        return await asyncio.shield(place.loading)

    async def _load(self, place: _Place) -> Engine:
        name = place.model.name
        try:
            async with self._one_at_a_time:
                await self._end(place)
                await self._make_room(place)
                self._forget_old_weights(place)
                self._note("model_loading", model=name, seconds_expected=self.seconds_to_load(name))
                started = time.monotonic()
                seconds = self._serving.load_seconds
                engine = await Engine.start(
                    place.model, slots=place.model.slots or self._slots, scratch=self._folder, seconds=seconds
                )
                place.engine, place.failures, place.used_at = engine, 0, time.monotonic()
        except EngineFailed as error:
            self._failed(place, str(error))
            raise _unavailable(name, "its engine did not come up") from None
        finally:
            place.loading = None
        loaded = {"load_seconds": round(time.monotonic() - started, 3), "memory_bytes": engine.memory_bytes}
        self._note("model_loaded", model=name, **loaded)
        self._keep_record(name, loaded)
        place.watching = asyncio.create_task(self._watch(place, engine))
        return engine

    def _forget_old_weights(self, place: _Place) -> None:
        """Announce no digest that is not the one of the file that is loaded now."""
        weights = place.model.weights
        if weights is not None and place.digest is not None and self._weights.known(weights) != place.digest:
            place.digest = None
            self.on_change()

    async def _make_room(self, place: _Place) -> None:
        """End engines without work, the longest idle first, while there is less memory than this one needs."""
        known = self._records.get(place.model.name, {}).get("memory_bytes")
        needed = (known if isinstance(known, int) else place.model.bytes_expected) + _spare_bytes()
        while True:
            idle = self._idle_places()
            is_full = len(self.loaded) >= self._serving.loaded_max
            if not is_full and (_available_bytes() >= needed or not idle):
                return
            if idle:
                await self._unload(idle[0], f"{place.model.name} needs its place")
                continue
            self._is_idle.clear()
            await self._is_idle.wait()

    async def _watch(self, place: _Place, engine: Engine) -> None:
        """Note the end of an engine that nobody ended."""
        ending = await engine.ended()
        if place.engine is engine:
            self._failed(place, ending)
            await self._end(place)

    def _failed(self, place: _Place, reason: str) -> None:
        rest = min(REST_SECONDS_MAX, 2.0 ** (place.failures + 1))
        place.failures += 1
        place.rests_until = time.monotonic() + rest
        self._note("model_failed", model=place.model.name, reason=reason, seconds_to_rest=rest)
        asyncio.get_running_loop().call_later(rest, self.on_change)
        self.on_change()

    async def _unload(self, place: _Place, reason: str) -> None:
        self._note("model_unloaded", model=place.model.name, reason=reason)
        await self._end(place)

    async def _end(self, place: _Place) -> None:
        engine, place.engine = place.engine, None
        if engine is not None:
            self._ending.add(engine)
            self.on_gone(place.model.name)
            try:
                await engine.stop()
            finally:
                self._ending.discard(engine)

    def _idle_places(self) -> list[_Place]:
        """Those with an engine and without work, the longest idle first."""
        idle = [place for place in self._places.values() if place.engine is not None and not place.users]
        return sorted(idle, key=lambda place: place.used_at)

    def _keep_record(self, name: str, record: dict[str, Any]) -> None:
        self._records = {one: facts for one, facts in self._records.items() if one in self._places} | {name: record}
        partial = self._folder / f".{RECORDS}.new"
        with suppress(OSError):  # an estimate is not worth a failure
            partial.write_text(json.dumps(self._records))
            partial.rename(self._folder / RECORDS)


def host_of(
    kinds: Mapping[str, Mapping[str, Any]], *, slots: int, folder: Path, note: Callable[..., None] | None = None
) -> ModelHost | None:
    """The host of what the options of chat say is served, if anything. Raises `FieldError` where they make no sense."""
    serving = serving_of(kinds.get("chat", {}))
    return ModelHost(serving, slots=slots, folder=folder, note=note or _nothing) if serving is not None else None


def _nothing(*_: Any, **_facts: Any) -> None:
    """Nobody wants to know."""


def _seen(task: "asyncio.Task[Engine]") -> None:
    """All that waited for a load may have gone before it failed."""
    if not task.cancelled():
        task.exception()


def _unavailable(name: str, why: str) -> WorkFailed:
    """Nobody is blamed: another miner gets the work, and this one leaves the model out for a while."""
    return WorkFailed("platform", "model_unavailable", f"{name} cannot be served by this miner now: {why}.")


def _read_records(file: Path) -> dict[str, dict[str, Any]]:
    try:
        read = json.loads(file.read_bytes())
        return {str(name): dict(record) for name, record in read.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _memory() -> Mapping[str, int]:
    """The kernel's account of the machine's memory, in bytes."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) > 1}


def _available_bytes() -> int:
    return _memory().get("MemAvailable", 0)


def _spare_bytes() -> int:
    return _memory().get("MemTotal", 0) * SPARE_PERCENT // 100
