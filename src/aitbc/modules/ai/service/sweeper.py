"""The sweep: ends leases that were not renewed, stops that no miner answered, and waits that took too long.

Every round walks its rows by keyset, page after page to the end: a page full of rows that cannot be helped never hides
the ones behind it.
"""

from datetime import datetime, timedelta

import structlog
from sqlalchemy import or_, select, text, tuple_

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import elapsed, now
from aitbc.kernel.primitives.grace import Grace
from aitbc.modules.ai.batched.clock_set_back import bring_forward
from aitbc.modules.ai.models.checks.tiers import SAMPLED
from aitbc.modules.ai.models.life import STOP_GRACE, Ended, State, expire, give_up, lost_reason
from aitbc.modules.ai.models.tables import AttemptRow, JobRow
from aitbc.modules.ai.service.attempts import Attempts
from aitbc.modules.ai.service.rows import count_ended, job_value, publish_end
from aitbc.modules.ai.service.stops import Stops

PAGE = 200
LATE = timedelta(seconds=2)
"""How long after its end a lease is left alone in any case: a renewal may be on its way."""
FROZEN_SECONDS = 5.0
"""A sweep that comes so much later than the one before means that this process was frozen, and missed renewals."""
CLOCK_CHECK_SECONDS = 30.0
_FIRST = "0" * 26

# Most sweeps find nothing, and ask no more than this.
DUE = """
SELECT EXISTS (SELECT FROM ai.attempts WHERE ended IS NULL AND expires_at < $1),
       EXISTS (SELECT FROM ai.attempts WHERE ended IS NULL AND stop_asked_at < $2),
       EXISTS (SELECT FROM ai.jobs WHERE state = 'queued' AND expires_at <= $3)"""

log = structlog.get_logger("aitbc.ai.sweeper")


class Sweeper:
    """Ends what ran out of time; safe to run again and to stop between two awaits."""

    def __init__(self, db: Database, attempts: Attempts, stops: Stops, grace_seconds: float) -> None:
        self._db = db
        self._attempts = attempts
        self._stops = stops
        self._clock_checked_at = float("-inf")
        self._grace = Grace(grace_seconds, gap_seconds=FROZEN_SECONDS)

    async def sweep(self) -> None:
        """End the leases and the waits whose clocks ran out."""
        await self._bring_forward()
        if self._grace.holds():  # renewals were missed; and while nobody could take a job, none expires
            await self.expire_waiting(since=self._grace.began_at)
            return
        async with self._db.raw() as connection:
            ((lost, unanswered, late),) = await connection.fetch(DUE, now() - LATE, now() - STOP_GRACE, now())
        if lost:
            await self.end_lost_leases()
        if unanswered:
            await self._stops.end_unanswered()
        if late:
            await self.expire_waiting()

    async def _bring_forward(self) -> None:
        """Now and then: undo what a clock that was ahead put off."""
        if elapsed() - self._clock_checked_at > CLOCK_CHECK_SECONDS:
            if changed := await bring_forward(self._db, now()):
                log.warning("work_brought_forward", count=changed, meaning="the clock was ahead")
            self._clock_checked_at = elapsed()

    async def end_lost_leases(self) -> int:
        """End the leases that were not renewed in time; answers how many."""
        edge, ended = f"att_{_FIRST}", 0
        while True:
            late = (
                select(AttemptRow.id, AttemptRow.job)
                .where(AttemptRow.ended.is_(None), AttemptRow.expires_at < now() - LATE, AttemptRow.id > edge)
                .order_by(AttemptRow.id)
                .limit(PAGE)
            )
            async with self._db.reading() as session:
                page = (await session.execute(late)).all()
            if page:
                edge = page[-1].id
                ended += await self._end_leases([row.job for row in page])
            if len(page) < PAGE:
                return ended

    async def _end_leases(self, jobs: list[str]) -> int:
        touched: list[JobRow] = []
        async with self._db.unit_of_work() as uow:
            rows = await uow.session.execute(
                select(JobRow, AttemptRow)
                .join(AttemptRow, AttemptRow.job == JobRow.id)
                .where(JobRow.id.in_(jobs), AttemptRow.ended.is_(None), AttemptRow.expires_at < now() - LATE)
                .order_by(JobRow.id, AttemptRow.id)
                .with_for_update(of=(JobRow, AttemptRow), skip_locked=True)
            )
            at = now()
            for job, attempt in rows:
                # A renewal may have come between, or its job has just ended by the loss of another one of its quorum.
                if attempt.ended is None and attempt.expires_at < at - LATE:
                    reason, fault = lost_reason(attempt, at)
                    give_up(job, attempt, Ended.LOST, fault=fault, reason=reason, message="", at=at)
                    await publish_end(uow, job, attempt)
                    touched.append(job)
            await count_ended(uow, touched)
        for job in touched:
            await self._attempts.after_end(job_value(job))
        return len(touched)

    async def expire_waiting(self, since: datetime | None = None) -> int:
        """End the wait of jobs that nobody took in time, if that was over since then; answers how many."""
        edge, expired = (since or now() - timedelta(days=36_500), f"job_{_FIRST}"), 0
        while True:
            late = (
                select(JobRow.expires_at, JobRow.id)
                .where(JobRow.state == text("'queued'"), JobRow.expires_at <= now())
                .where(or_(JobRow.verification != SAMPLED, ~JobRow.trusted_only))  # these are taken unchecked
                .where(tuple_(JobRow.expires_at, JobRow.id) > edge)
                .order_by(JobRow.expires_at, JobRow.id)
                .limit(PAGE)
            )
            async with self._db.reading() as session:
                page = (await session.execute(late)).all()
            if page:
                edge = (page[-1].expires_at, page[-1].id)
                expired += await self._expire([row.id for row in page])
            if len(page) < PAGE:
                return expired

    async def _expire(self, jobs: list[str]) -> int:
        touched: list[JobRow] = []
        async with self._db.unit_of_work() as uow:
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
                    await publish_end(uow, job, None)
                    touched.append(job)
            await count_ended(uow, touched)
        for job in touched:
            await self._attempts.after_end(job_value(job))
        return len(touched)
