"""The one clock: the only caller of the system time in the server."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_source: Callable[[], datetime] = lambda: datetime.now(UTC)  # noqa: E731
_shift = timedelta()


def now() -> datetime:
    """The current time, aware and in UTC, with microseconds."""
    return _source() + _shift


def move(by: timedelta) -> None:
    """Shift the clock of this process; tests use it to reach deadlines without waiting for them."""
    global _shift  # noqa: PLW0603
    _shift += by


def reset() -> None:
    """Back to the system time."""
    global _shift  # noqa: PLW0603
    _shift = timedelta()


def elapsed() -> float:
    """Seconds since some fixed moment, for measuring durations; they also pass in suspend.

    `time.monotonic` of Linux leaves out the time that the machine sleeps, in which everybody else goes on.
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
