"""The clock of the process: the only place that reads the system time, so that tests can move it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

CLOCK_SKEW_MAX = timedelta(minutes=1)
"""A moment in the past of something that lies further ahead than this was noted while the clock was ahead."""

_source: Callable[[], datetime] = lambda: datetime.now(UTC)  # noqa: E731
_shift = timedelta()


def now() -> datetime:
    """The current time, aware and in UTC, with microseconds."""
    return _source() + _shift


def elapsed() -> float:
    """Seconds since an arbitrary start, for durations; unlike `time.monotonic`, they pass while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def move(by: timedelta) -> None:
    """Shift the clock of this process, for tests: a deadline is reached without waiting for it."""
    global _shift  # noqa: PLW0603
    _shift += by


def reset() -> None:
    """Back to the system time."""
    global _shift  # noqa: PLW0603
    _shift = timedelta()
