"""Bids for the time of miners, the money that is held for each, and the log of the book that they make.

    placing ──► open ──► filled, canceled, expired        a bid that is refused, or lasts a moment, ends at once

A bid is for so many miners. Each of these is a part with a hold of its own: the first slice of the booking that it may
become, whose id is given beforehand. So what is held for open bids is what their open parts say, at all times.
"""

from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import APPEND_ONLY, NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.matching import LASTING
from aitbc.modules.marketplace.models.bookings import SLICE_MS
from aitbc.modules.marketplace.models.engine import Bid
from aitbc.modules.marketplace.models.tables import Base, OfferRow

MOMENT = DateTime(timezone=True)
QUANTITY_MAX = 16
"""How many miners a bid can be for."""
LONGEST = timedelta(days=30)
"""How long a bid can rest."""
PLACING = timedelta(seconds=60)
"""A bid that is being placed for longer lost its maker on the way."""
HELD_AFTER = timedelta(days=1)
"""How much longer than a bid its money is held; a booking prolongs that."""
KINDS = ("bid", "request")
REASONS = ("would_take", "not_filled", "no_funds", "not_placed", "canceled", "expired", "closed", "momentary")
"""Why a bid, or what was left of it, ended."""


class BidState(StrEnum):
    """Where a bid is in its life."""

    PLACING = "placing"
    OPEN = "open"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"


class PartState(StrEnum):
    """Where a part of a bid is: its money is asked for, held, in a booking, on its way back, or back."""

    ASKED = "asked"
    HELD = "held"
    TRADED = "traded"
    RETURNING = "returning"
    RETURNED = "returned"


class BidRow(Base):
    """A bid for miners that fit a filter, or a request that owners answer."""

    __tablename__ = "bids"
    __table_args__ = (
        CheckConstraint(f"kind IN {KINDS}", name="kind"),
        CheckConstraint(f"state IN {tuple(state.value for state in BidState)}", name="state"),
        CheckConstraint(f"lasts IN {LASTING}", name="lasts"),
        CheckConstraint(f"reason IS NULL OR reason IN {REASONS}", name="reason"),
        CheckConstraint("(state IN ('placing', 'open')) = (ended_at IS NULL)", name="ended"),
        CheckConstraint("limit_units > 0 AND seconds > 0 AND quantity > 0", name="wanted"),
        CheckConstraint("filled BETWEEN 0 AND quantity", name="filled"),
        Index("bids_account_idx", "account", "id"),
        Index("bids_unfinished_idx", "id", postgresql_where=text("ended_at IS NULL")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("mbid"), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    account: Mapped[str] = mapped_column(WireId("acct"))
    filter: Mapped[str] = mapped_column(Text)
    seconds: Mapped[int] = mapped_column(Integer)
    limit_units: Mapped[int] = mapped_column(BigInteger)
    """The most for an hour of one miner."""
    quantity: Mapped[int] = mapped_column(SmallInteger)
    filled: Mapped[int] = mapped_column(SmallInteger)
    lasts: Mapped[str] = mapped_column(Text)
    post_only: Mapped[bool] = mapped_column(Boolean)
    label: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    valid_until: Mapped[datetime] = mapped_column(MOMENT)
    """Of a request, when the cheapest of its asks is taken."""
    sequence: Mapped[int | None] = mapped_column(BigInteger)
    """Its place in the book: the number of its event in the log."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)


class BidPartRow(Base):
    """One miner of a bid: its money, and the booking that it becomes."""

    __tablename__ = "bid_parts"
    __table_args__ = (
        CheckConstraint(f"state IN {tuple(state.value for state in PartState)}", name="state"),
        CheckConstraint("(state = 'traded') = (offer IS NOT NULL AND price_units IS NOT NULL)", name="traded"),
        CheckConstraint("amount_units > 0", name="amount"),
        Index("bid_parts_unfinished_idx", "bid", postgresql_where=text("state IN ('asked', 'returning')")),
        {"info": NO_DELETE},
    )
    bid: Mapped[str] = mapped_column(WireId("mbid"), ForeignKey(BidRow.id), primary_key=True)
    number: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    hold: Mapped[str] = mapped_column(WireId("hold"))
    booking: Mapped[str] = mapped_column(WireId("book"))
    amount_units: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text)
    offer: Mapped[str | None] = mapped_column(WireId("offer"), ForeignKey(OfferRow.id))
    price_units: Mapped[int | None] = mapped_column(BigInteger)


class BidAskRow(Base):
    """What an owner asks for a request; of one offer the newest holds."""

    __tablename__ = "bid_asks"
    __table_args__ = (CheckConstraint("price_units > 0", name="price"), {"info": NO_DELETE})
    bid: Mapped[str] = mapped_column(WireId("mbid"), ForeignKey(BidRow.id), primary_key=True)
    offer: Mapped[str] = mapped_column(WireId("offer"), ForeignKey(OfferRow.id), primary_key=True)
    owner: Mapped[str] = mapped_column(WireId("acct"))
    price_units: Mapped[int] = mapped_column(BigInteger)
    asked_at: Mapped[datetime] = mapped_column(MOMENT)


class BookEventRow(Base):
    """What happened to the book, in the order in which it did: replaying it leads to the same book."""

    __tablename__ = "book_events"
    __table_args__ = ({"info": APPEND_ONLY},)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    body: Mapped[str] = mapped_column(Text)
    """The event, as JSON text."""
    trades: Mapped[int] = mapped_column(SmallInteger)
    created_at: Mapped[datetime] = mapped_column(MOMENT)


def first_ms(seconds: int) -> int:
    """How much time of a booking is held at first."""
    return min(SLICE_MS, seconds * 1000)


def held_units(limit_units: int, seconds: int) -> int:
    """What is held for one miner of a bid: its first slice at the limit."""
    return money.for_time(limit_units, first_ms(seconds))


def order_of(row: BidRow) -> Bid:
    """A bid as the engine takes it."""
    return Bid(
        bid=row.id,
        payer=row.account,
        limit_units=row.limit_units,
        quantity=row.quantity,
        lasts=row.lasts,
        post_only=row.post_only,
    )
