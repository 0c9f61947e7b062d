"""Money: an exact integer of minor units; 1 AITBC is 100 000 000 of them.

In JSON an amount is a decimal string (`"0.05"`): a JSON number may have been rounded by its sender before it arrives.
"""

from collections.abc import Sequence
from functools import lru_cache

from aitbc.kernel.primitives.errors import AmountOverflow, Invalid

SCALE = 8
UNIT = 10**SCALE
ASSET = "AITBC"
LARGEST = 2**63 - 1
HOUR = 3_600_000
"""Milliseconds."""
RENDER_CACHE_SIZE = 4096


class InvalidAmount(Invalid):
    """An amount is a decimal string with at most eight places, for instance "0.05"."""

    code = "invalid_amount"


def checked(units: int) -> int:
    """The same number, checked to be an `int` that the ledger's BIGINT can hold. Raises `AmountOverflow`."""
    if type(units) is not int:  # the driver would truncate a float silently
        raise TypeError(f"money must be an int, not {type(units).__name__}")
    if not -LARGEST <= units <= LARGEST:
        raise AmountOverflow
    return units


def parse(text: str, *, zero: bool = False) -> int:
    """Minor units of a decimal string such as `"0.05"`; positive, or also zero when `zero` is set.

    Raises `InvalidAmount` for signs, exponents, blanks, more than eight places or a value that is not positive, and
    `AmountOverflow` past 92 233 720 368.54775807.
    """
    whole, point, part = text.partition(".")
    digits = whole + part
    if not (digits.isascii() and digits.isdigit() and whole) or bool(point) != bool(part) or len(part) > SCALE:
        raise InvalidAmount
    if len(whole) > 20 or (len(whole) > 1 and whole[0] == "0"):
        raise InvalidAmount if len(whole) <= 20 else AmountOverflow
    units = checked(int(whole) * UNIT + int(part.ljust(SCALE, "0")))
    if units == 0 and not zero:
        raise InvalidAmount("The amount must be greater than zero.")
    return units


@lru_cache(RENDER_CACHE_SIZE, typed=True)  # prices repeat; typed, so that `True` is refused though 1 is cached
def render(units: int) -> str:
    """The decimal string of minor units, without trailing zeros: `5_000_000` is `"0.05"`."""
    whole, part = divmod(abs(checked(units)), UNIT)
    text = f"{whole}.{part:08d}".rstrip("0").rstrip(".")
    return f"-{text}" if units < 0 else text


def times(units: int, count: int) -> int:
    """`units × count`. Raises `AmountOverflow` past the range of the ledger."""  # noqa: RUF002
    return checked(checked(units) * checked(count))


def for_time(units_per_hour: int, milliseconds: int) -> int:
    """What so much time costs at a price by the hour, rounded half up to one minor unit. Raises `AmountOverflow`."""
    return checked((units_per_hour * milliseconds * 2 + HOUR) // (2 * HOUR))


def share(units: int, basis_points: int) -> int:
    """A share of an amount in basis points (1/10 000), rounded half up to one minor unit."""
    if not 0 <= basis_points <= 10_000:
        raise ValueError(f"basis points lie between 0 and 10000, not {basis_points}")
    return (checked(units) * basis_points + 5_000) // 10_000


def split(units: int, weights: Sequence[int]) -> list[int]:
    """Split an amount in proportion to the weights; the parts add up to exactly `units`.

    Largest-remainder method: each part is rounded down, and the units left over go to the largest remainders; of equal
    ones the first comes first.
    """
    total = sum(weights)
    if units < 0 or total <= 0 or min(weights) < 0:
        raise ValueError("split takes an amount and weights that are not negative, with a positive sum")
    parts = [checked(units) * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(units * weights[i] % total), i))
    for i in by_remainder[: units - sum(parts)]:
        parts[i] += 1
    return parts
