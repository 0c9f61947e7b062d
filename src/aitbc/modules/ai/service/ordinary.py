"""The ordinary way to the data: one command, one visible unit of work. Same rules as the gathered way, same answers."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import Claim, Job, Lease, LeaseLost, LeaseStatus, Renewal, StopAsked, TooManyOpenJobs
from aitbc.modules.ai.batched.claim import Seat, closed, deal
from aitbc.modules.ai.batched.complete import Accepted, Completion, events_of, fill, is_cut_off, is_held, is_repeated
from aitbc.modules.ai.batched.renew import Renewed, is_live, renew_one, status_of
from aitbc.modules.ai.batched.submit import Submission
from aitbc.modules.ai.models.life import AVOIDED_FOR, TERMINAL, State, must_leave, show_sign, succeed
from aitbc.modules.ai.models.queue import matches, needs_of, rank_after
from aitbc.modules.ai.models.tables import AttemptRow, FlowRow, JobCountRow, JobRow
from aitbc.modules.ai.models.values import AttemptValue, JobValue
from aitbc.modules.ai.models.views import job_view

_JOB_FIELDS = tuple(JobValue.__struct_fields__)
_ATTEMPT_FIELDS = tuple(AttemptValue.__struct_fields__)


def job_value(row: JobRow) -> JobValue:
    """A row by value."""
    return JobValue(**{name: getattr(row, name) for name in _JOB_FIELDS})


def attempt_value(row: AttemptRow) -> AttemptValue:
    """A row by value."""
    return AttemptValue(**{name: getattr(row, name) for name in _ATTEMPT_FIELDS})


def _write_back(value: JobValue | AttemptValue, row: JobRow | AttemptRow) -> None:
    for name in value.__struct_fields__:
        if getattr(row, name) != getattr(value, name):
            setattr(row, name, getattr(value, name))


async def lock_lease(uow: UnitOfWork, attempt: str) -> tuple[JobRow, AttemptRow]:
    """A job and its attempt, locked in that order. Raises `LeaseLost` for an attempt that never was."""
    if not ids.is_id("att", attempt):
        raise LeaseLost
    job = (await uow.session.execute(select(AttemptRow.job).where(AttemptRow.id == attempt))).scalar_one_or_none()
    if job is None:
        raise LeaseLost
    row = await uow.find(JobRow, job, lock=True)
    return row, await uow.find(AttemptRow, attempt, lock=True)


@retrying
async def submit_one(database: Database, submission: Submission, served: Callable[[str], int], *, open_max: int) -> Job:
    """Write a job whose money is held. Raises `TooManyOpenJobs`."""
    async with database.unit_of_work() as uow:
        earlier = await uow.replay(submission.once, Job)
        if earlier is not None:
            return earlier
        job = submission.job
        assert job.lane is not None
        await _count(uow, [job.account], ended=False)
        if await open_jobs(uow.session, job.account) > open_max:
            raise TooManyOpenJobs(open_jobs_max=open_max)
        head = select(JobRow.rank).where(JobRow.lane == job.lane, JobRow.state == State.QUEUED, JobRow.rank >= 0)
        rank = (await uow.session.execute(head.order_by(JobRow.rank).limit(1))).scalar_one_or_none()
        job.rank = await _push(uow, job, job.lane, served(job.kind) if rank is None else rank)
        uow.add(JobRow(**{name: getattr(job, name) for name in _JOB_FIELDS}))
        return await uow.answer(submission.once, job_view(job))


async def open_jobs(session: AsyncSession, account: str) -> int:
    """How many jobs of an account wait or are worked on."""
    counts = select(JobCountRow.ended, JobCountRow.jobs).where(JobCountRow.account == account)
    jobs: dict[bool, int] = {row.ended: row.jobs for row in await session.execute(counts)}
    return jobs.get(False, 0) - jobs.get(True, 0)


async def count_ended(uow: UnitOfWork, jobs: Iterable[JobRow | JobValue]) -> None:
    """Count those of the jobs that have just ended."""
    await _count(uow, [job.account for job in jobs if job.state in TERMINAL], ended=True)


async def _count(uow: UnitOfWork, accounts: Iterable[str], *, ended: bool) -> None:
    counts = sorted(Counter(accounts).items())
    if counts:
        rows = [{"account": account, "ended": ended, "jobs": jobs} for account, jobs in counts]
        written = upsert(JobCountRow).values(rows)
        added = {"jobs": JobCountRow.jobs + written.excluded.jobs}
        await uow.session.execute(written.on_conflict_do_update(index_elements=["account", "ended"], set_=added))


async def _push(uow: UnitOfWork, job: JobValue, lane: UUID, lane_rank: int) -> int:
    """The rank of a job, and its flow's tag moved on; the row is made first, so that two can never begin at once."""
    key = (job.account, lane, job.priority)
    fresh = {"account": job.account, "lane": lane, "priority": job.priority, "tag": 0, "used_at": now()}
    await uow.session.execute(upsert(FlowRow).values(**fresh).on_conflict_do_nothing())
    flow = await uow.session.get_one(FlowRow, key, with_for_update=True)
    rank, flow.tag = rank_after(lane_rank, flow.tag, job.priority)
    flow.used_at = now()
    return rank


@retrying
async def claim_one(database: Database, claim: Claim, on_served: Callable[[str, int], None]) -> Sequence[Lease]:
    """Lease the first jobs that this miner can take."""
    at = now()
    async with database.unit_of_work() as uow:
        seat = Seat(claim, [], claim.slots)
        if claim.slots_total is not None:
            own = select(func.count()).where(AttemptRow.miner == claim.miner, AttemptRow.ended.is_(None))
            live = await uow.session.scalar(own) or 0
            seat.room = min(claim.slots, max(0, claim.slots_total - live))
        waiting = (select(JobRow.lane, JobRow.needs).where(JobRow.state == State.QUEUED)).distinct()
        lanes = {
            lane for lane, needs in await uow.session.execute(waiting) if matches(needs_of(needs), claim.capabilities)
        }
        found = await uow.session.scalars(
            select(JobRow)
            .where(JobRow.lane.in_(lanes), JobRow.state == State.QUEUED, JobRow.due_at <= at)
            .where((func.strpos(JobRow.avoided, claim.miner) == 0) | (JobRow.due_at <= at - AVOIDED_FOR))
            .order_by(JobRow.rank, JobRow.id)
            .limit(seat.room)
            .with_for_update(skip_locked=True)
        )
        rows = {row.id: row for row in found if not must_leave(row.avoided, claim.miner, row.due_at, at)}
        dealt, spoilt = deal([job_value(row) for row in rows.values()], [seat], at)
        for job in [*(job for job, _ in dealt), *spoilt]:
            _write_back(job, rows[job.id])
            on_served(job.kind, job.rank)
        for _, attempt in dealt:
            uow.add(AttemptRow(**{name: getattr(attempt, name) for name in _ATTEMPT_FIELDS}))
        for job in spoilt:
            uow.publish(closed(job))
        await count_ended(uow, spoilt)
    return seat.leases


@retrying
async def renew_each(database: Database, miner: str, renewals: Sequence[Renewal]) -> Renewed:
    """Extend a miner's leases, each by itself."""
    statuses: list[LeaseStatus] = []
    changed: list[str] = []
    for renewal in renewals:
        try:
            async with database.unit_of_work() as uow:
                job, attempt = await lock_lease(uow, renewal.attempt)
                statuses.append(_renew(job, attempt, miner, renewal))
                changed.append(job.id)
        except LeaseLost:
            statuses.append(LeaseStatus(attempt=renewal.attempt, status="lost"))
    return Renewed(statuses, changed)


def _renew(job: JobRow, row: AttemptRow, miner: str, renewal: Renewal) -> LeaseStatus:
    attempt = attempt_value(row)
    if is_live(attempt, miner, renewal.token):
        at = now()
        renew_one(attempt, renewal, at)
        show_sign(job, attempt, at=at)
        _write_back(attempt, row)
    return status_of(attempt, miner, renewal.token)


@retrying
async def complete_one(database: Database, completion: Completion) -> Accepted:
    """Accept a result whose lease still holds. Raises `LeaseLost`."""
    delivered = completion.delivered
    async with database.unit_of_work() as uow:
        job_row, attempt_row = await lock_lease(uow, delivered.attempt)
        job, attempt = job_value(job_row), attempt_value(attempt_row)
        if is_repeated(attempt, delivered):
            return Accepted(job, attempt, completion.input_digest, repeated=True)
        if not is_held(job, attempt, delivered):
            raise LeaseLost
        if is_cut_off(attempt, delivered):
            raise StopAsked
        succeed(job, attempt, at=now())
        fill(job, attempt, delivered)
        _write_back(job, job_row)
        _write_back(attempt, attempt_row)
        accepted = Accepted(job, attempt, completion.input_digest, repeated=False)
        for event in events_of(accepted):
            uow.publish(event)
        await count_ended(uow, [job])
    return accepted
