"""Minutes, hours and days: how wide rollups are, and how long each is kept."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from aitbc.modules.monitoring.models.standing import DEGRADED, DOWN, MAINTENANCE, UP

WIDTHS: Mapping[str, int] = {"minute": 60, "hour": 3600, "day": 86_400}
COUNTED = (UP, DEGRADED, DOWN, MAINTENANCE)


def start_of(at: datetime, width: int) -> datetime:
    """The beginning of the minute, hour or day (UTC) that a moment lies in."""
    return datetime.fromtimestamp(int(at.timestamp()) // width * width, UTC)


def rolled_up(looks: Iterable[tuple[str, datetime, str, float | None]]) -> list[dict[str, Any]]:
    """The rows to add for looks at monitors: monitor, time, state and seconds of each; in the order of their keys."""
    rows: dict[tuple[str, int, datetime], dict[str, Any]] = {}
    for monitor, at, state, seconds in looks:
        for width in WIDTHS.values():
            key = (monitor, width, start_of(at, width))
            row = rows.get(key)
            if row is None:
                row = rows[key] = {"monitor": monitor, "width": width, "start": key[2], **dict.fromkeys(COUNTED, 0)}
                row |= {"measured": 0, "seconds_sum": 0.0, "seconds_max": 0.0}
            row[state] += 1
            if seconds is not None:
                row["measured"] += 1
                row["seconds_sum"] += seconds
                row["seconds_max"] = max(row["seconds_max"], seconds)
    return [rows[key] for key in sorted(rows)]


def uptime(up: int, degraded: int, down: int) -> float | None:
    """The share of looks that found something working; none where none counts."""
    looks = up + degraded + down
    return None if looks == 0 else round((up + degraded) / looks, 6)


def burn_rate(good: float, bad: float, target: float) -> float | None:
    """How many times faster than allowed the error budget is used up; none where nothing was looked at."""
    return None if good + bad == 0 else round(bad / (good + bad) / (1 - target), 4)
