"""Offers and bids of the GPU market: their tables, the states that each side has, and what fits what."""

import math
from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import APPEND_ONLY, NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.kernel.primitives import money
from aitbc.modules.gpu.models.tables import MOMENT, Base

HOURS_MAX = 8760
COUNT_MAX = 100_000


class Side(StrEnum):
    """Which side of the market: a provider that offers, or a buyer that bids."""

    OFFER = "offer"
    BID = "bid"


class OrderState(StrEnum):
    """Where an order is in its life: it is open, as `active` or `pending`, and ends once."""

    ACTIVE = "active"
    PENDING = "pending"
    ACCEPTED = "accepted"
    MATCHED = "matched"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Nobody took it for as long as orders are kept open."""


OPEN = {Side.OFFER: OrderState.ACTIVE, Side.BID: OrderState.PENDING}
"""How each side begins."""
ENDS = {
    Side.OFFER: frozenset({OrderState.MATCHED, OrderState.CANCELLED, OrderState.EXPIRED}),
    Side.BID: frozenset({OrderState.ACCEPTED, OrderState.MATCHED, OrderState.CANCELLED, OrderState.EXPIRED}),
}
"""How each side can end."""
STILL_OPEN = frozenset(OPEN.values())


def may_end(side: Side, state: OrderState, end: OrderState) -> bool:
    """Whether an order of this side may go from this state to that end."""
    return state is OPEN[side] and end in ENDS[side]


def agrees(stated: float, units: int) -> bool:
    """Whether an amount that a sender summed up in floating point means these units.

    To a unit, or to its last digits.
    """
    return math.isclose(stated, units / money.UNIT, rel_tol=1e-12, abs_tol=1 / money.UNIT)


def misfit(offer: "MarketOrderRow", bid: "MarketOrderRow") -> str | None:
    """Why an offer and a bid do not fit each other, in words; none when they do."""
    if bid.price_units < offer.price_units:
        return "The bid pays less than the offer asks."
    if bid.gpu_count != offer.gpu_count:
        return "The bid is for another number of GPUs than the offer."
    if bid.duration_ms != offer.duration_ms:
        return "The bid is for another time than the offer."
    for mine, other in ((offer.island, bid.island), (offer.chain, bid.chain)):
        if None not in (mine, other) and mine != other:
            return "The offer and the bid are on different islands or chains."
    return None


class MarketOrderRow(Base):
    """An offer or a bid; its terms never change."""

    __tablename__ = "market_orders"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    """The name that its maker gave it, or one of ours; offers and bids share them."""
    side: Mapped[str] = mapped_column(Text)
    account: Mapped[str] = mapped_column(WireId("acct"))
    node: Mapped[str] = mapped_column(Text)
    """Who offers or bids, as it calls itself."""
    island: Mapped[str | None] = mapped_column(Text)
    chain: Mapped[str | None] = mapped_column(Text)
    gpu_count: Mapped[int] = mapped_column(Integer)
    price_units: Mapped[int] = mapped_column(BigInteger)
    """Per GPU and hour; of a bid the most that it pays."""
    duration_ms: Mapped[int] = mapped_column(BigInteger)
    total_units: Mapped[int] = mapped_column(BigInteger)
    model: Mapped[str | None] = mapped_column(Text)
    region: Mapped[str | None] = mapped_column(Text)
    specs: Mapped[str] = mapped_column(Text)
    """The free object that came with it, as JSON."""
    description: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of what was asked for: the same again is no other order."""
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)
    ended_by: Mapped[str | None] = mapped_column(WireId("acct"))
    ending: Mapped[bytes | None] = mapped_column(LargeBinary)
    """SHA-256 of the command that ended it, where it can be distinguished from another one like it."""
    partner: Mapped[str | None] = mapped_column(WireId("acct"))
    partner_node: Mapped[str | None] = mapped_column(Text)
    """Who accepted it, or whom it was matched with."""

    __table_args__ = (
        CheckConstraint(
            "(side = 'offer' AND state IN ('active', 'matched', 'cancelled', 'expired'))"
            " OR (side = 'bid' AND state IN ('pending', 'accepted', 'matched', 'cancelled', 'expired'))",
            name="state",
        ),
        CheckConstraint("(state IN ('active', 'pending')) = (ended_at IS NULL)", name="ended"),
        CheckConstraint("(state IN ('accepted', 'matched')) = (partner IS NOT NULL)", name="partner"),
        CheckConstraint(
            "gpu_count BETWEEN 1 AND 100000 AND duration_ms > 0 AND price_units >= 0 AND total_units >= 0", name="terms"
        ),
        Index("market_orders_created_at_idx", "created_at", "id"),
        Index(
            "market_orders_open_idx",
            "account",
            postgresql_where=text("state = ANY (ARRAY['active'::text, 'pending'::text])"),
        ),
        {"info": NO_DELETE},
    )


class MarketMatchRow(Base):
    """An offer and a bid that found each other, at the offer's price; each does so once."""

    __tablename__ = "market_matches"
    offer: Mapped[str] = mapped_column(Text, ForeignKey(MarketOrderRow.id), primary_key=True)
    bid: Mapped[str] = mapped_column(Text, ForeignKey(MarketOrderRow.id), unique=True)
    gpu_count: Mapped[int] = mapped_column(Integer)
    price_units: Mapped[int] = mapped_column(BigInteger)
    duration_ms: Mapped[int] = mapped_column(BigInteger)
    total_units: Mapped[int] = mapped_column(BigInteger)
    matched_by: Mapped[str] = mapped_column(WireId("acct"))
    matched_at: Mapped[datetime] = mapped_column(MOMENT)

    __table_args__ = ({"info": APPEND_ONLY},)
