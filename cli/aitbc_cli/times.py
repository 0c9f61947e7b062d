"""Points and lengths of time as people write and read them."""

import re
from datetime import UTC, datetime

from aitbc_cli.exits import usage

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhdw]?)")
SECONDS_MAX = 10 * 365 * 86_400.0


def seconds_of(text: str) -> float:
    """The length of `90`, `90s`, `5m`, `1h30m`, `7d`. Raises a usage error."""
    parts = _PART.findall(text.strip().lower())
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text.strip().lower() or not parts or total > SECONDS_MAX:
        raise usage(f"{text!r} is no length of time", hint="write for instance 30s, 5m, 1h30m or 7d")
    return total


def read(text: str) -> datetime:
    """A point in time as the server writes it. Raises `ValueError`."""
    return datetime.fromisoformat(text)


def shown(at: str | int, *, utc: bool) -> str:
    """A time of the server for people, local or UTC: RFC 3339, or seconds since 1970 as the paths of /v1 say it."""
    try:
        moment = read(at) if isinstance(at, str) else datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError):
        return str(at)
    if utc:
        return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def since(text: str) -> str:
    """A point in time for the server: RFC 3339 as it is, or a length of time before now. Raises a usage error."""
    try:
        moment = read(text)
    except ValueError:
        moment = datetime.fromtimestamp(datetime.now(UTC).timestamp() - seconds_of(text), UTC)
    if moment.tzinfo is None:
        moment = moment.astimezone()
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def length(seconds: float) -> str:
    """A length of time in at most two units: `850 ms`, `4.2 s`, `3 m 5 s`, `2 h 10 m`, `3 d 4 h`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    for size, name, smaller, part in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{seconds // size:.0f} {name} {seconds % size // smaller:.0f} {part}"
    raise AssertionError(seconds)
