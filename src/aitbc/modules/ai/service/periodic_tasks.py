"""What the module does by itself: ends what ran out of time, returns forgotten money, removes what is old.

Every round walks its rows by keyset, page after page to the end: a page full of rows that cannot be helped never hides
the ones behind it.
"""

from contextlib import suppress
from datetime import datetime, timedelta

from sqlalchemy import delete, select, text, tuple_, update

from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import elapsed, now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.models.life import Ended, State, expire, give_up, lost_reason
from aitbc.modules.ai.models.tables import AttemptRow, FlowRow, JobRow, LogRow, PartRow
from aitbc.modules.ai.models.views import hold_of
from aitbc.modules.ai.service.ordinary import count_ended, job_value
from aitbc.modules.ai.service.results import tell_end
from aitbc.modules.ai.service.stopping import Stopping

PAGE = 200
LATE = timedelta(seconds=2)
"""How long after its end a lease is left alone in any case: a renewal may be on its way."""
FROZEN_SECONDS = 5.0
"""A sweep that comes so much later than the one before means that this process stood still, and so did its ears."""
ORPHAN_AGE = timedelta(seconds=60)
FLOWS_KEPT = timedelta(days=1)
_FIRST = "0" * 26


class Chores(Stopping):
    """Periodic work; each method is safe to run again and to stop between two awaits."""

    _swept_at: float | None = None
    _grace_until = 0.0

    async def sweep(self) -> None:
        """End the leases and the waits whose clocks ran out."""
        if not self._in_grace():
            await self.end_lost_leases()
            await self.end_unanswered_stops()
        await self.expire_waiting()

    async def return_strays(self) -> None:
        """Give back the leases that were made while the one who asked for them left."""
        while self.strays:
            miner, lease = self.strays.pop()
            with suppress(AppError):  # its clock returns it otherwise
                await self.release(miner, lease.attempt, lease.token, "miner_left")

    def _in_grace(self) -> bool:
        """Whether miners may not have been heard: this process was just started, made leader, or stood still."""
        moment = elapsed()
        if self._swept_at is None or moment - self._swept_at > FROZEN_SECONDS:
            self._grace_until = moment + self.settings.grace_seconds
        self._swept_at = moment
        return moment < self._grace_until

    async def end_lost_leases(self) -> int:
        """Take back the leases that ended without a word; answers how many."""
        edge, ended = f"att_{_FIRST}", 0
        while True:
            late = (
                select(AttemptRow.id, AttemptRow.job)
                .where(AttemptRow.ended.is_(None), AttemptRow.expires_at < now() - LATE, AttemptRow.id > edge)
                .order_by(AttemptRow.id)
                .limit(PAGE)
            )
            async with self.db.reading() as session:
                page = (await session.execute(late)).all()
            if page:
                edge = page[-1].id
                ended += await self._end_leases([row.job for row in page])
            if len(page) < PAGE:
                return ended

    async def _end_leases(self, jobs: list[str]) -> int:
        touched: list[JobRow] = []
        async with self.db.unit_of_work() as uow:
            rows = await uow.session.execute(
                select(JobRow, AttemptRow)
                .join(AttemptRow, AttemptRow.id == JobRow.attempt)
                .where(JobRow.id.in_(jobs), AttemptRow.ended.is_(None))
                .order_by(JobRow.id)
                .with_for_update(of=(JobRow, AttemptRow), skip_locked=True)
            )
            at = now()
            for job, attempt in rows:
                if attempt.expires_at < at - LATE:  # a renewal may have come between
                    reason, fault = lost_reason(attempt, at)
                    give_up(job, attempt, Ended.LOST, fault=fault, reason=reason, message="", at=at)
                    tell_end(uow, job, attempt)
                    touched.append(job)
            await count_ended(uow, touched)
        for job in touched:
            await self.after_end(job_value(job))
        return len(touched)

    async def expire_waiting(self) -> int:
        """End the wait of jobs that nobody took in time; answers how many."""
        edge, expired = (now() - timedelta(days=36_500), f"job_{_FIRST}"), 0
        while True:
            late = (
                select(JobRow.expires_at, JobRow.id)
                .where(JobRow.state == text("'queued'"), JobRow.expires_at <= now())
                .where(tuple_(JobRow.expires_at, JobRow.id) > edge)
                .order_by(JobRow.expires_at, JobRow.id)
                .limit(PAGE)
            )
            async with self.db.reading() as session:
                page = (await session.execute(late)).all()
            if page:
                edge = (page[-1].expires_at, page[-1].id)
                expired += await self._expire([row.id for row in page])
            if len(page) < PAGE:
                return expired

    async def _expire(self, jobs: list[str]) -> int:
        touched: list[JobRow] = []
        async with self.db.unit_of_work() as uow:
            rows = await uow.session.scalars(
                select(JobRow)
                .where(JobRow.id.in_(jobs), JobRow.state == State.QUEUED)
                .order_by(JobRow.id)
                .with_for_update(skip_locked=True)
            )
            at = now()
            for job in rows:
                if job.expires_at <= at:
                    expire(job, at=at)
                    tell_end(uow, job, None)
                    touched.append(job)
            await count_ended(uow, touched)
        for job in touched:
            await self.after_end(job_value(job))
        return len(touched)

    async def reconcile_holds(self) -> int:
        """Return money that is held for a job which was never written, or which ended unpaid; answers how many holds."""
        before, returned = now() - ORPHAN_AGE, 0
        after: tuple[datetime, str] | None = None
        while True:
            holds = await self.trading.open_holds(before, PAGE, after)
            of_jobs = [hold.reference for hold in holds if ids.is_id("job", hold.reference)]
            orphans = await self._unpaid(of_jobs)
            for job in orphans:
                with suppress(AppError):
                    await self.trading.void(hold_of(job), "no open job belongs to it")
                    returned += 1
            if len(holds) < PAGE:
                return returned
            after = (holds[-1].placed_at, holds[-1].id)

    async def _unpaid(self, jobs: list[str]) -> list[str]:
        """Those of the jobs that do not exist, or ended without success a while ago."""
        settled = now() - ORPHAN_AGE
        waiting: set[str] = set()
        known = select(JobRow.id, JobRow.state, JobRow.completed_at).where(JobRow.id.in_(jobs))
        async with self.db.reading() as session:
            for row in await session.execute(known):
                if row.completed_at is None or row.state == State.SUCCEEDED or row.completed_at > settled:
                    waiting.add(row.id)
        return [job for job in jobs if job not in waiting]

    async def tidy(self) -> None:
        """Remove inputs, outputs, their parts and logs past their retention, old artifacts, and flows that nobody uses."""
        while len(removed := await self._forget_payloads()) == PAGE:
            pass
        self.watched.tell(removed)
        await self.remove_old_artifacts()
        async with self.db.unit_of_work() as uow:
            await uow.session.execute(delete(FlowRow).where(FlowRow.used_at < now() - FLOWS_KEPT))

    async def _forget_payloads(self) -> list[str]:
        async with self.db.unit_of_work() as uow:
            due = select(JobRow.id).where(JobRow.kept_until <= now()).order_by(JobRow.kept_until, JobRow.id).limit(PAGE)
            jobs = list(await uow.session.scalars(due.with_for_update(skip_locked=True)))
            if jobs:
                empty = {"input": None, "output": None, "kept_until": None}
                await uow.session.execute(update(JobRow).where(JobRow.id.in_(jobs)).values(**empty))
                await uow.session.execute(delete(LogRow).where(LogRow.job.in_(jobs)))
                await uow.session.execute(delete(PartRow).where(PartRow.job.in_(jobs)))
        return jobs
