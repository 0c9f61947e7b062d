"""Times and durations as the legacy dialect writes them: ISO 8601, often without an offset, and hours as numbers."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from msgspec import Meta

from aitbc.kernel.legacy.errors import invalid

MS_PER_HOUR = 3_600_000
HOURS_MAX = 8760
Hours = Annotated[float, Meta(gt=0, le=HOURS_MAX)]
"""A duration, up to a year."""


def time_of(text: str | None, parameter: str) -> datetime | None:
    """A time in UTC; a text without an offset is taken to be in UTC, none stays none.

    Raises `Invalid` at `?parameter`.
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise invalid(f"?{parameter}", "Expected a time, for instance 2030-01-31T12:00:00Z") from None


def milliseconds_of(hours: float, field: str = "/duration_hours") -> int:
    """Milliseconds of a positive number of hours, exactly.

    Raises `Invalid` at `field` for a fraction of a millisecond.
    """
    found = Decimal(str(hours)) * MS_PER_HOUR
    if found != found.to_integral_value() or found < 1:
        raise invalid(field, "Expected hours with at most five decimal places")
    return int(found)


def optional_milliseconds_of(hours: float | None, field: str = "/duration_hours") -> int | None:
    """`milliseconds_of`, and none for none. Raises `Invalid` at `field`."""
    return None if hours is None else milliseconds_of(hours, field)


def hours_of(milliseconds: int) -> float:
    """Hours as a number."""
    return milliseconds / MS_PER_HOUR
