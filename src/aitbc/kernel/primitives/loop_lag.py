"""Event-loop lag monitor: how late the loop runs, and how long it was recently frozen."""

import asyncio
from collections import deque

import structlog

from aitbc.kernel.primitives.clock import elapsed

TICK_SECONDS = 0.1
PAUSE_SECONDS = 1.0
"""A tick that is later than this is recorded as a pause."""
PAUSES_KEPT = 64

log = structlog.get_logger("aitbc.loop_lag")


class LoopLag:
    """Ticks in the event loop and records by how much each tick is late.

    Check `recent_pause` before concluding from the clock that somebody else is silent: a process that was stopped, or
    whose machine slept, finds on waking that everybody seems late, while it was late itself.
    """

    def __init__(self) -> None:
        self._last_tick = elapsed()
        self._pauses: deque[tuple[float, float]] = deque(maxlen=PAUSES_KEPT)
        self.lag_seconds = 0.0
        """By how much the last tick was late."""
        self.frozen_seconds_total = 0.0

    @property
    def loop_frozen_seconds(self) -> float:
        """How long the loop has been frozen by now; close to zero while it runs."""
        return max(0.0, elapsed() - self._last_tick - TICK_SECONDS)

    def recent_pause(self, within_seconds: float = 60.0) -> float:
        """Total seconds of the pauses that ended within this time, or have not ended yet."""
        since = elapsed() - within_seconds
        current = self.loop_frozen_seconds
        ended = sum(seconds for end, seconds in self._pauses if end >= since)
        return ended + (current if current > PAUSE_SECONDS else 0.0)

    async def run(self) -> None:
        """Tick until cancelled."""
        self._last_tick = elapsed()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.tick()

    def tick(self) -> None:
        """Record that the loop runs, and how late it is."""
        now = elapsed()
        self.lag_seconds = max(0.0, now - self._last_tick - TICK_SECONDS)
        self._last_tick = now
        if self.lag_seconds > PAUSE_SECONDS:
            self._pauses.append((now, self.lag_seconds))
            self.frozen_seconds_total += self.lag_seconds
            log.warning("loop_resumed", seconds=round(self.lag_seconds, 3))
