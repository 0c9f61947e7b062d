"""The steps in the life of a booking, inside of whatever transaction makes them: it and its miner change together.

All of them lock the miner before the booking.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, select

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.modules.gpu.events import BookingEnded, BookingStarted
from aitbc.modules.gpu.models.bookings import (
    ALLOWED,
    IS_OPEN,
    PAID,
    BookingRow,
    BookingState,
    cost_until,
    count_time,
)
from aitbc.modules.gpu.models.life import takes_work
from aitbc.modules.gpu.models.machines import count_machine
from aitbc.modules.gpu.models.tables import MinerRow
from aitbc.modules.gpu.service.miner_rows import publish_change


async def begin_booking(uow: UnitOfWork, booking: str, miner: str | None, at: datetime) -> BookingRow | None:
    """The money of a booking is held: from now on the miner works for its booker only. None when it ended meanwhile."""
    held_by = await _locked_miner(uow, miner)
    row = await _locked(uow, booking)
    if row.state != BookingState.PLACED:
        return None
    row.state = BookingState.ACTIVE
    uow.publish(BookingStarted(booking=row.id, account=row.account, ends_at=row.ends_at))
    if held_by is not None:
        held_by.booking, held_by.booker = row.id, row.account
        held_by.version += 1
        await uow.session.flush()
        await publish_change(uow, held_by, held_by.status, at)
    return row


async def end_booking(
    uow: UnitOfWork, row: BookingRow, end: BookingState, at: datetime, *, stopped: bool = True
) -> bool:
    """End a booking that is open, and free its miner; false when it was over before, or cannot end like this.

    `stopped` says that its miner may still work for it: it is told with its next heartbeat.
    """
    held_by = await _locked_miner(uow, row.miner)
    row = await _locked(uow, row.id)
    if end not in ALLOWED[BookingState(row.state)]:
        return False
    if row.state == BookingState.ACTIVE:
        uow.publish(BookingEnded(booking=row.id, account=row.account, state=end, ended_at=at))
    stopped = stopped or row.machine_seen_at is not None
    count_machine(row, min(at, row.ends_at) if row.gpu else at, runs=False)
    row.state = end
    row.ended_at = max(at, row.starts_at)
    if held_by is not None and end in PAID:
        count_time(row, working=takes_work(held_by.status, held_by.status_reason), seen_at=held_by.seen_at, at=at)
    row.cost_units = cost_until(row, at) if end in PAID else 0
    if row.total_units == 0:  # nothing was held
        row.settled_at = row.ended_at
    if held_by is not None and held_by.booking == row.id:
        held_by.booking = held_by.booker = None
        held_by.stopping_since = at if stopped else held_by.stopping_since
        held_by.version += 1
        await uow.session.flush()
        await publish_change(uow, held_by, held_by.status, at)
    await uow.session.flush()
    return True


async def cancel_bookings(uow: UnitOfWork, of: ColumnElement[bool], at: datetime) -> list[str]:
    """End the open bookings of a GPU or miner that is removed: all their money returns. Returns which those were."""
    rows = await open_bookings(uow, of)
    return [row.id for row in rows if await end_booking(uow, row, BookingState.CANCELED, at)]


async def open_bookings(uow: UnitOfWork, of: ColumnElement[bool]) -> Sequence[BookingRow]:
    """The bookings that keep others away, read without a lock: each may end before the caller locks it."""
    query = select(BookingRow).where(of, IS_OPEN).order_by(BookingRow.id)
    return (await uow.session.scalars(query)).all()


async def _locked_miner(uow: UnitOfWork, miner: str | None) -> MinerRow | None:
    if miner is None:
        return None
    return await uow.session.get_one(MinerRow, miner, with_for_update={"key_share": True}, populate_existing=True)


async def _locked(uow: UnitOfWork, booking: str) -> BookingRow:
    return await uow.session.get_one(BookingRow, booking, with_for_update=True, populate_existing=True)
