"""Orders that older clients post: their tables, the states that each side has, and how the engine is told of them.

An order is the word of somebody's node about GPUs that nobody enrolled here, so no money is held and nothing booked.
"""

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
from aitbc.modules.marketplace.models.engine import Ask, Bid
from aitbc.modules.marketplace.models.tables import MOMENT, Base

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


def total(price_units: int, gpu_count: int, duration_ms: int) -> int:
    """What so many GPUs cost for so long at a price per GPU and hour. Raises `AmountOverflow`."""
    return money.for_time(price_units * gpu_count, duration_ms)


def misfit(offer: "PostedOrderRow", bid: "PostedOrderRow") -> str | None:
    """Why an offer and a bid are about different things, in words; none where only their prices decide."""
    if bid.gpu_count != offer.gpu_count:
        return "The bid is for another number of GPUs than the offer."
    if bid.duration_ms != offer.duration_ms:
        return "The bid is for another time than the offer."
    for mine, other in ((offer.island, bid.island), (offer.chain, bid.chain)):
        if None not in (mine, other) and mine != other:
            return "The offer and the bid are on different islands or chains."
    return None


def party(account: str, node: str) -> str:
    """Who the engine takes somebody for: clients without a key share an account, so it is the node that counts."""
    return f"{account} {node}"


def bid_of(row: "PostedOrderRow", lasts: str = "gtc") -> Bid:
    """A bid as the engine takes it: all of its GPUs, or none."""
    payer = party(row.account, row.node)
    return Bid(bid=engine_id(row.id), payer=payer, limit_units=row.price_units, quantity=1, lasts=lasts)


def ask_of(row: "PostedOrderRow") -> Ask:
    """An offer as the engine takes it."""
    owner = party(row.account, row.node)
    return Ask(offer=engine_id(row.id), owner=owner, price_units=row.price_units, since=row.created_at)


def engine_id(order: str) -> str:
    """The id of an order in the log of the book, where it is no bid for miners, whatever its maker called it."""
    return f"posted/{order}"


class PostedOrderRow(Base):
    """An offer or a bid; its terms never change."""

    __tablename__ = "posted_orders"
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
    sequence: Mapped[int | None] = mapped_column(BigInteger)
    """Of a bid: its place in the book, the number of its event in the log."""
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
        Index("posted_orders_created_at_idx", "created_at", "id"),
        Index(
            "posted_orders_open_idx",
            "account",
            postgresql_where=text("state = ANY (ARRAY['active'::text, 'pending'::text])"),
        ),
        {"info": NO_DELETE},
    )


class PostedMatchRow(Base):
    """An offer and a bid that found each other, at the offer's price; each does so once."""

    __tablename__ = "posted_matches"
    offer: Mapped[str] = mapped_column(Text, ForeignKey(PostedOrderRow.id), primary_key=True)
    bid: Mapped[str] = mapped_column(Text, ForeignKey(PostedOrderRow.id), unique=True)
    gpu_count: Mapped[int] = mapped_column(Integer)
    price_units: Mapped[int] = mapped_column(BigInteger)
    duration_ms: Mapped[int] = mapped_column(BigInteger)
    total_units: Mapped[int] = mapped_column(BigInteger)
    matched_by: Mapped[str] = mapped_column(WireId("acct"))
    matched_at: Mapped[datetime] = mapped_column(MOMENT)

    __table_args__ = ({"info": APPEND_ONLY},)
