"""Stops: a job that its owner cancels, or finishes early and pays for what was delivered until then."""

from datetime import datetime

from sqlalchemy import select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict
from aitbc.modules.ai.api import Job, JobNotFound
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.life import (
    HELD,
    STOP_GRACE,
    IllegalMove,
    Reason,
    State,
    ask_to_stop,
    cancel,
    stop_unanswered,
)
from aitbc.modules.ai.models.tables import AttemptRow, JobRow
from aitbc.modules.ai.models.values import JobValue
from aitbc.modules.ai.models.views import job_view
from aitbc.modules.ai.service.attempts import Attempts
from aitbc.modules.ai.service.output_parts import OutputParts
from aitbc.modules.ai.service.rows import count_ended, job_value, lock_newest, publish_end

STOPS_AT_ONCE = 200


class CannotStopEarly(Conflict):
    """Work of this kind delivers nothing before its end, so it cannot be finished early.

    Cancel it, which returns the money, or let it end.
    """

    code = "cannot_stop_early"


class Stops:
    """Cancels jobs, and finishes them early."""

    def __init__(self, db: Database, attempts: Attempts, output_parts: OutputParts) -> None:
        self._db = db
        self._attempts = attempts
        self._output_parts = output_parts

    async def cancel(self, who: Principal, job: str, once: IdempotencyKey) -> Job:
        """Cancel a job; its money goes back.

        Repeating it is harmless. Raises `JobNotFound`, `IllegalMove` once it has ended otherwise.
        """
        return await self._cancel(who, job, once, open_only=False)

    async def cancel_open(self, who: Principal, job: str, once: IdempotencyKey) -> Job:
        """The same for a job that must not have ended: one that was canceled before is an `IllegalMove` too."""
        return await self._cancel(who, job, once, open_only=True)

    @retrying
    async def _cancel(self, who: Principal, job: str, once: IdempotencyKey, *, open_only: bool) -> Job:
        await self._output_parts.store_before_end(job)
        async with self._db.unit_of_work() as uow:
            earlier = await uow.replay(once, Job)
            if earlier is not None:
                return earlier
            row = await uow.find(JobRow, job, lock=True, missing=JobNotFound)
            if not who.owns(row.account):
                raise JobNotFound
            if row.state != State.CANCELED or open_only:
                attempt = await lock_newest(uow, row)
                by_operator = who.account != row.account
                cancel(row, attempt, by_operator=by_operator, at=now())
                await publish_end(uow, row, attempt)
                await count_ended(uow, [row])
                if by_operator:
                    await uow.audit(who.account, who.key, "job.cancel", job)
            answer = await uow.answer(once, job_view(row))
        await self._attempts.after_end(job_value(row))
        return answer

    @retrying
    async def stop(self, who: Principal, job: str, once: IdempotencyKey) -> Job:
        """Finish a job early: what is delivered by now is its result, and is paid for; its miner is asked to stop.

        One that no miner has is canceled, since nothing is delivered. Repeating it is harmless. Raises `JobNotFound`,
        `CannotStopEarly`, `IllegalMove` once it has ended by itself.
        """
        await self._output_parts.store_before_end(job)
        async with self._db.unit_of_work() as uow:
            earlier = await uow.replay(once, Job)
            if earlier is not None:
                return earlier
            row = await uow.find(JobRow, job, lock=True, missing=JobNotFound)
            if not who.owns(row.account):
                raise JobNotFound
            if not KINDS[row.kind].streams:
                raise CannotStopEarly(
                    f"Work of kind {row.kind} delivers nothing before its end; POST /api/v1/ai/jobs/{job}/cancel ends it "
                    "and returns the money.",
                    kind=row.kind,
                )
            if await _stop(uow, who, row) and who.account != row.account:
                await uow.audit(who.account, who.key, "job.stop", job)
            answer = await uow.answer(once, job_view(row))
        await self._attempts.after_end(job_value(row))
        return answer

    async def end_unanswered(self) -> int:
        """Return the money of jobs whose miners were asked to finish early and brought nothing; answers how many."""
        ended = 0
        while True:
            edge = now() - STOP_GRACE
            late = (
                select(AttemptRow.job)
                .where(AttemptRow.ended.is_(None), AttemptRow.stop_asked_at < edge)
                .order_by(AttemptRow.stop_asked_at, AttemptRow.id)
                .limit(STOPS_AT_ONCE)
            )
            async with self._db.reading() as session:
                jobs = list(await session.scalars(late))
            if not jobs:
                return ended
            done = await self._end_page(jobs, edge)
            ended += done
            if not done:  # others have them in hand
                return ended

    async def _end_page(self, jobs: list[str], edge: datetime) -> int:
        touched: list[JobValue] = []
        async with self._db.unit_of_work() as uow:
            rows = await uow.session.execute(
                select(JobRow, AttemptRow)
                .join(AttemptRow, AttemptRow.id == JobRow.attempt)
                .where(JobRow.id.in_(jobs), AttemptRow.ended.is_(None), AttemptRow.stop_asked_at < edge)
                .order_by(JobRow.id)
                .with_for_update(of=(JobRow, AttemptRow), skip_locked=True)
            )
            for job, attempt in rows:
                stop_unanswered(job, attempt, at=now())
                await publish_end(uow, job, attempt)
                touched.append(job_value(job))
            await count_ended(uow, touched)
        for ended in touched:
            await self._attempts.after_end(ended)
        return len(touched)


async def _stop(uow: UnitOfWork, who: Principal, row: JobRow) -> bool:
    """Whether there was something to stop. Raises `IllegalMove`."""
    if row.state == State.QUEUED:
        cancel(row, None, by_operator=who.account != row.account, at=now())
        await publish_end(uow, row, None)
        await count_ended(uow, [row])
        return True
    if row.state in HELD:
        assert row.attempt is not None
        ask_to_stop(row, await uow.find(AttemptRow, row.attempt, lock=True), at=now())
        return True
    if row.state == State.CANCELED or row.reason == Reason.STOPPED_EARLY:
        return False
    raise IllegalMove(f"The job has {row.state}: there is nothing to stop.", state=row.state)
