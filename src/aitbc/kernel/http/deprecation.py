"""What a route declares that will go away: `opt={"deprecated": Deprecated(since=…, sunset=…)}`."""

from datetime import UTC, date, datetime, time, timedelta
from email.utils import format_datetime

from msgspec import Struct

NOTICE = timedelta(days=180)
"""The least time between the announcement and the end of a route: docs/versioning.md promises it."""


class Deprecated(Struct, frozen=True, kw_only=True):
    """A route that works as before, and is announced to end."""

    since: date
    """When the announcement was released."""
    sunset: date
    """From when on the route may be gone."""
    successor: str | None = None
    """The path of what replaces it."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of each answer: RFC 9745, RFC 8594, and the link relation `successor-version` of RFC 5829."""
        found = [
            (b"deprecation", b"@%d" % _midnight(self.since).timestamp()),
            (b"sunset", format_datetime(_midnight(self.sunset), usegmt=True).encode()),
        ]
        if self.successor is not None:
            found.append((b"link", f'<{self.successor}>; rel="successor-version"'.encode()))
        return found

    def fault(self) -> str | None:
        """What is wrong with the declaration, if anything is."""
        if self.sunset - self.since < NOTICE:
            return f"must be announced {NOTICE.days} days before its sunset"
        return None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
