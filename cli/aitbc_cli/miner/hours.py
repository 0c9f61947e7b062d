"""When a miner works: the hours that its owner allows, and only while the machine is otherwise idle."""

import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

_WINDOW = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)-([01]?\d|2[0-4]):([0-5]\d)")
_DAY = 24 * 60
LEAST_SECONDS = 60.0
"""With less than so much time left no work is asked for."""
MARGIN_SECONDS = 30.0
"""So much of the time that is left is for bringing the result."""
LOAD_SHARE = 0.25
"""A machine is idle while others use less than this share of its processors."""
GPU_PERCENT = 20.0
"""A GPU without a program of the miner's is in use where it is busier than this."""
IDLE_SECONDS = 60.0
"""How long a machine must have been idle before it works for others again."""


class Hours:
    """The windows of a day in which the miner may work, by this machine's clock; all day where there are none."""

    def __init__(self, schedule: str | None) -> None:
        """Raises `ValueError` for what is no schedule: `22:00-07:00`, several with commas between."""
        self.schedule = schedule
        self._minutes = [not schedule] * _DAY
        for each in schedule.split(",") if schedule else ():
            found = _WINDOW.fullmatch(each.strip())
            if found is None:
                raise ValueError(f"{each.strip()!r} is no time of day; write for instance 22:00-07:00")
            start, end = (int(found[at]) * 60 + int(found[at + 1]) for at in (1, 3))
            if max(start, end) > _DAY or start == end:
                raise ValueError(f"{each.strip()!r} is no time of day; write for instance 22:00-07:00")
            for minute in range(start, end if end > start else end + _DAY):
                self._minutes[minute % _DAY] = True

    def seconds_left(self, at: datetime | None = None) -> float | None:
        """How long the present window lasts: 0 outside of them, none where it has no end."""
        if all(self._minutes):
            return None
        at = at or datetime.now(UTC).astimezone()  # noqa: TID251 - the machine's own time
        minute = at.hour * 60 + at.minute
        ahead = next(count for count in range(_DAY + 1) if not self._minutes[(minute + count) % _DAY])
        return max(0.0, ahead * 60 - at.second) if ahead else 0.0

    @property
    def pause(self) -> str | None:
        """Why no work is taken now; none within the hours."""
        left = self.seconds_left()
        if left is None or left >= LEAST_SECONDS:
            return None
        return f"outside its hours, {self.schedule}"

    @property
    def run_seconds_max(self) -> int | None:
        """How long work may take that begins now; none where there is no end."""
        left = self.seconds_left()
        return None if left is None else max(1, int(left - MARGIN_SECONDS))


class Idleness:
    """Whether nobody else uses the machine."""

    def __init__(self) -> None:
        self._busy_at: float | None = None
        self._why = ""

    def note(self, devices: Sequence[Mapping[str, Any]], *, slots_busy: int, working_on: Sequence[str]) -> None:
        """Note what the machine does now: its load, less that of the miner's own work, and GPUs without such work."""
        with suppress(OSError):
            others, processors = os.getloadavg()[0] - slots_busy, os.cpu_count() or 1
            if others > max(0.5, processors * LOAD_SHARE):
                self._note_busy(f"a load of {others:.1f}")
        for device in devices:
            load = device["utilization"] if device["type"] != "cpu" and device["uuid"] not in working_on else None
            if load is not None and load > GPU_PERCENT:
                self._note_busy(f"GPU {device['index']} at {load:g} %")

    def _note_busy(self, why: str) -> None:
        self._busy_at, self._why = time.monotonic(), why

    @property
    def pause(self) -> str | None:
        """Why no work is taken now; none while the machine is idle."""
        if self._busy_at is None or time.monotonic() - self._busy_at >= IDLE_SECONDS:
            return None
        return f"somebody else uses this machine: {self._why}"
