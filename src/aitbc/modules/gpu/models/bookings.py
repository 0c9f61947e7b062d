"""Bookings: the time of a listed GPU that somebody has for themselves, from the moment it is booked.

    placed ──► active ──► released   its booker gave it back: the time until then is paid
      │          ├──────► ended      its time is over: all of it is paid
      │          └──────► canceled   its owner took the GPU away: nothing is paid
      └► refused, canceled           its money could not be held, or the GPU went before it was

Time in which its miner took no work is not paid (decision 0034): a heartbeat stands for the time until `grace_ms`
after it.

Only the money of an `active` one is known to be held. Once a booking has ended, its money is settled, and
`settled_at` says when.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from msgspec import Struct
from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.gpu.api import DISPUTED_WITHIN
from aitbc.modules.gpu.models.devices import CLAIMED, Evidence
from aitbc.modules.gpu.models.listings import ListedGpuRow
from aitbc.modules.gpu.models.pricing import total
from aitbc.modules.gpu.models.tables import MOMENT, Base, MinerRow

MILLISECOND = timedelta(milliseconds=1)
MICROSECOND = timedelta(microseconds=1)


class BookingState(StrEnum):
    """Where a booking is in its life."""

    PLACED = "placed"
    ACTIVE = "active"
    REFUSED = "refused"
    RELEASED = "released"
    ENDED = "ended"
    CANCELED = "canceled"


ALLOWED: dict[BookingState, frozenset[BookingState]] = {
    BookingState.PLACED: frozenset({BookingState.ACTIVE, BookingState.REFUSED, BookingState.CANCELED}),
    BookingState.ACTIVE: frozenset({BookingState.RELEASED, BookingState.ENDED, BookingState.CANCELED}),
    BookingState.REFUSED: frozenset(),
    BookingState.RELEASED: frozenset(),
    BookingState.ENDED: frozenset(),
    BookingState.CANCELED: frozenset(),
}
OPEN = frozenset({BookingState.PLACED, BookingState.ACTIVE})
"""The states in which it keeps everybody else from the GPU."""
PAID = frozenset({BookingState.RELEASED, BookingState.ENDED})
"""The ends after which its owner is paid; after the others all of the money goes back."""
USED = timedelta(seconds=60)
"""Who was there for so long, and paid for it, has used a GPU and may review it."""
_WORDS = "ANY (ARRAY['placed'::text, 'active'::text])"
_OPEN_ONLY = text(f"state = {_WORDS}")
IS_OPEN = text(f"gpu.bookings.state = {_WORDS}")
"""The same as the partial indexes have it: only in these very words does a query find them."""


class BookingRow(Base):
    """A booking; its terms never change."""

    __tablename__ = "bookings"
    id: Mapped[str] = mapped_column(WireId("book"), primary_key=True)
    gpu: Mapped[str | None] = mapped_column(WireId("gpu"), ForeignKey(ListedGpuRow.id))
    """The listing; none where another module sells the time of the miner, see `Uses`."""
    miner: Mapped[str | None] = mapped_column(WireId("mnr"), ForeignKey(MinerRow.id))
    """The miner that the GPU is in; none for some of before that its owner's word was enough for."""
    account: Mapped[str] = mapped_column(WireId("acct"))
    """Who booked it, and pays."""
    owner: Mapped[str] = mapped_column(WireId("acct"))
    price_units: Mapped[int] = mapped_column(BigInteger)
    """For an hour, as it was asked for when it was booked."""
    duration_ms: Mapped[int] = mapped_column(BigInteger)
    total_units: Mapped[int] = mapped_column(BigInteger)
    """What all of its time costs, and what is held."""
    job: Mapped[str | None] = mapped_column(Text)
    """What it is for, in its booker's words."""
    client: Mapped[str | None] = mapped_column(Text)
    """What its booker called itself when confirming it."""
    request: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The digest of the Idempotency-Key and the request that placed it: the same one, repeated, goes on with it."""
    state: Mapped[str] = mapped_column(Text)
    starts_at: Mapped[datetime] = mapped_column(MOMENT)
    ends_at: Mapped[datetime] = mapped_column(MOMENT)
    confirmed_at: Mapped[datetime | None] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)
    cost_units: Mapped[int | None] = mapped_column(BigInteger)
    """What it came to, once it ended."""
    settled_at: Mapped[datetime | None] = mapped_column(MOMENT)
    transaction: Mapped[str | None] = mapped_column(WireId("txn"))
    """The transaction that paid the owner."""
    fee_units: Mapped[int | None] = mapped_column(BigInteger)
    """What of the cost the platform took; none where nothing was paid, or before this was remembered."""
    grace_ms: Mapped[int] = mapped_column(BigInteger)
    """How long a heartbeat of its miner stands for: time beyond that is not paid."""
    unreachable_us: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """How many microseconds of its time, up to `counted_at`, its miner took no work."""
    counted_at: Mapped[datetime] = mapped_column(MOMENT)
    machine_ms: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """How long its booker's machine ran, up to `machine_seen_at`."""
    machine_seen_at: Mapped[datetime | None] = mapped_column(MOMENT)
    """When its miner last said that the machine runs; none while it does not."""

    __table_args__ = (
        CheckConstraint(f"state IN {tuple(state.value for state in BookingState)}", name="state"),
        CheckConstraint("(state IN ('placed', 'active')) = (ended_at IS NULL)", name="ended"),
        CheckConstraint("(ended_at IS NULL) = (cost_units IS NULL)", name="cost"),
        CheckConstraint("settled_at IS NULL OR ended_at IS NOT NULL", name="settled"),
        CheckConstraint(
            "price_units >= 0 AND duration_ms > 0 AND ends_at > starts_at AND total_units >= 0"
            " AND (cost_units IS NULL OR cost_units BETWEEN 0 AND total_units)",
            name="terms",
        ),
        CheckConstraint("grace_ms > 0 AND unreachable_us >= 0", name="counted"),
        CheckConstraint("machine_ms >= 0", name="machine"),
        # A GPU, and the miner that it is in, has one booker at a time, whoever asks at once.
        Index("bookings_gpu_key", "gpu", unique=True, postgresql_where=_OPEN_ONLY),
        Index("bookings_miner_key", "miner", unique=True, postgresql_where=_OPEN_ONLY),
        Index("bookings_ends_at_idx", "ends_at", "id", postgresql_where=_OPEN_ONLY),
        Index(
            "bookings_unsettled_idx",
            "id",
            postgresql_where=text("settled_at IS NULL AND ended_at IS NOT NULL"),
        ),
        Index("bookings_account_idx", "account", "id"),
        Index("bookings_owner_idx", "owner", "id"),
        {"info": NO_DELETE},
    )


class Booking(Struct, frozen=True, kw_only=True):
    """A booking as the service returns it: amounts in minor units."""

    id: str
    gpu: str
    model: str
    miner: str | None
    miner_name: str
    account: str
    owner: str
    state: str
    price_units: int
    duration_ms: int
    total_units: int
    cost_units: int | None
    job: str | None
    client: str | None
    starts_at: datetime
    ends_at: datetime
    confirmed_at: datetime | None
    ended_at: datetime | None
    settled_at: datetime | None
    transaction: str | None
    fee_units: int | None = None
    hardware: Evidence = CLAIMED
    """How it is known what GPU it is."""
    reachable: bool | None
    """Whether the miner is there and takes work; none where none is known, or where the booking is over."""
    paid_ms: int | None
    """The time that was paid for, and the time in which it lasted but was not; both none while it is open."""
    unpaid_ms: int | None
    machine_ms: int = 0
    """How long its booker had a machine running there, as far as the miner said so."""

    @property
    def returned_units(self) -> int | None:
        """What of the held money does not go to the owner; none while that is open."""
        return None if self.cost_units is None else self.total_units - self.cost_units

    @property
    def dispute_until(self) -> datetime | None:
        """Until when its booker can dispute it; none where nothing was paid for it, or is not known for certain."""
        paid = self.ended_at is not None and self.cost_units and self.fee_units is not None
        return self.ended_at + DISPUTED_WITHIN if paid and self.ended_at is not None else None


def hold_of(booking: str) -> str:
    """The id of a booking's hold: the same UUID under another prefix."""
    return "hold_" + booking.removeprefix("book_")


class BookedTime(Protocol):
    """What counting the time of a booking reads and writes."""

    ends_at: datetime
    grace_ms: int
    unreachable_us: int
    counted_at: datetime


def count_time(booking: BookedTime, *, working: bool, seen_at: datetime | None, at: datetime) -> None:
    """Count the time since the last count, in which a miner took work or did not, with its last heartbeat at `seen_at`.

    Call it before the status or `seen_at` of a booked miner changes: between two calls both stay as they are.
    """
    until, since = min(at, booking.ends_at), booking.counted_at
    if working and seen_at is not None:
        since = max(since, seen_at + booking.grace_ms * MILLISECOND)
    if until > since:
        booking.unreachable_us += (until - since) // MICROSECOND
    booking.counted_at = max(booking.counted_at, until)


def paid_time(row: BookingRow, at: datetime) -> timedelta:
    """The time from its start until then, less what was not reachable: what an end then pays for."""
    used = min(at, row.ends_at) - row.starts_at - row.unreachable_us * MICROSECOND
    return max(used, timedelta())


def cost_until(row: BookingRow, at: datetime) -> int:
    """What the time from its start until then costs; of all its time, what was held for it.

    Raises nothing: it is never more.
    """
    if at >= row.ends_at and not row.unreachable_us:
        return row.total_units
    return min(total(row.price_units, 1, paid_time(row, at) // MILLISECOND), row.total_units)


def booking_view(row: BookingRow, gpu: ListedGpuRow, *, online: bool | None) -> Booking:
    """A booking, with the GPU that it is of."""
    paid_ms, unpaid_ms = _times(row)
    return Booking(
        id=row.id,
        gpu=gpu.id,
        model=gpu.model,
        miner=row.miner,
        miner_name=gpu.miner_name,
        account=row.account,
        owner=row.owner,
        state=row.state,
        price_units=row.price_units,
        duration_ms=row.duration_ms,
        total_units=row.total_units,
        cost_units=row.cost_units,
        job=row.job,
        client=row.client,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        confirmed_at=row.confirmed_at,
        ended_at=row.ended_at,
        settled_at=row.settled_at,
        transaction=row.transaction,
        fee_units=row.fee_units,
        hardware=CLAIMED,
        reachable=online if row.state in OPEN else None,
        paid_ms=paid_ms,
        unpaid_ms=unpaid_ms,
        machine_ms=row.machine_ms,
    )


def _times(row: BookingRow) -> tuple[int, int] | tuple[None, None]:
    """How much of the time that a booking lasted was paid for, and how much was not."""
    if row.ended_at is None:
        return None, None
    if row.state == BookingState.REFUSED:
        return 0, 0
    lasted = (min(row.ended_at, row.ends_at) - row.starts_at) // MILLISECOND
    paid = paid_time(row, row.ended_at) // MILLISECOND if row.state in PAID else 0
    return paid, lasted - paid
