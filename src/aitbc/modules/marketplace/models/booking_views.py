"""Bookings as both sides see them: the same words and figures for payer and owner."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Struct

from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.modules.marketplace.models.bookings import (
    GRACE,
    REASONS,
    REFUND_RULE,
    BookingState,
    MarketBookingRow,
    SliceRow,
    left_ms,
)
from aitbc.modules.marketplace.models.disputes import WITHIN

SLICE_STATES = ("asked", "held", "paid", "returned")


class MarketBooking(Struct, frozen=True, kw_only=True):
    """The time of a miner that somebody has for themselves, by an offer of its owner."""

    id: str
    """The booking; jobs name it in `requirements.booking`. For example `book_01k0000000000000000000000a`."""
    offer: str
    """The offer that was taken. For example `offer_01k0000000000000000000000a`."""
    miner: str
    """The miner that works for the payer alone. For example `mnr_01k0000000000000000000000a`."""
    account: str
    """Who pays. For example `acct_01k0000000000000000000000a`."""
    owner: str
    """Who is paid. For example `acct_01k0000000000000000000000b`."""
    label: str | None
    """What it is for, in the payer's words. For example `evaluation`."""
    state: Annotated[str, one_of(tuple(state.value for state in BookingState))]
    """`reserved` until it starts, `active`, `suspended` while its money is used up, `ended`; `placed` and `ending` for
    a moment between."""
    reason: Annotated[str, one_of(REASONS)] | None
    """How it ended; null before. For example `released`."""
    price_hour: str
    """The price of an hour, in AITBC. For example `0.8`."""
    proposed_price_hour: str | None
    """What its owner would have for an hour; it holds only if the payer accepts it. For example `0.9`."""
    starts_at: datetime
    """From when on the miner is the payer's."""
    ends_at: datetime
    """Until when at most."""
    used_seconds: float
    """How much was used, in seconds, as of the last look; exact once it has ended. For example `1800.0`."""
    held_seconds: float
    """For how much more time money is held, in seconds. For example `300.0`."""
    paid: str
    """What was paid so far, in AITBC. For example `0.4`."""
    money_until: datetime | None
    """Until when the payer's money lasts, as of the last look; null before the first."""
    suspended_until: datetime | None
    """Until when a suspended one keeps its miner; a top-up before that resumes it."""
    interruptible: bool
    """Whether its owner may end it early, ten minutes after saying so."""
    interrupt_at: datetime | None
    """When its owner ends it; null where nothing is announced."""
    idle_after_seconds: int | None
    """The payer's guard: it ends after so long without a job at work; null for never. For example `1800`."""
    created_at: datetime
    """When it was made."""
    began_at: datetime | None
    """When its miner became the payer's."""
    ended_at: datetime | None
    """When it was over and paid."""


class BookingSlice(Struct, frozen=True, kw_only=True):
    """A stretch of a booking's time that was held, and what was paid of it."""

    number: int
    """Counts from 1. For example `1`."""
    seconds: float
    """How long it is. For example `300.0`."""
    price_hour: str
    """The price of an hour that holds for it, in AITBC. For example `0.8`."""
    held: str
    """What was held for it, in AITBC. For example `0.06666667`."""
    paid: str
    """What was paid of that; the rest returned. For example `0.06`."""
    state: Annotated[str, one_of(SLICE_STATES)]
    """`asked` while it is being held, `held`, `paid` or `returned`."""
    transaction: str | None
    """The transaction in the ledger that paid it. For example `txn_01k0000000000000000000000a`."""


class BookingStatement(Struct, frozen=True, kw_only=True):
    """The receipt of a booking, the same for both sides: what was used, what was paid, and by which transactions."""

    booking: MarketBooking
    """The booking."""
    slices: tuple[BookingSlice, ...]
    """Each stretch of it; each payment is a transaction of the chain, with the platform's fee in it."""
    refund_rule: str
    """What is paid and what returns, as it was said before. For example `Each second is paid for as it is used.`."""
    dispute_until: datetime | None
    """Until when its payer can dispute what was paid; null while it is not over, and where nothing was."""


class MarketBookingQuote(Struct, frozen=True, kw_only=True):
    """What booking an offer would cost; nothing was changed."""

    offer: str
    """The offer. For example `offer_01k0000000000000000000000a`."""
    price_hour: str
    """The price of an hour, in AITBC. For example `0.8`."""
    starts_at: datetime
    """When it would start."""
    ends_at: datetime
    """When it would end."""
    price_max: str
    """What all of its time costs, in AITBC; less where the miner is away or it ends early. For example `2.4`."""
    held_first: str
    """What is held at first; more is held a minute before that is used up. For example `0.06666667`."""
    fee_basis_points: int
    """The platform's share of what is paid, in 1/10 000. For example `250`."""
    available: str
    """What the caller's account has, in AITBC. For example `10`."""
    money_until: datetime
    """Until when that lasts."""
    is_free: bool
    """Whether nobody has booked the miner for that time."""
    refund_rule: str
    """What is paid and what returns. For example `Each second is paid for as it is used.`."""


def booking_view(row: MarketBookingRow) -> MarketBooking:
    """A booking as both sides see it."""
    return MarketBooking(
        id=row.id,
        offer=row.offer,
        miner=row.miner,
        account=row.account,
        owner=row.owner,
        label=row.label,
        state=row.state,
        reason=row.reason,
        price_hour=money.render(row.price_units),
        proposed_price_hour=None if row.proposed_units is None else money.render(row.proposed_units),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        used_seconds=row.used_ms / 1000,
        held_seconds=0.0 if row.ended_at else left_ms(row) / 1000,
        paid=money.render(row.paid_units),
        money_until=row.money_until,
        suspended_until=None if row.suspended_at is None else row.suspended_at + GRACE,
        interruptible=row.interruptible,
        interrupt_at=row.interrupt_at,
        idle_after_seconds=row.idle_seconds,
        created_at=row.created_at,
        began_at=row.began_at,
        ended_at=row.ended_at,
    )


def statement_of(row: MarketBookingRow, slices: Sequence[SliceRow]) -> BookingStatement:
    """The receipt of a booking."""
    return BookingStatement(
        booking=booking_view(row),
        slices=tuple(
            BookingSlice(
                number=one.number,
                seconds=one.millis / 1000,
                price_hour=money.render(one.price_units),
                held=money.render(one.amount_units),
                paid=money.render(one.paid_units),
                state=one.state,
                transaction=one.transaction,
            )
            for one in slices
            if one.state != "unfunded"
        ),
        refund_rule=REFUND_RULE,
        dispute_until=None if row.ended_at is None or not row.paid_units else row.ended_at + WITHIN,
    )
