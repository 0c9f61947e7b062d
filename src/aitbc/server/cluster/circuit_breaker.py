"""Circuit breaker in front of another process: after failures in a row its callers fail fast instead of waiting.

After the fifth failure in a row it is open: callers are refused at once. It closes when its periodic probe finds the
process answering again; and after a minute it is half open: one trial request is let through, and its outcome decides.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from aitbc.kernel.primitives.errors import Unavailable

FAILURES_MAX = 5
OPEN_SECONDS = 60.0
PROBE_SECONDS = 1.0
"""How often an open breaker probes whether the process answers again."""

log = structlog.get_logger("aitbc.gateway")


class ModuleUnavailable(Unavailable):
    """The process of this module does not answer; everything else goes on."""

    code = "module_unavailable"


class CircuitBreaker:
    """The circuit breaker of one process; `is_answering` is its health probe."""

    def __init__(
        self,
        process: str,
        is_answering: Callable[[], Awaitable[bool]],
        *,
        open_seconds: float = OPEN_SECONDS,
        probe_seconds: float = PROBE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._process = process
        self._is_answering = is_answering
        self._open_seconds = open_seconds
        self._probe_seconds = probe_seconds
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._trial: asyncio.Task[object] | None = None
        """The trial request of the half-open state; one that ended without an outcome counts no more."""
        self._probe: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether callers are refused at once."""
        return self._opened_at is not None

    def admit(self) -> None:
        """Admit a request. Raises `ModuleUnavailable` while open, and beside the one trial while half open."""
        if self._opened_at is None:
            return
        left = self._opened_at + self._open_seconds - self._clock()
        if left > 0 or (self._trial is not None and not self._trial.done()):
            raise ModuleUnavailable
        self._trial = asyncio.current_task()

    def succeeded(self) -> None:
        """Record a success: a response came, whatever it says. Closes the breaker."""
        if self._opened_at is not None:
            log.info("breaker_closed", process=self._process)
        self._failures, self._opened_at, self._trial = 0, None, None

    def failed(self) -> None:
        """Record a failure: no response came. Opens the breaker after `FAILURES_MAX` in a row."""
        self._failures += 1
        if self._failures < FAILURES_MAX:
            return
        if self._opened_at is None:
            log.warning("breaker_opened", process=self._process, failures=self._failures)
        self._opened_at, self._trial = self._clock(), None
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._probe_until_closed())

    async def close(self) -> None:
        """Stop probing."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)

    async def _probe_until_closed(self) -> None:
        while self._opened_at is not None:
            await asyncio.sleep(self._probe_seconds)
            if self._opened_at is not None and await self._is_answering():
                self.succeeded()
