"""Bookings of offers: the time of a miner that somebody has for themselves, paid in slices.

    placed ──► active ⇄ suspended        suspended while its money is used up, with its miner kept for a grace
      │  └► reserved ─┘      │
      └──────────┴───────────┴──► ending ──► ended        each end has a reason

A slice is a stretch of time that is held before it is used, and paid for when it is over. What was held and not used
returns. Time in which the miner took no work is not used.
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

from aitbc.kernel.database.standard_tables import NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.modules.marketplace.models.tables import Base, OfferRow

MOMENT = DateTime(timezone=True)
MILLISECOND = timedelta(milliseconds=1)
SLICE_MS = 300_000
"""How long a slice is; the last one of a booking may be shorter."""
SHORTEST_MS = 10_000
"""Where the payer's money covers less than this, no slice is held for it."""
HOUR_MS = 3_600_000
AHEAD_MS = 60_000
"""The next slice is held when so little is left of what is held."""
GRACE = timedelta(hours=1)
"""How long a suspended booking keeps its miner."""
NOW = timedelta(seconds=5)
"""A start that is so near is now."""
LATE = timedelta(minutes=15)
"""How long a reserved booking waits for its miner, and an active one for a miner that is silent."""
NOTICE = timedelta(minutes=10)
"""How long before its end the payer of an interruptible booking is told."""
PLACING = timedelta(seconds=60)
"""A booking that is placed for longer lost its maker on the way."""
HELD_AFTER = timedelta(days=7)
"""How much longer than its booking a slice's money is held: a payment that was missed is made within this time."""
THRESHOLDS = (timedelta(hours=24), timedelta(hours=1), timedelta(minutes=10))
"""How long before the money ends its payer is warned: once for each."""
REFUND_RULE = (
    "Each second is paid for as it is used. Time that is not used, or in which the miner takes no work, is not paid: "
    "what was held for it returns when the booking ends. One that is given up before it starts costs nothing. "
    "What was paid can be disputed within 72 hours of its end: it is set aside as far as the owner has it, and where "
    "nobody decides within 7 days half of it returns, or all if the owner said nothing."
)
_OPEN = text("ended_at IS NULL")


class BookingState(StrEnum):
    """Where a booking is in its life."""

    PLACED = "placed"
    RESERVED = "reserved"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    ENDING = "ending"
    ENDED = "ended"


MOVES: dict[BookingState, frozenset[BookingState]] = {
    BookingState.PLACED: frozenset({BookingState.RESERVED, BookingState.ACTIVE, BookingState.ENDING}),
    BookingState.RESERVED: frozenset({BookingState.ACTIVE, BookingState.ENDING}),
    BookingState.ACTIVE: frozenset({BookingState.SUSPENDED, BookingState.ENDING}),
    BookingState.SUSPENDED: frozenset({BookingState.ACTIVE, BookingState.ENDING}),
    BookingState.ENDING: frozenset({BookingState.ENDED}),
    BookingState.ENDED: frozenset(),
}
RUNS = frozenset({BookingState.ACTIVE, BookingState.SUSPENDED})
"""The states in which its miner is kept for it."""
REASONS = (
    *("completed", "released", "interrupted", "unpaid", "idle"),
    *("miner_lost", "miner_unavailable", "no_funds", "not_begun"),
)
"""How a booking can end: its time is over, its payer gave it back, its owner took the miner back after notice, its
money was used up for longer than the grace, its payer's own guard found it idle, its miner was away or removed, its
miner could not be had at its start, its first slice could not be held, or its maker was lost on the way."""


class MarketBookingRow(Base):
    """A booking of an offer. That no two of a miner overlap is a constraint on time ranges, made by its migration."""

    __tablename__ = "bookings"
    __table_args__ = (
        CheckConstraint(f"state IN {tuple(state.value for state in BookingState)}", name="state"),
        CheckConstraint(f"reason IS NULL OR reason IN {REASONS}", name="reason"),
        CheckConstraint("(state = 'ended') = (ended_at IS NOT NULL)", name="ended"),
        CheckConstraint("(state IN ('ending', 'ended')) = (reason IS NOT NULL)", name="why"),
        CheckConstraint("(state = 'suspended') = (suspended_at IS NOT NULL)", name="suspended"),
        CheckConstraint("price_units > 0 AND (proposed_units IS NULL OR proposed_units > 0)", name="price"),
        CheckConstraint("ends_at > starts_at", name="times"),
        CheckConstraint("slices >= 0 AND held_ms >= 0 AND used_ms >= 0 AND paid_units >= 0", name="counted"),
        Index("bookings_account_idx", "account", "id"),
        Index("bookings_owner_idx", "owner", "id"),
        Index("bookings_open_idx", "id", postgresql_where=_OPEN),
        Index("bookings_agreement_key", "agreement", unique=True, postgresql_where=text("agreement IS NOT NULL")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("book"), primary_key=True)
    offer: Mapped[str] = mapped_column(WireId("offer"), ForeignKey(OfferRow.id))
    account: Mapped[str] = mapped_column(WireId("acct"))
    """Who pays."""
    owner: Mapped[str] = mapped_column(WireId("acct"))
    miner: Mapped[str] = mapped_column(WireId("mnr"))
    label: Mapped[str | None] = mapped_column(Text)
    agreement: Mapped[str | None] = mapped_column(Text)
    """The agreement of a trade by which it was placed; none where its payer booked an offer."""
    price_units: Mapped[int] = mapped_column(BigInteger)
    """For an hour: as it was when it was booked, or as its payer agreed to since."""
    proposed_units: Mapped[int | None] = mapped_column(BigInteger)
    """What its owner would have for an hour, until the payer answers."""
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    starts_at: Mapped[datetime] = mapped_column(MOMENT)
    ends_at: Mapped[datetime] = mapped_column(MOMENT)
    interruptible: Mapped[bool] = mapped_column(Boolean)
    interrupt_at: Mapped[datetime | None] = mapped_column(MOMENT)
    idle_seconds: Mapped[int | None] = mapped_column(Integer)
    busy_at: Mapped[datetime | None] = mapped_column(MOMENT)
    """When its miner was last seen at work; at first when it began."""
    suspended_at: Mapped[datetime | None] = mapped_column(MOMENT)
    slices: Mapped[int] = mapped_column(Integer)
    held_ms: Mapped[int] = mapped_column(BigInteger)
    """How much time was held so far, with what is paid already."""
    used_ms: Mapped[int] = mapped_column(BigInteger)
    """How much time was used, as of the last look; exact once it is over."""
    paid_units: Mapped[int] = mapped_column(BigInteger)
    warned: Mapped[int] = mapped_column(SmallInteger)
    """How many of the thresholds its payer was warned of."""
    money_until: Mapped[datetime | None] = mapped_column(MOMENT)
    """Until when the payer's money lasts, as of the last look."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    began_at: Mapped[datetime | None] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)


class SliceRow(Base):
    """A stretch of a booking's time: held before it is used, paid when it is over.

    `unfunded` is one that the payer's money did not cover: nothing of it is held, and it is asked for anew.
    """

    __tablename__ = "booking_slices"
    __table_args__ = (
        CheckConstraint("state IN ('asked', 'unfunded', 'held', 'paid', 'returned')", name="state"),
        CheckConstraint("millis > 0 AND amount_units >= 0 AND paid_units BETWEEN 0 AND amount_units", name="amounts"),
        {"info": NO_DELETE},
    )
    booking: Mapped[str] = mapped_column(WireId("book"), ForeignKey(MarketBookingRow.id), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    hold: Mapped[str] = mapped_column(WireId("hold"))
    millis: Mapped[int] = mapped_column(BigInteger)
    price_units: Mapped[int] = mapped_column(BigInteger)
    amount_units: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text)
    paid_units: Mapped[int] = mapped_column(BigInteger)
    fee_units: Mapped[int | None] = mapped_column(BigInteger)
    """The platform's part of what was paid; none before it is, and where it was paid before this was kept."""
    transaction: Mapped[str | None] = mapped_column(WireId("txn"))


def new_booking(
    booking: str, offer: OfferRow, *, payer: str, price_units: int, starts_at: datetime, seconds: int
) -> MarketBookingRow:
    """A booking of an offer before anything is held for it: its times are what it is kept for."""
    return MarketBookingRow(
        id=booking,
        offer=offer.id,
        account=payer,
        owner=offer.account,
        miner=offer.miner,
        label=None,
        agreement=None,
        price_units=price_units,
        proposed_units=None,
        state=BookingState.PLACED,
        reason=None,
        starts_at=starts_at,
        ends_at=starts_at + timedelta(seconds=seconds),
        interruptible=offer.interruptible,
        interrupt_at=None,
        idle_seconds=None,
        busy_at=None,
        suspended_at=None,
        slices=0,
        held_ms=0,
        used_ms=0,
        paid_units=0,
        warned=0,
        money_until=None,
        created_at=now(),
        began_at=None,
        ended_at=None,
    )


def next_millis(row: MarketBookingRow, at: datetime) -> int:
    """How much time the next slice is for: none where what is held reaches to the end."""
    begins = max(at, row.starts_at)
    return min(SLICE_MS, (row.ends_at - begins) // MILLISECOND - left_ms(row))


def affordable_ms(row: MarketBookingRow, available_units: int, millis: int) -> int:
    """How much of so much time the payer's money covers; none where that is hardly any."""
    covered = min(millis, available_units * HOUR_MS // row.price_units)
    return covered if covered >= min(SHORTEST_MS, millis) else 0


def left_ms(row: MarketBookingRow) -> int:
    """How much of the held time is not used yet."""
    return max(0, row.held_ms - row.used_ms)


def new_slice(row: MarketBookingRow) -> SliceRow:
    """The next slice of a booking, before it is asked for."""
    return SliceRow(booking=row.id, number=row.slices + 1, paid_units=0, fee_units=None, transaction=None)


def ask_for(one: SliceRow, row: MarketBookingRow, millis: int) -> None:
    """Let a slice that holds nothing be for so much time at the booking's present price."""
    one.hold, one.state, one.millis = ids.new_id("hold"), "asked", millis
    one.price_units, one.amount_units = row.price_units, money.for_time(row.price_units, millis)


def due_units(one: SliceRow, begins_ms: int, used_ms: int) -> int:
    """What is to be paid of a slice that begins at so much of its booking's time, of which so much was used."""
    part = max(0, min(used_ms - begins_ms, one.millis))
    return one.amount_units if part == one.millis else min(one.amount_units, money.for_time(one.price_units, part))


def lasts_until(row: MarketBookingRow, available_units: int, at: datetime) -> datetime:
    """Until when its money lasts: what is held, and what the payer has beside it; never beyond its end."""
    more = min(available_units * HOUR_MS // row.price_units, (row.ends_at - row.starts_at) // MILLISECOND)
    begins = max(at, row.starts_at)
    return min(row.ends_at, begins + (left_ms(row) + more) * MILLISECOND)


def warning_level(row: MarketBookingRow, until: datetime, at: datetime) -> int:
    """How many thresholds have come: none while the money lasts to the end."""
    return 0 if until >= row.ends_at else sum(until - at <= threshold for threshold in THRESHOLDS)
