"""The breaker before a process that does not answer: nobody waits for it twice, and it is asked again in good time.

It counts failures in a row. After the fifth it is open: callers are refused at once. It closes when the process is found to
answer, which it looks for by itself; and after a minute it is half open: one request is let through, and what becomes of that
one decides.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from aitbc.kernel.primitives.errors import Unavailable

FAILURES_MAX = 5
OPEN_SECONDS = 60.0
PROBE_SECONDS = 1.0
"""How often an open breaker looks whether the process answers again."""

log = structlog.get_logger("aitbc.gateway")


class ModuleUnavailable(Unavailable):
    """The process of this module does not answer; everything else goes on."""

    code = "module_unavailable"


class CircuitBreaker:
    """Between the callers and one process; `answers` looks whether somebody serves there."""

    def __init__(
        self,
        process: str,
        answers: Callable[[], Awaitable[bool]],
        *,
        open_seconds: float = OPEN_SECONDS,
        probe_seconds: float = PROBE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._process = process
        self._answers = answers
        self._open_seconds = open_seconds
        self._probe_seconds = probe_seconds
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._trial: asyncio.Task[object] | None = None
        """The request that was let through while it is half open; one that ended without a word counts no more."""
        self._probe: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether callers are refused."""
        return self._opened_at is not None

    def admit(self) -> None:
        """Let a request through. Raises `ModuleUnavailable` while it is open, and beside the one trial while it is half open."""
        if self._opened_at is None:
            return
        left = self._opened_at + self._open_seconds - self._clock()
        if left > 0 or (self._trial is not None and not self._trial.done()):
            raise ModuleUnavailable
        self._trial = asyncio.current_task()

    def succeeded(self) -> None:
        """An answer came, whatever it says: the process is there."""
        if self._opened_at is not None:
            log.info("breaker_closed", process=self._process)
        self._failures, self._opened_at, self._trial = 0, None, None

    def failed(self) -> None:
        """No answer came."""
        self._failures += 1
        if self._failures < FAILURES_MAX:
            return
        if self._opened_at is None:
            log.warning("breaker_opened", process=self._process, failures=self._failures)
        self._opened_at, self._trial = self._clock(), None
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """End the looking."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)

    async def _watch(self) -> None:
        while self._opened_at is not None:
            await asyncio.sleep(self._probe_seconds)
            if self._opened_at is not None and await self._answers():
                self.succeeded()
