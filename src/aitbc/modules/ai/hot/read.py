"""Many reads in one statement."""

from collections.abc import Sequence

from aitbc.kernel import ids
from aitbc.kernel.db import Database
from aitbc.modules.ai.hot.rows import ATTEMPT_ALL, JOB_RULES, attempt_from, job_from
from aitbc.modules.ai.models.values import AttemptValue, JobValue

DETAIL = JOB_RULES + ", needs, lane, priority, rank, input, input_digest, output"
MEASURES = JOB_RULES + ", input_digest, input_units, units_max, expects"

READ_JOBS = f"SELECT {DETAIL} FROM ai.jobs WHERE id = ANY($1::uuid[])"  # noqa: S608 - constant columns
READ_ATTEMPTS = f"SELECT {ATTEMPT_ALL} FROM ai.attempts WHERE job = ANY($1::uuid[]) ORDER BY job, token"  # noqa: S608
READ_LEASES = f"SELECT {ATTEMPT_ALL} FROM ai.attempts WHERE id = ANY($1::uuid[])"  # noqa: S608 - constant columns
READ_MEASURES = f"SELECT {MEASURES} FROM ai.jobs WHERE id = ANY($1::uuid[])"  # noqa: S608 - constant columns

Found = tuple[JobValue, tuple[AttemptValue, ...]]


async def read_jobs(database: Database, jobs: Sequence[str]) -> list[Found | None]:
    """Jobs with their attempts, by well-formed ids; none for one that does not exist."""
    async with database.hot() as connection:
        records = await connection.fetch(READ_JOBS, [ids.decode("job", job) for job in set(jobs)])
        taken = [record["id"] for record in records if record["token"]]
        rows = await connection.fetch(READ_ATTEMPTS, taken) if taken else []
    attempts: dict[str, list[AttemptValue]] = {}
    for attempt in map(attempt_from, rows):
        attempts.setdefault(attempt.job, []).append(attempt)
    found = {job.id: job for job in map(job_from, records)}
    return [(found[job], tuple(attempts.get(job, ()))) if job in found else None for job in jobs]


async def read_leases(database: Database, attempts: Sequence[str]) -> list[tuple[JobValue, AttemptValue] | None]:
    """Attempts with what their jobs' results are held against, by well-formed ids; none for one that does not exist."""
    async with database.hot() as connection:
        rows = await connection.fetch(READ_LEASES, [ids.decode("att", attempt) for attempt in set(attempts)])
        records = await connection.fetch(READ_MEASURES, [row["job"] for row in rows]) if rows else []
    jobs = {job.id: job for job in map(job_from, records)}
    found = {attempt.id: attempt for attempt in map(attempt_from, rows)}
    return [(jobs[found[a].job], found[a]) if a in found else None for a in attempts]
