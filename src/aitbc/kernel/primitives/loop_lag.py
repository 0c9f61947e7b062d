"""The pulse of the process: whether its event loop runs, and for how long it has lately stood still."""

import asyncio
import time
from collections import deque

import structlog

BEAT_SECONDS = 0.1
PAUSE_SECONDS = 1.0
"""A beat that is later than this is remembered as a pause."""
REMEMBERED = 64

log = structlog.get_logger("aitbc.pulse")


def _elapsed() -> float:
    """Seconds that also pass while the machine sleeps, which `time.monotonic` leaves out on Linux."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class LoopLag:
    """Beats in the event loop. Who is about to judge others by the clock asks `recent_pause` first.

    A process that was stopped, or whose machine slept, finds on waking that everybody else is late; it was itself.
    """

    def __init__(self) -> None:
        self._last = _elapsed()
        self._pauses: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)
        self.lag_seconds = 0.0
        """By how much the last beat was late."""
        self.frozen_seconds_total = 0.0

    @property
    def loop_frozen_seconds(self) -> float:
        """How long the loop has stood still by now; next to nothing while it runs."""
        return max(0.0, _elapsed() - self._last - BEAT_SECONDS)

    def recent_pause(self, within_seconds: float = 60.0) -> float:
        """Seconds that the loop stood still, altogether, in pauses that ended in this time or have not ended yet."""
        edge = _elapsed() - within_seconds
        current = self.loop_frozen_seconds
        ended = sum(seconds for end, seconds in self._pauses if end >= edge)
        return ended + (current if current > PAUSE_SECONDS else 0.0)

    async def run(self) -> None:
        """Beat until cancelled."""
        self._last = _elapsed()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self.tick()

    def tick(self) -> None:
        """Note that the loop runs, and how late it is."""
        now = _elapsed()
        self.lag_seconds = max(0.0, now - self._last - BEAT_SECONDS)
        self._last = now
        if self.lag_seconds > PAUSE_SECONDS:
            self._pauses.append((now, self.lag_seconds))
            self.frozen_seconds_total += self.lag_seconds
            log.warning("loop_resumed", seconds=round(self.lag_seconds, 3))
