"""The queue of jobs: written in batches under idempotency keys, bounded by account, ordered by rank."""

from collections.abc import Sequence
from functools import partial

from sqlalchemy import func, select, tuple_

from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retry, retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.api import Job, JobNotFound, TooManyOpenJobs
from aitbc.modules.ai.batched.submit import Submission, stored_answers, submit_many
from aitbc.modules.ai.models.life import IllegalMove, State
from aitbc.modules.ai.models.queue import Needs, lane_of
from aitbc.modules.ai.models.tables import FlowRow, JobRow
from aitbc.modules.ai.models.values import JobValue
from aitbc.modules.ai.models.views import job_view
from aitbc.modules.ai.service.limits import Limits
from aitbc.modules.ai.service.rows import open_jobs
from aitbc.modules.ai.service.served_ranks import ServedRanks
from aitbc.modules.ai.service.wakeups import Wakeups

POSITION_MAX = 100_000
"""A position is counted no further."""


class JobQueue:
    """Adds jobs to the queue, and says where they stand in it."""

    def __init__(self, db: Database, ranks: ServedRanks, wakeups: Wakeups, limits: Limits) -> None:
        self._db = db
        self._ranks = ranks
        self._wakeups = wakeups
        self._limits = limits
        self._crowded: set[str] = set()
        """Accounts that were refused for their many open jobs: looked at before money is held for another."""
        self._answer_reads: Batcher[IdempotencyKey, Job | None] = Batcher(partial(stored_answers, db))
        self._submissions: Batcher[Submission, Job] = Batcher(self._submit_many)

    async def stored_answer(self, once: IdempotencyKey) -> Job | None:
        """The answer that an earlier request with this key got, if there was one. Raises `IdempotencyKeyReused`."""
        if once.key is None:
            return None
        return await self._answer_reads.do(once)

    def is_crowded(self, account: str) -> bool:
        """Whether an account was refused for its many open jobs, and has not been seen with room since."""
        return account in self._crowded

    async def require_room(self, account: str) -> None:
        """Refuse an account that still has no room: trading need not hold its money again. Raises `TooManyOpenJobs`."""
        async with self._db.reading() as session:
            if await open_jobs(session, account) >= self._limits.open_jobs_per_account:
                raise TooManyOpenJobs(open_jobs_max=self._limits.open_jobs_per_account)
        self._crowded.discard(account)

    async def add(self, job: JobValue, once: IdempotencyKey) -> Job:
        """Write a job whose money is held, and wake miners; a repeated request gets the earlier job.

        Raises `IdempotencyKeyReused`, `TooManyOpenJobs`.
        """
        if job.kind not in self._ranks:
            await self._ranks.read(job.kind)
        try:
            answer = await self._submissions.do(Submission(job, once))
        except TooManyOpenJobs:
            self._crowded.add(job.account)
            raise
        if answer.id == job.id:
            self._wakeups.announce([job])
        return answer

    async def _submit_many(self, batch: Sequence[Submission]) -> list[Job | AppError]:
        return await retry(
            lambda: submit_many(self._db, batch, self._ranks.of, open_max=self._limits.open_jobs_per_account)
        )

    @retrying
    async def put_first(self, who: Principal, job: str, reason: str | None) -> Job:
        """Put a job that waits before all others of its lane: an operator's, and noted.

        Raises `JobNotFound`, `IllegalMove` for one that does not wait.
        """
        async with self._db.unit_of_work() as uow:
            row = await uow.find(JobRow, job, lock=True, missing=JobNotFound)
            if row.state != State.QUEUED:
                raise IllegalMove(f"The job is {row.state}, so it waits for nothing.")
            lane = select(func.min(JobRow.rank)).where(JobRow.lane == row.lane, JobRow.state == State.QUEUED)
            row.rank = min(0, (await uow.session.execute(lane)).scalar_one()) - 1
            await uow.audit(who.account, who.key, "job.put_first", job, reason=(reason or "")[:200])
            return job_view(row)

    async def position(self, job: JobValue) -> int:
        """The place of a queued job among those with equal needs, from 1."""
        ahead = (
            select(JobRow.id)
            .where(JobRow.lane == job.lane, JobRow.state == State.QUEUED)
            .where(tuple_(JobRow.rank, JobRow.id) < (job.rank, job.id))
            .limit(POSITION_MAX)
        )
        async with self._db.reading() as session:
            return 1 + int((await session.execute(select(func.count()).select_from(ahead.subquery()))).scalar_one())

    async def next_position(self, account: str, needs: Needs, priority: int) -> int:
        """The place that a new job of an account would take."""
        lane = lane_of(needs)
        waiting = select(JobRow.rank).where(JobRow.lane == lane, JobRow.state == State.QUEUED)
        tag = select(FlowRow.tag).where(FlowRow.account == account, FlowRow.lane == lane, FlowRow.priority == priority)
        async with self._db.reading() as session:
            in_turn = waiting.where(JobRow.rank >= 0).order_by(JobRow.rank).limit(1)
            head = (await session.execute(in_turn)).scalar_one_or_none()
            mine = (await session.execute(tag)).scalar_one_or_none()
            rank = max(head or 0, mine or 0)
            before = select(func.count()).select_from(waiting.where(JobRow.rank <= rank).limit(POSITION_MAX).subquery())
            return 1 + int((await session.execute(before)).scalar_one())
