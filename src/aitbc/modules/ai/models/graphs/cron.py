"""When schedules are due: cron expressions in named time zones, by cronsim, which does as Debian's cron does.

Where clocks are put forward, what would have been due in the hour that is left out is due right after it, once. Where
they are put back, what names its hours and minutes is due once, in the first of the two; what is due every hour or
every few minutes (a `*` among them) goes on through both.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

FIELDS = 5


class NotDue(ValueError):
    """The expression or the time zone cannot be used; the text says why."""


def zone_of(name: str) -> ZoneInfo:
    """A time zone by its name. Raises `NotDue`."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise NotDue(f"There is no time zone {name!r}; there are such as UTC or Europe/Berlin.") from None


def due_times(cron: str, zone: str, after: datetime) -> Iterator[datetime]:
    """The times after a moment at which it is due, in UTC, from the first on. Raises `NotDue`."""
    if len(cron.split()) != FIELDS:
        raise NotDue("A cron expression has five fields: minute, hour, day of month, month, day of week.")
    try:
        times = CronSim(cron, after.astimezone(zone_of(zone)))
    except CronSimError as error:
        raise NotDue(f"{error} in {cron!r}.") from None
    return (time.astimezone(UTC) for time in times)


def next_due(cron: str, zone: str, after: datetime) -> datetime:
    """The first such time. Raises `NotDue`, also for what is never due."""
    for time in islice(due_times(cron, zone, after), 1):
        return time
    raise NotDue(f"{cron!r} is never due.")
