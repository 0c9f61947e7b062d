"""What a market maker quotes: pure, from the middle of the book and its limits."""

from collections.abc import Sequence

from msgspec import Struct

from aitbc.kernel.primitives.money import UNIT

WHOLE = 20_000
"""Twice 10 000: half of a spread in basis points is a share of it."""


class Quoting(Struct, frozen=True, kw_only=True):
    """How a market maker quotes."""

    spread_basis_points: int
    depth: int
    size_units: int
    base_units: int
    """The most of `base` that may lie in its asks: its limit, or what the account has."""
    quote_units: int
    """The most of `quote` that may lie in its bids."""
    price_step_units: int
    quantity_step_units: int
    min_quantity_units: int
    max_price_units: int = 2**62


class Quote(Struct, frozen=True, kw_only=True):
    """An order that it wants in the book."""

    side: str
    price_units: int
    quantity_units: int


def middle(bid: int | None, ask: int | None, last: int | None) -> int | None:
    """The price that is quoted around: between the best of others, else the only one, else the last that was traded."""
    if bid is not None and ask is not None:
        return (bid + ask) // 2
    found = [price for price in (bid, ask, last) if price is not None]
    return found[0] if found else None


def quotes(middle_units: int, how: Quoting) -> list[Quote]:
    """The orders around a price, the nearest first; the last of a side is for what is left of the money."""
    return [*_side("buy", middle_units, how), *_side("sell", middle_units, how)]


def _side(side: str, middle_units: int, how: Quoting) -> Sequence[Quote]:
    found: list[Quote] = []
    left = how.quote_units if side == "buy" else how.base_units
    for level in range(1, how.depth + 1):
        price = _price(side, middle_units, how, level)
        if price <= 0 or price > how.max_price_units or any(one.price_units == price for one in found):
            continue
        affordable = left * UNIT // price if side == "buy" else left
        quantity = min(how.size_units, affordable) // how.quantity_step_units * how.quantity_step_units
        if quantity < how.min_quantity_units:
            break
        left -= quantity * price // UNIT if side == "buy" else quantity
        found.append(Quote(side=side, price_units=price, quantity_units=quantity))
    return found


def _price(side: str, middle_units: int, how: Quoting, level: int) -> int:
    """A level is a whole spread farther than the one before; bids are rounded down to the step, asks up."""
    away, step = how.spread_basis_points * (2 * level - 1), how.price_step_units
    if side == "buy":
        return middle_units * max(WHOLE - away, 0) // WHOLE // step * step
    return -(-middle_units * (WHOLE + away) // (WHOLE * step)) * step
