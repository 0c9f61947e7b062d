"""The ends of bookings: what was begun for one is stopped, what waits is closed, and nothing more of it is taken."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.life import OPEN, State, ask_to_stop, end_with_booking
from aitbc.modules.ai.models.queue import needs_of
from aitbc.modules.ai.models.tables import OPEN_AND_BOOKED, AttemptRow, BookingRow, JobRow
from aitbc.modules.ai.models.values import JobValue
from aitbc.modules.ai.service.attempts import Attempts
from aitbc.modules.ai.service.output_parts import OutputParts
from aitbc.modules.ai.service.rows import count_ended, job_value, publish_end
from aitbc.modules.gpu.events import BookingEnded

PAGE = 200
_FIRST = f"job_{'0' * 26}"


class BookingEnds:
    """Ends the work of bookings, at the call of gpu and, where that did not come through, at its event."""

    def __init__(self, db: Database, attempts: Attempts, output_parts: OutputParts) -> None:
        self._db = db
        self._attempts = attempts
        self._output_parts = output_parts

    async def end(self, booking: str, account: str) -> int:
        """End all work of a booking, and return the money of what is closed; answers how many leases there were."""
        await self._mark(booking, account)
        leases, edge = 0, _FIRST
        while True:
            async with self._db.reading() as session:
                page = await _open_jobs(session, account, edge)
            if page:
                edge = page[-1]
                leases += await self._end_page(booking, page)
            if len(page) < PAGE:
                return leases

    @retrying
    async def _mark(self, booking: str, account: str) -> None:
        """Let no job of the booking be written or leased from now on; what was until then is found afterwards."""
        async with self._db.unit_of_work() as uow:
            await _mark_ended(uow, booking, account, now())

    @retrying
    async def _end_page(self, booking: str, jobs: Sequence[str]) -> int:
        await self._output_parts.store_before_end(*jobs)
        async with self._db.unit_of_work() as uow:
            touched, leases = await _end_jobs(uow, booking, jobs)
        for job in touched:
            await self._attempts.after_end(job)
        return leases

    async def apply_ended(self, uow: UnitOfWork, events: Sequence[BookingEnded]) -> None:
        """End what is left of bookings that are over; the events of the jobs return their money."""
        for event in sorted(events, key=lambda event: event.booking):
            await _mark_ended(uow, event.booking, event.account, event.ended_at)
            edge = _FIRST
            while page := await _open_jobs(uow.session, event.account, edge):
                edge = page[-1]
                await _end_jobs(uow, event.booking, page)


async def _mark_ended(uow: UnitOfWork, booking: str, account: str, at: datetime) -> None:
    row = upsert(BookingRow).values(id=booking, account=account, ended_at=at)
    kept = {"ended_at": func.coalesce(BookingRow.ended_at, row.excluded.ended_at)}
    await uow.session.execute(row.on_conflict_do_update(index_elements=["id"], set_=kept))


async def _open_jobs(session: AsyncSession, account: str, after: str) -> Sequence[str]:
    """The next open jobs of an account that are for a booking of its."""
    booked = select(JobRow.id).where(JobRow.account == account, text(OPEN_AND_BOOKED), JobRow.id > after)
    return (await session.scalars(booked.order_by(JobRow.id).limit(PAGE))).all()


async def _end_jobs(uow: UnitOfWork, booking: str, jobs: Sequence[str]) -> tuple[list[JobValue], int]:
    """End those of these jobs that are for this booking; answers what changed, and how many of them a miner had.

    Work that streams is asked to stop, since what was delivered is paid for; all other work ends here.
    """
    locked = select(JobRow).where(JobRow.id.in_(jobs)).order_by(JobRow.id).with_for_update()
    ended: list[JobRow] = []
    touched, leases, at = [], 0, now()
    for job in (await uow.session.scalars(locked.execution_options(populate_existing=True))).all():
        if job.state not in OPEN or needs_of(job.needs).booking != booking:
            continue
        attempt = None if job.attempt is None else await uow.find(AttemptRow, job.attempt, lock=True)
        leases += attempt is not None
        if attempt is not None and job.state == State.RUNNING and KINDS[job.kind].streams:
            ask_to_stop(job, attempt, at=at)
        else:
            end_with_booking(job, attempt, at=at)
            await publish_end(uow, job, attempt)
            ended.append(job)
        touched.append(job_value(job))
    await count_ended(uow, ended)
    return touched, leases
