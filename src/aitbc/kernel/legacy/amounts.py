"""Money and prices as the legacy dialect writes them: JSON numbers of AITBC. Inside they are integers of minor units.

A price is read exactly or refused; only a sum that a client added up in floating point is rounded.
"""

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Annotated, Any

from msgspec import Meta

from aitbc.kernel.legacy.errors import invalid
from aitbc.kernel.primitives import money

Amount = Annotated[float, Meta(ge=0, le=1e9)]
"""A price or another single amount in AITBC, 0 to a billion."""
PositiveAmount = Annotated[float, Meta(gt=0, le=1e9)]
"""The same without zero."""
Total = Annotated[float, Meta(ge=0, le=1e11)]
"""A sum of amounts in AITBC."""
EXPECTED = "Expected an amount from 0 on with at most eight decimal places"


def units_of(amount: Any, field: str) -> int:
    """Minor units of an amount in AITBC (a number or its text), exactly.

    Raises `Invalid` at `field` for anything else, a negative amount, more than eight places, or more than the ledger
    holds.
    """
    refusal = invalid(field, EXPECTED)
    if isinstance(amount, bool) or not isinstance(amount, (int, float, str)):
        raise refusal
    try:
        units = Decimal(str(amount)) * money.UNIT  # the shortest text of a float is what its sender wrote
        if not units.is_finite() or units != units.to_integral_value() or not 0 <= units <= money.LARGEST:
            raise refusal
        return int(units)
    except InvalidOperation:
        raise refusal from None


def optional_units_of(amount: Any, field: str) -> int | None:
    """`units_of`, and none for none. Raises `Invalid` at `field`."""
    return None if amount is None else units_of(amount, field)


def nearest_units_of(total: float | None) -> int | None:
    """Minor units of a sum that its sender added up in floating point, rounded half up. Raises `AmountOverflow`."""
    if total is None:
        return None
    return money.checked(int((Decimal(str(total)) * money.UNIT).to_integral_value(ROUND_HALF_UP)))


def amount_of(units: int) -> float:
    """AITBC as a number, of minor units: the nearest float, as clients of this dialect expect."""
    return float(units / money.UNIT)


def optional_amount_of(units: int | None) -> float | None:
    """`amount_of`, and none for none."""
    return None if units is None else amount_of(units)


def decimal_text(amount: float) -> str:
    """A number in AITBC as the decimal text that our own API takes, without an exponent: 5e-05 is `"0.00005"`."""
    return format(Decimal(repr(amount)), "f")
