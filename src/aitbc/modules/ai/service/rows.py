"""Rows of the rare commands, read and locked through the ORM; what is repeated all day is in `batched`."""

import hashlib
from collections import Counter
from collections.abc import Iterable

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import LeaseLost
from aitbc.modules.ai.batched.claim import closings
from aitbc.modules.ai.batched.complete import attempt_ended
from aitbc.modules.ai.models.checks.tiers import is_quorum
from aitbc.modules.ai.models.job_spans import trace_attempt
from aitbc.modules.ai.models.life import TERMINAL, Ended, Fault, end
from aitbc.modules.ai.models.tables import AttemptRow, JobCountRow, JobRow
from aitbc.modules.ai.models.values import AttemptValue, JobValue

_JOB_FIELDS = tuple(JobValue.__struct_fields__)
_ATTEMPT_FIELDS = tuple(AttemptValue.__struct_fields__)


def job_value(row: JobRow) -> JobValue:
    """A job's row as a value."""
    return JobValue(**{name: getattr(row, name) for name in _JOB_FIELDS})


def attempt_value(row: AttemptRow) -> AttemptValue:
    """An attempt's row as a value."""
    return AttemptValue(**{name: getattr(row, name) for name in _ATTEMPT_FIELDS})


async def lock_lease(uow: UnitOfWork, attempt: str) -> tuple[JobRow, AttemptRow]:
    """A job and its attempt, locked in that order. Raises `LeaseLost` for an attempt that never was."""
    if not ids.is_id("att", attempt):
        raise LeaseLost
    job = (await uow.session.execute(select(AttemptRow.job).where(AttemptRow.id == attempt))).scalar_one_or_none()
    if job is None:
        raise LeaseLost
    row = await uow.find(JobRow, job, lock=True)
    return row, await uow.find(AttemptRow, attempt, lock=True)


async def lock_name(uow: UnitOfWork, name: str) -> None:
    """One at a time for a name, until the end of this unit of work."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1
    await uow.session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})


async def open_jobs(session: AsyncSession, account: str) -> int:
    """How many jobs of an account are queued, leased or running."""
    counts = select(JobCountRow.ended, JobCountRow.jobs).where(JobCountRow.account == account)
    jobs: dict[bool, int] = {row.ended: row.jobs for row in await session.execute(counts)}
    return jobs.get(False, 0) - jobs.get(True, 0)


async def count_ended(uow: UnitOfWork, jobs: Iterable[JobRow | JobValue]) -> None:
    """Count those of the jobs that have just ended, in the order of accounts, in which these rows are locked."""
    counts = sorted(Counter(job.account for job in jobs if job.state in TERMINAL).items())
    if counts:
        rows = [{"account": account, "ended": True, "jobs": jobs} for account, jobs in counts]
        written = upsert(JobCountRow).values(rows)
        added = {"jobs": JobCountRow.jobs + written.excluded.jobs}
        await uow.session.execute(written.on_conflict_do_update(index_elements=["account", "ended"], set_=added))


async def lock_newest(uow: UnitOfWork, job: JobRow) -> AttemptRow | None:
    """The attempt that holds a locked job, locked too; none where nobody does, and of a quorum, which several hold."""
    if job.attempt is None or is_quorum(job.verification):
        return None
    return await uow.find(AttemptRow, job.attempt, lock=True)


async def publish_end(uow: UnitOfWork, job: JobRow, attempt: AttemptRow | None) -> None:
    """Publish that an attempt ended without a result, and its job if that ended too.

    With the job of a quorum all that others still do for it ends.
    """
    if attempt is not None:
        ended = attempt_value(attempt)
        uow.publish(attempt_ended(job.account, ended))
        trace_attempt(job.request_id, ended)
    if job.state not in TERMINAL:
        return
    if is_quorum(job.verification):
        live = select(AttemptRow).where(AttemptRow.job == job.id, AttemptRow.ended.is_(None)).order_by(AttemptRow.id)
        for other in await uow.session.scalars(live.with_for_update()):
            if other.ended is None:
                end(other, Ended.CANCELED, fault=Fault.NONE, reason=job.reason, message="", at=now())
                ended = attempt_value(other)
                uow.publish(attempt_ended(job.account, ended))
                trace_attempt(job.request_id, ended)
    for event in closings(job):
        uow.publish(event)
