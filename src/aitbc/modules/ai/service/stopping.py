"""Stopping: a job that is finished early and paid for what it delivered, and what happens to one whose client leaves."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Literal

import structlog
from sqlalchemy import select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.http.disconnect import Disconnect
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Conflict
from aitbc.kernel.primitives.tasks import cancel_and_wait
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
from aitbc.modules.ai.service.jobs import Jobs
from aitbc.modules.ai.service.ordinary import count_ended, job_value
from aitbc.modules.ai.service.results import tell_end

OnDisconnect = Literal["stop", "continue"]
PAUSES_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
"""When the job of a client that left is tried to be stopped again, where the database could not be reached."""
STOPS_AT_ONCE = 200

log = structlog.get_logger("aitbc.ai")


class CannotStopEarly(Conflict):
    """Work of this kind delivers nothing before its end, so it cannot be finished early.

    Cancel it, which returns the money, or let it end.
    """

    code = "cannot_stop_early"


class Attendance:
    """A client that stays with its job. While it does, its leaving does something to the job."""

    def __init__(self) -> None:
        self._on_leaving: Callable[[], None] | None = None

    def expect(self, gone: Disconnect | None, on_leaving: Callable[[], None]) -> None:
        """From now on leaving counts; at once where the client has left already."""
        self._on_leaving = on_leaving
        if gone is not None:
            gone.add_callback(self._left)

    def over(self) -> None:
        """The client has its answer: that it goes means nothing any more."""
        self._on_leaving = None

    def _left(self) -> None:
        on_leaving, self._on_leaving = self._on_leaving, None
        if on_leaving is not None:
            on_leaving()


class Stopping(Jobs):
    """Finishing jobs early."""

    @retrying
    async def stop_job(self, who: Principal, job: str, once: IdempotencyKey) -> Job:
        """Finish a job early: what is delivered by now is its result, and is paid for; its miner is told.

        One that no miner has is canceled, since nothing is delivered. Repeating it is harmless. Raises `JobNotFound`,
        `CannotStopEarly`, `IllegalMove` once it has ended by itself.
        """
        async with self.db.unit_of_work() as uow:
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
        await self.after_end(job_value(row))
        return answer

    async def end_unanswered_stops(self) -> int:
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
            async with self.db.reading() as session:
                jobs = list(await session.scalars(late))
            if not jobs:
                return ended
            done = await self._end_unanswered(jobs, edge)
            ended += done
            if not done:  # others have them in hand
                return ended

    async def _end_unanswered(self, jobs: list[str], edge: datetime) -> int:
        touched: list[JobValue] = []
        async with self.db.unit_of_work() as uow:
            rows = await uow.session.execute(
                select(JobRow, AttemptRow)
                .join(AttemptRow, AttemptRow.id == JobRow.attempt)
                .where(JobRow.id.in_(jobs), AttemptRow.ended.is_(None), AttemptRow.stop_asked_at < edge)
                .order_by(JobRow.id)
                .with_for_update(of=(JobRow, AttemptRow), skip_locked=True)
            )
            for job, attempt in rows:
                stop_unanswered(job, attempt, at=now())
                tell_end(uow, job, attempt)
                touched.append(job_value(job))
            await count_ended(uow, touched)
        for ended in touched:
            await self.after_end(ended)
        return len(touched)

    def attend(self, who: Principal, job: Job, gone: Disconnect | None, on_disconnect: OnDisconnect) -> Attendance:
        """Stop this job when the client leaves before it has its answer, unless it wished otherwise."""
        attendance = Attendance()
        if on_disconnect == "stop":
            attendance.expect(gone, lambda: self._on_leaving(who, job))
        return attendance

    def _on_leaving(self, who: Principal, job: Job) -> None:
        if self.draining.is_set():  # it is we who leave; the client finds its job by its id
            return
        task = asyncio.create_task(self._stop_left(who, job))
        self.leavings.add(task)
        task.add_done_callback(self.leavings.discard)

    async def _stop_left(self, who: Principal, job: Job) -> None:
        """Finish the job of a client that left: what it delivered is paid; a kind that delivers only at its end is canceled."""
        for pause in PAUSES_SECONDS:
            await asyncio.sleep(pause)
            try:
                if KINDS[job.kind].streams:
                    await self.stop_job(who, job.id, IdempotencyKey(who.account))
                else:
                    await self.cancel(who, job.id, IdempotencyKey(who.account))
            except (IllegalMove, JobNotFound):  # it has ended meanwhile
                return
            except AppError as error:
                log.warning("job_of_a_client_that_left_not_stopped", job=job.id, reason=error.message)
            else:
                log.info("client_left", job=job.id)
                return

    async def stop(self) -> None:
        """End the background work."""
        await cancel_and_wait(list(self.leavings))
        await super().stop()


async def _stop(uow: UnitOfWork, who: Principal, row: JobRow) -> bool:
    """Whether there was something to stop. Raises `IllegalMove`."""
    if row.state == State.QUEUED:
        cancel(row, None, by_operator=who.account != row.account, at=now())
        tell_end(uow, row, None)
        await count_ended(uow, [row])
        return True
    if row.state in HELD:
        assert row.attempt is not None
        ask_to_stop(row, await uow.find(AttemptRow, row.attempt, lock=True), at=now())
        return True
    if row.state == State.CANCELED or row.reason == Reason.STOPPED_EARLY:
        return False
    raise IllegalMove(f"The job has {row.state}: there is nothing to stop.", state=row.state)
