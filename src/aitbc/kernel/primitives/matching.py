"""Price-time priority: an order takes what rests on the other side, the best price first, of equal ones the oldest.

Pure and the only matcher here: the bids of the market and the orders of the exchange both go by it.
"""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

LASTING = ("gtc", "ioc", "fok")
"""How long an order lasts: until it is canceled, or for one moment; `fok` takes all of it then, or nothing."""
WOULD_TAKE, NOT_FILLED, SELF_TRADE, TOO_MANY = "would_take", "not_filled", "self_trade", "too_many"


class Order(Struct, frozen=True, kw_only=True):
    """What somebody wants to buy or to sell."""

    id: str
    owner: str
    is_buy: bool
    price_units: int | None
    """The limit: the most a buyer gives, the least a seller takes; None takes any price."""
    quantity: int
    place: Any = 0
    """Where it stands among others of one price: the lowest is the oldest."""


class How(Struct, frozen=True, kw_only=True):
    """How an order is to be matched."""

    lasts: str = "gtc"
    post_only: bool = False
    """Refused where it would take something at once."""
    skips_own: bool = False
    """Pass over what rests of the same owner; otherwise what is left of the order ends where it meets it."""
    fills_max: int | None = None
    """What is left of the order ends after so many fills."""


class Fill(Struct, frozen=True, kw_only=True):
    """So much of what rests was taken, at the price that it names."""

    maker: str
    price_units: int
    quantity: int


class Matched(Struct, frozen=True, kw_only=True):
    """What became of an order."""

    fills: tuple[Fill, ...] = ()
    left: int = 0
    rests: bool = False
    """Whether what is left stays."""
    reason: str | None = None
    """Why nothing was taken (`would_take`, `not_filled`), or why what is left ended (`self_trade`, `too_many`)."""


def match(taker: Order, resting: Iterable[Order], how: How) -> Matched:
    """Match an order with what rests on the other side; the same arguments lead to the same fills."""
    fills, left, reason = list[Fill](), taker.quantity, None
    for maker in by_priority(order for order in resting if crosses(taker, order)):
        if not left:
            break
        if maker.owner == taker.owner:
            if how.skips_own:
                continue
            reason = SELF_TRADE
            break
        if len(fills) == how.fills_max:
            reason = TOO_MANY
            break
        assert maker.price_units is not None, "what rests has a price"
        fill = Fill(maker=maker.id, price_units=maker.price_units, quantity=min(left, maker.quantity))
        fills.append(fill)
        left -= fill.quantity
    if how.post_only and (fills or reason):
        return Matched(left=taker.quantity, reason=WOULD_TAKE)
    if how.lasts == "fok" and left:
        return Matched(left=taker.quantity, reason=reason or NOT_FILLED)
    rests = bool(left) and how.lasts == "gtc" and reason is None
    return Matched(fills=tuple(fills), left=left, rests=rests, reason=reason)


def crosses(taker: Order, maker: Order) -> bool:
    """Whether two orders of opposite sides agree on a price."""
    if taker.is_buy == maker.is_buy:
        return False
    if taker.price_units is None or maker.price_units is None:
        return maker.price_units is not None
    return maker.price_units <= taker.price_units if taker.is_buy else maker.price_units >= taker.price_units


def by_priority(resting: Iterable[Order]) -> list[Order]:
    """Orders of one side, the best price first, of equal ones the oldest."""
    return sorted(resting, key=lambda order: (_better(order), order.place, order.id))


def _better(order: Order) -> int:
    assert order.price_units is not None, "what rests has a price"
    return -order.price_units if order.is_buy else order.price_units
