"""The kinds of work that this miner can do now, with their models and programs: checked at its start, after failures
that say something about it, and on a clock.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from aitbc_cli.miner.event_log import EventLog
from aitbc_cli.miner.executors.chat_models import MODELS_MAX, WITHHELD_SECONDS
from aitbc_cli.miner.executors.pool import ExecutorPool, Failure, KindStatus
from aitbc_cli.miner.options import MinerFailed

FORWARDED = frozenset({"chat"})
"""Kinds that another program on this machine does: it comes and goes, and so do its models."""
FORWARDED_SECONDS = 10.0
"""How often that program is asked what it has."""
CHECK_SECONDS = 60.0
"""How often the other kinds are checked."""
TELLING = frozenset(
    {"upstream_unavailable", "executor_unavailable", "model_unavailable", "wrong_model", "program_unavailable"}
    | {"crashed", "timed_out"}
)
"""Failures after which a kind is checked at once."""
MODEL_UNAVAILABLE = "model_unavailable"
PAUSE_LENGTH_MAX = 2000


class Kinds:
    """Checks kinds of work, and knows what to announce."""

    def __init__(
        self, pool: ExecutorPool, kinds: Mapping[str, Mapping[str, Any]], event_log: EventLog | None = None
    ) -> None:
        self._pool = pool
        self._kinds = kinds
        self._event_log = event_log
        self._statuses: dict[str, KindStatus] = {}
        self._withheld: dict[tuple[str, str], float] = {}
        """Models that are listed and were not there when they were asked for, until when they are left out."""
        self._checked: dict[str, float] = {}
        self._suspects: set[str] = set()
        self._suspected = asyncio.Event()
        self._announced: tuple[dict[str, Any], str | None] | None = None

    async def start(self) -> None:
        """Check every kind once. Raises `MinerFailed` where none can be done."""
        for kind in self._kinds:
            await self._check(kind)
        if self.pause is not None:
            raise MinerFailed(f"no kind of work can be done here: {self.pause}")
        self._announced = self.work, self.pause

    @property
    def work(self) -> dict[str, Any]:
        """What to announce: kinds, models by kind, and programs."""
        usable = sorted(kind for kind in self._kinds if self._is_usable(kind))
        models = {kind: models for kind in usable if (models := self._models(kind))}
        command = self._statuses["command"].detail if "command" in usable else {}
        offered = {"kinds": usable, "models": models, "programs": sorted(command.get("programs", ()))}
        there = {model for served in models.values() for model in served}
        known = self._statuses["chat"].detail.get("facts", {}) if "chat" in usable else {}
        facts = {model: said for model, said in known.items() if model in there}
        return offered | ({"model_facts": facts} if facts else {})

    def status(self, kind: str) -> KindStatus | None:
        """How a kind was found; none where this miner does not do it."""
        return self._statuses.get(kind)

    @property
    def usable(self) -> dict[str, bool]:
        """Whether each kind can be done now."""
        return {kind: kind in self._statuses and self._is_usable(kind) for kind in self._kinds}

    @property
    def pause(self) -> str | None:
        """Why no work can be done here now; none while some can."""
        if any(self._is_usable(kind) for kind in self._kinds):
            return None
        reasons = (f"{kind}: {self._reason(kind)}" for kind in self._kinds)
        return " ".join("; ".join(reasons).split())[:PAUSE_LENGTH_MAX]

    def suspect(self, kind: str, failure: Failure, value: Any) -> None:
        """Note how work failed; the kind is checked at once where that says something about this miner."""
        if failure.reason not in TELLING:
            return
        if failure.reason == MODEL_UNAVAILABLE:
            wanted = value.get("model") if isinstance(value, dict) else None
            for model in [wanted] if wanted else self._models(kind)[:1]:
                self._withheld[kind, model] = time.monotonic() + WITHHELD_SECONDS
        self.check_soon(kind)

    def check_soon(self, kind: str) -> None:
        """Have a kind checked at once."""
        self._suspects.add(kind)
        self._suspected.set()

    def announce_again(self) -> None:
        """End the wait for a change: what is offered beside kinds, models and programs has changed."""
        self._announced = None
        self._suspected.set()

    async def wait_for_change(self) -> None:
        """Check what is due or suspected, again and again, until there is something else to announce."""
        while (self.work, self.pause) == self._announced:
            due = min(self._checked[kind] + _interval(kind) for kind in self._kinds)
            try:
                async with asyncio.timeout(due - time.monotonic()):
                    await self._suspected.wait()
            except TimeoutError:
                pass
            self._suspected.clear()
            suspects, self._suspects = self._suspects, set()
            for kind in self._kinds:
                if kind in suspects or self._checked[kind] + _interval(kind) <= time.monotonic():
                    await self._check(kind)
        self._announced = self.work, self.pause

    async def _check(self, kind: str) -> None:
        before = self._statuses.get(kind)
        status = self._statuses[kind] = await self._pool.check(kind)
        self._checked[kind] = time.monotonic()
        for one, model in [*self._withheld]:
            if one == kind and model not in status.detail.get("models", ()):
                del self._withheld[one, model]  # the list was corrected: when it comes back, it is there
        if self._event_log is not None and (
            before is None or (before.usable, before.detail) != (status.usable, status.detail)
        ):
            facts = {"models": list(status.detail["models"])} if "models" in status.detail else {}
            missing = {"missing": status.detail["missing"]} if status.detail.get("missing") else {}
            message = status.message
            self._event_log.note("kind_checked", kind=kind, usable=status.usable, message=message, **facts, **missing)

    def _is_usable(self, kind: str) -> bool:
        status = self._statuses[kind]
        return status.usable and (not status.detail.get("models") or bool(self._models(kind)))

    def _models(self, kind: str) -> list[str]:
        models = self._statuses[kind].detail.get("models", ())
        return [model for model in models if self._withheld.get((kind, model), 0.0) <= time.monotonic()][:MODELS_MAX]

    def _reason(self, kind: str) -> str:
        status = self._statuses[kind]
        return status.message if not status.usable else "its models were not there when they were asked for"


def _interval(kind: str) -> float:
    return FORWARDED_SECONDS if kind in FORWARDED else CHECK_SECONDS
