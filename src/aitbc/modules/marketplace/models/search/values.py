"""Values of a search: sizes with units, prices, times, and specifications of GPUs."""

import re
from decimal import Decimal

from msgspec import Struct

from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.errors import AppError, Invalid

MIB = 1024 * 1024
SIZES = {
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "mib": MIB,
    "gib": 1024 * MIB,
    "tib": 1024 * 1024 * MIB,
}
TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
PER = {"": 1, "h": 1, "hour": 1, "1": 1, "unit": 1, "1k": 1000, "k": 1000, "1m": 1_000_000}
_NUMBER = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,8})?)([a-z]*)\Z", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,6}\Z", re.ASCII)
_LARGEST = 2**62


class SearchInvalid(Invalid):
    """This search cannot be read."""

    code = "search_invalid"


class GpuSpec(Struct, frozen=True):
    """Which GPUs are wanted: `H100`, `H100:80GB`, `24GB..`, `H100:2..4`."""

    names: tuple[str, ...] = ()
    vram_mib: tuple[int | None, int | None] = (None, None)
    count: tuple[int | None, int | None] = (None, None)


def size(text: str) -> int:
    """MiB of a size such as `80GB` or `24GiB`, rounded down. Raises `SearchInvalid`."""
    found = _NUMBER.match(text.lower())
    if found is None or (found[2] not in SIZES and Decimal(found[1]) != 0):
        raise SearchInvalid(f"{text!r} is no size: say its unit, for instance 80GB or 24GiB.")
    return _bounded(int(Decimal(found[1]) * SIZES.get(found[2], 0) / MIB), text)


def seconds(text: str) -> int:
    """Seconds of a time such as `30m` or `2h`. Raises `SearchInvalid`."""
    found = _NUMBER.match(text.lower())
    if found is None or found[2] not in TIMES:
        raise SearchInvalid(f"{text!r} is no time: say its unit, for instance 30m or 2h.")
    return _bounded(int(Decimal(found[1]) * TIMES[found[2]]), text)


def price(text: str) -> Decimal:
    """Minor units, or a fraction of one, of a price such as `0.8` or `0.02/1k`. Raises `SearchInvalid`."""
    amount, _, per = text.partition("/")
    try:
        units = money.parse(amount, zero=True)
    except AppError:
        units = -1
    if units < 0 or per.lower() not in PER:
        raise SearchInvalid(f"{text!r} is no price: write AITBC, for instance 0.8 or 0.02/1k.")
    return Decimal(units) / PER[per.lower()]


def whole(text: str) -> int:
    """A whole number. Raises `SearchInvalid`."""
    if not _COUNT.match(text):
        raise SearchInvalid(f"{text!r} is no whole number.")
    return int(text)


def stars(text: str) -> Decimal:
    """Thousandths of a star. Raises `SearchInvalid`."""
    found = _NUMBER.match(text)
    if found is None or found[2] or Decimal(found[1]) > 5:
        raise SearchInvalid(f"{text!r} is no rating: it is a number up to 5.")
    return Decimal(found[1]) * 1000


def truth(text: str) -> bool:
    """`true` or `false`. Raises `SearchInvalid`."""
    known = {"true": True, "yes": True, "false": False, "no": False}
    if text.lower() not in known:
        raise SearchInvalid(f"{text!r} is neither true nor false.")
    return known[text.lower()]


def gpu_spec(text: str) -> GpuSpec:
    """A specification of GPUs: names, memory and count, each at most once, with colons between.

    A range is `2`, `2..`, `..4` or `2..4`; what has a unit of size is memory. Raises `SearchInvalid`.
    """
    names: tuple[str, ...] = ()
    memory: tuple[int | None, int | None] | None = None
    count: tuple[int | None, int | None] | None = None
    for part in text.split(":"):
        ends = [end for end in part.lower().split("..") if end]
        if part and ends and all(_COUNT.match(end) for end in ends) and count is None:
            low, high = _ends(part)
            count = (None if low is None else int(low), None if high is None else int(high))
        elif part and ends and all(_is_size(end) for end in ends) and memory is None:
            low, high = _ends(part)
            memory = (None if low is None else size(low), None if high is None else size(high))
        elif part and ".." not in part and not names:
            names = tuple(name for name in part.split(",") if name)
        else:
            raise SearchInvalid(
                f"{text!r} is no specification of GPUs: write H100, H100:2.., 24GB.. or H100:80GB:1..4."
            )
    return GpuSpec(names, memory or (None, None), count or (None, None))


def _is_size(text: str) -> bool:
    found = _NUMBER.match(text)
    return found is not None and found[2] in SIZES


def _ends(part: str) -> tuple[str | None, str | None]:
    """The ends of a range; a single value is both. Raises `SearchInvalid` for more than two."""
    low, dots, high = part.partition("..")
    if not dots:
        return low, low
    if ".." in high or not (low or high):
        raise SearchInvalid(f"{part!r} is no range: write 2.., ..4 or 2..4.")
    return low or None, high or None


def _bounded(value: int, text: str) -> int:
    if value > _LARGEST:
        raise SearchInvalid(f"{text!r} is too large.")
    return value
