"""Uses: miners that another module gives to one account for a time that it has paid for; gpu keeps who, and counts.

A use is a booking without a listing and without money of its own. Its time ends at `ends_at`, as far as it is paid for;
then no work of it goes on, but its miner is kept for it until the module prolongs or ends it.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.api import AiApi
from aitbc.modules.gpu.api import MinerInUse, MinerNotFound, MinerNotThere, MinerUse, UseMiner, UseNotFound
from aitbc.modules.gpu.events import BookingProlonged, BookingStarted
from aitbc.modules.gpu.models.bookings import IS_OPEN, MILLISECOND, BookingRow, BookingState, count_time, paid_time
from aitbc.modules.gpu.models.life import Status, takes_work
from aitbc.modules.gpu.models.machines import MachineSessionRow, SessionState
from aitbc.modules.gpu.models.tables import MinerRow
from aitbc.modules.gpu.service.booked_work import stop_work
from aitbc.modules.gpu.service.booking_payments import BookingPayments
from aitbc.modules.gpu.service.booking_states import end_booking
from aitbc.modules.gpu.service.bookings import is_stopping
from aitbc.modules.gpu.service.miner_rows import publish_change

STOP_AHEAD = timedelta(seconds=10)
"""So long before its paid time ends no work of a use is begun, and what runs is given back."""
PAGE = 200


class Uses:
    """Gives miners to accounts, and takes them back."""

    def __init__(self, db: Database, ai: AiApi, payments: BookingPayments) -> None:
        self._db = db
        self._ai = ai
        self._payments = payments

    @retrying
    async def begin(self, command: UseMiner) -> MinerUse:
        """Give a miner to an account. Repeating it is harmless.

        Raises `MinerNotFound`, `MinerNotThere`, `MinerInUse`.
        """
        async with self._db.unit_of_work() as uow:
            miner = await _locked_miner(uow, command.miner)
            row = await uow.session.get(BookingRow, command.booking, with_for_update=True)
            if row is not None:
                return use_view(row, miner, now())
            if miner.status != Status.ONLINE:
                raise MinerNotThere
            if miner.booking is not None or is_stopping(miner):
                raise MinerInUse
            at = now()
            values = {
                "id": command.booking,
                "gpu": None,
                "miner": miner.id,
                "account": command.account,
                "owner": miner.account,
                "price_units": 0,
                "duration_ms": command.paid_ms,
                "total_units": 0,
                "state": BookingState.ACTIVE,
                "starts_at": at,
                "ends_at": at + command.paid_ms * MILLISECOND,
                "grace_ms": self._payments.grace(legacy=False) // MILLISECOND,
                "counted_at": at,
            }
            placing = upsert(BookingRow).values(**values).on_conflict_do_nothing().returning(BookingRow)
            made = (await uow.session.scalars(placing)).one_or_none()
            if made is None:  # somebody is booking it by way of its listing
                raise MinerInUse
            miner.booking, miner.booker = made.id, made.account
            miner.version += 1
            uow.publish(BookingStarted(booking=made.id, account=made.account, ends_at=made.ends_at - STOP_AHEAD))
            await uow.session.flush()
            await publish_change(uow, miner, miner.status, at)
            return use_view(made, miner, at)

    @retrying
    async def prolong(self, booking: str, paid_ms: int) -> MinerUse:
        """Say how much time of a use is paid for, all in all; less than before changes nothing. Raises `UseNotFound`.

        Time after the paid time ended is not counted. One that is over stays over.
        """
        async with self._db.unit_of_work() as uow:
            row, miner = await _locked_use(uow, booking)
            at = now()
            if row.state != BookingState.ACTIVE:
                return use_view(row, miner, at)
            count_time(row, working=_works(miner), seen_at=miner.seen_at, at=at)
            if at > row.ends_at:
                row.unreachable_us += (at - row.ends_at) // timedelta(microseconds=1)
                row.ends_at = row.counted_at = at
            row.duration_ms = max(row.duration_ms, paid_ms)
            used = paid_time(row, at)
            row.ends_at = max(row.ends_at, at + row.duration_ms * MILLISECOND - used)
            uow.publish(BookingProlonged(booking=row.id, account=row.account, ends_at=row.ends_at - STOP_AHEAD))
            await uow.session.flush()
            return use_view(row, miner, at)

    async def end(self, booking: str) -> MinerUse:
        """Take a miner back: what runs of the use is stopped, what waits is closed. Raises `UseNotFound`."""
        async with self._db.reading() as session:
            row = await session.get(BookingRow, booking)
        if row is None or row.gpu is not None:
            raise UseNotFound
        stopped = row.state == BookingState.ACTIVE and await stop_work(self._ai, row)
        return await self._end(booking, stopped=stopped)

    @retrying
    async def _end(self, booking: str, *, stopped: bool) -> MinerUse:
        async with self._db.unit_of_work() as uow:
            row, miner = await _locked_use(uow, booking)
            at = now()
            await end_booking(uow, row, BookingState.RELEASED, at, stopped=stopped)
            return use_view(row, miner, at)

    async def read(self, bookings: Sequence[str]) -> Sequence[MinerUse]:
        """Those of these uses that there are, in any order."""
        lines = select(func.count()).select_from(MachineSessionRow).where(MachineSessionRow.booking == BookingRow.id)
        query = (
            select(BookingRow, MinerRow, lines.where(MachineSessionRow.state != SessionState.ENDED).scalar_subquery())
            .join(MinerRow, MinerRow.id == BookingRow.miner)
            .where(BookingRow.id.in_(bookings), BookingRow.gpu.is_(None))
        )
        at = now()
        async with self._db.reading() as session:
            return [use_view(row, miner, at, lines=count) for row, miner, count in await session.execute(query)]

    async def stop_unpaid(self) -> None:
        """Give back the leases of uses whose paid time is about to end: their jobs wait until it goes on."""
        edge = f"book_{'0' * 26}"
        while True:
            due = (BookingRow.gpu.is_(None), IS_OPEN, BookingRow.ends_at <= now() + STOP_AHEAD, BookingRow.id > edge)
            query = select(BookingRow.id, BookingRow.miner).where(*due).order_by(BookingRow.id).limit(PAGE)
            async with self._db.reading() as session:
                rows = (await session.execute(query)).all()
            for row in rows:
                with suppress(AppError):  # the next round tries again
                    await self._give_back(row.miner)
            if len(rows) < PAGE:
                return
            edge = rows[-1].id

    async def _give_back(self, miner: str) -> None:
        for lease in await self._ai.leases_of(miner):
            with suppress(AppError):  # it has ended meanwhile
                await self._ai.release(miner, lease.attempt, lease.token, "the paid time of its booking has ended")


def use_view(row: BookingRow, miner: MinerRow, at: datetime, *, lines: int = 0) -> MinerUse:
    """A use as other modules see it, counted up to now, with so many connections to its machine."""
    counted = _Counted(row)
    if row.ended_at is None:
        count_time(counted, working=_works(miner), seen_at=miner.seen_at, at=at)
    until = at if row.ended_at is None else row.ended_at
    used = min(until, row.ends_at) - row.starts_at - timedelta(microseconds=counted.unreachable_us)
    return MinerUse(
        booking=row.id,
        miner=row.miner or "",
        account=row.account,
        is_open=row.ended_at is None,
        is_reachable=_works(miner),
        busy=miner.slots_busy + lines,
        used_ms=max(0, used // MILLISECOND),
        machine_ms=min(row.machine_ms, max(0, used // MILLISECOND)),
        paid_ms=row.duration_ms,
        paid_until=row.ends_at,
        seen_at=miner.seen_at,
    )


class _Counted:
    """What counting reads and writes, beside the row."""

    def __init__(self, row: BookingRow) -> None:
        self.ends_at, self.grace_ms = row.ends_at, row.grace_ms
        self.unreachable_us, self.counted_at = row.unreachable_us, row.counted_at


def _works(miner: MinerRow) -> bool:
    return takes_work(miner.status, miner.status_reason)


async def _locked_miner(uow: UnitOfWork, miner: str) -> MinerRow:
    found = await uow.session.get(MinerRow, miner, with_for_update={"key_share": True}, populate_existing=True)
    if found is None or found.status == Status.REMOVED:
        raise MinerNotFound
    return found


async def _locked_use(uow: UnitOfWork, booking: str) -> tuple[BookingRow, MinerRow]:
    """A use and its miner, which is locked first. Raises `UseNotFound`."""
    named = select(BookingRow.miner).where(BookingRow.id == booking, BookingRow.gpu.is_(None))
    miner_id = await uow.session.scalar(named)
    if miner_id is None:
        raise UseNotFound
    miner = await uow.session.get_one(MinerRow, miner_id, with_for_update={"key_share": True}, populate_existing=True)
    row = await uow.session.get_one(BookingRow, booking, with_for_update=True, populate_existing=True)
    return row, miner
