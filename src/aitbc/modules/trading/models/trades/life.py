"""The states of a trade, how long each lasts, what settling costs, and how negotiations go; pure."""

from datetime import timedelta
from enum import StrEnum

from msgspec import Struct


class TradeState(StrEnum):
    """Where a request, a match, an agreement or a settlement is."""

    OPEN = "open"
    MATCHING = "matching"
    NEGOTIATING = "negotiating"
    AGREED = "agreed"
    SETTLING = "settling"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


S = TradeState
UNDECIDED = (S.OPEN, S.MATCHING, S.NEGOTIATING)
"""A request or match about which nothing is agreed yet."""
MOVES: dict[TradeState, frozenset[TradeState]] = {
    S.OPEN: frozenset({S.MATCHING, S.NEGOTIATING, S.AGREED, S.CANCELLED, S.FAILED}),
    S.MATCHING: frozenset({S.NEGOTIATING, S.AGREED, S.CANCELLED, S.FAILED}),
    S.NEGOTIATING: frozenset({S.MATCHING, S.AGREED, S.CANCELLED, S.FAILED}),
    S.AGREED: frozenset({S.SETTLING, S.COMPLETED, S.CANCELLED}),
    S.SETTLING: frozenset({S.COMPLETED, S.FAILED}),
    S.COMPLETED: frozenset(),
    S.CANCELLED: frozenset(),
    S.FAILED: frozenset(),
}
"""From each state, those that may follow; an agreement takes its request and its match with it."""


class PaymentState(StrEnum):
    """Where one payment of a settlement is: its money is held until it ends, once."""

    HELD = "held"
    DELIVERED = "delivered"
    PAID = "paid"
    REFUNDED = "refunded"
    DIVIDED = "divided"
    """A dispute gave each side a part."""


UNPAID = (PaymentState.HELD, PaymentState.DELIVERED)

REQUEST_LASTS = timedelta(days=7)
REQUEST_LASTS_MAX = timedelta(days=90)
MATCH_LASTS = timedelta(hours=24)
AGREEMENT_WAITS = timedelta(hours=24)
"""How long an agreement waits for its settlement."""
BOOKING_WAITS = timedelta(days=7)
"""How long one about an offer of the market waits for word of its booking: longer than placing it may take."""
DELIVERY_LASTS = timedelta(hours=168)
"""What is not delivered so long after the money was set aside is refunded."""
DISPUTE_LASTS = timedelta(days=7)
"""A dispute that nobody decided for so long is divided evenly."""
HELD_FOR = timedelta(days=36_500)
"""The hold of a trade has no deadline of its own: the settlement has, and ends both in one transaction."""
EVEN = 5_000
"""Half, in basis points."""


class Terms(Struct, frozen=True):
    """What a type of settlement costs, and how long after a delivery it pays without the buyer's word."""

    fee_basis_points: int
    confirmed_after: timedelta
    """Not used by a subscription, which time pays: nothing is delivered."""


TERMS = {
    "immediate": Terms(100, timedelta()),
    "escrow": Terms(200, timedelta(hours=24)),
    "milestone": Terms(250, timedelta(hours=2)),
    "subscription": Terms(150, timedelta()),
}


class StrategyTerms(Struct, frozen=True):
    """How a negotiation goes: shares of a price in basis points, and its rounds."""

    tolerance: int
    """How far apart two prices may be to count as near."""
    concession: int
    """By how much each further price of a party must come towards the other."""
    rounds: int


STRATEGIES = {
    "aggressive": StrategyTerms(500, 200, 3),
    "balanced": StrategyTerms(1_000, 500, 5),
    "cooperative": StrategyTerms(1_500, 800, 7),
}
ANSWER_LASTS = timedelta(minutes=60)
NEGOTIATION_LASTS = timedelta(hours=24)
AUTO_ACCEPT = 85.0
SPECIFICATIONS_MIN = 70.0


def opening_price(least: int, most: int | None, asked: int) -> int:
    """The mean of budget and offer; the offer's price stands in for a limit that was not said."""
    return (least + (asked if most is None else most) + asked) // 3


def agreement_score(standing: int, countered: int, tolerance: int) -> float:
    """100 for equal prices, 0 for prices as far apart as the strategy tolerates, or farther."""
    apart = abs(standing - countered) * 10_000 / standing
    return round(max(0.0, 100.0 * (1 - apart / tolerance)), 2)


def concedes(before: int, after: int, concession: int, *, buyer: bool) -> bool:
    """Whether a party's next price comes far enough towards the other side."""
    step = before * concession // 10_000
    return after >= before + step if buyer else after <= before - step
