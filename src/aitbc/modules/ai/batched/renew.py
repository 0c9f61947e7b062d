"""Lease renewals in batches: many miners' in one transaction."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import LeaseStatus, Renewal
from aitbc.modules.ai.batched.rows import ATTEMPT_ALL, ATTEMPTS, attempt_from, lock_both, save_jobs
from aitbc.modules.ai.models.life import Ended, renewed_until, show_sign
from aitbc.modules.ai.models.values import AttemptValue, JobValue

# Only the attempts: a renewal past the first changes nothing of the job. In the order of jobs, as all locks are.
LOCK_ATTEMPTS = f"""
SELECT {ATTEMPT_ALL} FROM ai.attempts WHERE id = ANY($1::uuid[]) ORDER BY job, id FOR UPDATE"""  # noqa: S608
FIRST_RENEWALS = "SELECT id FROM ai.attempts WHERE id = ANY($1::uuid[]) AND running_at IS NULL AND ended IS NULL"
SAVE_RENEWALS = ATTEMPTS.update(only=("expires_at", "progress", "running_at"))


class Renewing(Struct, frozen=True):
    """One miner's renewals."""

    miner: str
    renewals: Sequence[Renewal]


class Renewed(Struct, frozen=True):
    """What became of one miner's leases, and the jobs that have something new to show."""

    statuses: list[LeaseStatus]
    changed: list[str]


async def renew_many(database: Database, commands: Sequence[Renewing]) -> list[Renewed]:
    """Extend leases; the first renewal of a lease makes its job `running`.

    First renewals go in a transaction of their own: it locks jobs too, and locks are taken in one order.
    """
    wanted = {
        renewal.attempt for command in commands for renewal in command.renewals if ids.is_id("att", renewal.attempt)
    }
    uuids = [ids.decode("att", attempt) for attempt in wanted]
    async with database.raw() as connection:
        first = [row["id"] for row in await connection.fetch(FIRST_RENEWALS, uuids)]
    fresh = set(first)
    attempts: dict[str, AttemptValue] = {}
    changed: set[str] = set()
    if first:
        async with database.raw_transaction() as connection:
            jobs, found = await lock_both(connection, first)
            changed |= await _renew(connection, commands, found, jobs)
            attempts |= found
    rest = [attempt for attempt in uuids if attempt not in fresh]
    if rest:
        async with database.raw_transaction() as connection:
            found = {a.id: a for a in map(attempt_from, await connection.fetch(LOCK_ATTEMPTS, rest))}
            changed |= await _renew(connection, commands, found, {})
            attempts |= found
    return [_answer(command, attempts, changed) for command in commands]


async def _renew(
    connection: Connection,
    commands: Sequence[Renewing],
    attempts: dict[str, AttemptValue],
    jobs: dict[str, JobValue],
) -> set[str]:
    at = now()
    touched: dict[str, AttemptValue] = {}
    changed: set[str] = set()
    for command in commands:
        for renewal in command.renewals:
            attempt = attempts.get(renewal.attempt)
            if attempt is not None and is_live(attempt, command.miner, renewal.token):
                if renew_one(attempt, renewal, at) or attempt.job in jobs:
                    changed.add(attempt.job)
                if attempt.job in jobs:
                    show_sign(jobs[attempt.job], attempt, at=at)
                touched[attempt.id] = attempt
    rows = list(touched.values())
    writes = WriteBatch()
    save_jobs(writes, [jobs[row.job] for row in rows if row.job in jobs])
    writes.write(SAVE_RENEWALS, rows)
    await writes.do(connection, commits=True)
    return changed


def renew_one(attempt: AttemptValue, renewal: Renewal, at: datetime) -> bool:
    """Extend one live lease; returns whether its progress changed."""
    attempt.expires_at = renewed_until(attempt, at)
    if renewal.progress is None:
        return False
    before, attempt.progress = attempt.progress, min(max(renewal.progress, 0.0), 1.0)
    return before != attempt.progress


def is_live(attempt: AttemptValue, miner: str, token: int) -> bool:
    """Whether this miner holds this lease with this token, and it has not ended."""
    return attempt.ended is None and attempt.miner == miner and attempt.token == token


def status_of(attempt: AttemptValue | None, miner: str, token: int) -> LeaseStatus:
    """The status of a lease, for the miner that asked about it."""
    assert attempt is not None
    if is_live(attempt, miner, token):
        status = "live" if attempt.stop_asked_at is None else "stop"
        return LeaseStatus(attempt=attempt.id, status=status, expires_at=attempt.expires_at)
    canceled = attempt.ended == Ended.CANCELED and attempt.miner == miner
    return LeaseStatus(attempt=attempt.id, status="canceled" if canceled else "lost")


def _answer(command: Renewing, attempts: dict[str, AttemptValue], changed: set[str]) -> Renewed:
    statuses = []
    jobs = []
    for renewal in command.renewals:
        attempt = attempts.get(renewal.attempt)
        if attempt is None:
            statuses.append(LeaseStatus(attempt=renewal.attempt, status="lost"))
            continue
        statuses.append(status_of(attempt, command.miner, renewal.token))
        if attempt.job in changed:
            jobs.append(attempt.job)
    return Renewed(statuses, jobs)
