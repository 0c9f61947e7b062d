"""Many reads in one statement."""

from collections.abc import Sequence

from aitbc.kernel.database.filters import Filters
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids
from aitbc.modules.ai.batched.rows import ATTEMPT_ALL, JOBS, UNRULED, attempt_from, both_from, read_both
from aitbc.modules.ai.models.values import AttemptValue, JobValue

DETAIL = JOBS.columns(without=("files", "input_units", "units_max", "expects", "request_id"))
LISTED = JOBS.columns(without=UNRULED - {"needs", "priority", "input_digest"})
MEASURES = JOBS.columns(without=UNRULED - {"needs", "input_digest", "input_units", "units_max", "expects"})

READ_JOBS = f"SELECT {DETAIL} FROM ai.jobs WHERE id = ANY($1::uuid[])"  # noqa: S608 - constant columns
READ_ATTEMPTS = f"SELECT {ATTEMPT_ALL} FROM ai.attempts WHERE job = ANY($1::uuid[]) ORDER BY job, token"  # noqa: S608
READ_LEASES = read_both(MEASURES, "a.id = ANY($1::uuid[])")

Found = tuple[JobValue, tuple[AttemptValue, ...]]


async def read_jobs(database: Database, jobs: Sequence[str]) -> list[Found | None]:
    """Jobs with their attempts, by well-formed ids; none for one that does not exist."""
    async with database.raw() as connection:
        records = await connection.fetch(READ_JOBS, [ids.decode("job", job) for job in set(jobs)])
        taken = [record["id"] for record in records if record["token"]]
        rows = await connection.fetch(READ_ATTEMPTS, taken) if taken else []
    attempts: dict[str, list[AttemptValue]] = {}
    for attempt in map(attempt_from, rows):
        attempts.setdefault(attempt.job, []).append(attempt)
    found = {job.id: job for job in map(DETAIL.read, records)}
    return [(found[job], tuple(attempts.get(job, ()))) if job in found else None for job in jobs]


async def read_leases(database: Database, attempts: Sequence[str]) -> list[tuple[JobValue, AttemptValue] | None]:
    """Attempts with what their jobs' results are checked against, by well-formed ids.

    None for one that does not exist.
    """
    async with database.raw() as connection:
        records = await connection.fetch(READ_LEASES, [ids.decode("att", attempt) for attempt in set(attempts)])
    found = {attempt.id: (job, attempt) for job, attempt in (both_from(record, MEASURES) for record in records)}
    return [found.get(attempt) for attempt in attempts]


async def read_page(database: Database, narrowed: Filters, limit: int) -> list[JobValue]:
    """The newest of the jobs that a list is narrowed to, without input and output."""
    statement = f"SELECT {LISTED} FROM ai.jobs {narrowed} ORDER BY id DESC LIMIT {narrowed.value(limit)}"  # noqa: S608
    async with database.raw() as connection:
        return [LISTED.read(record) for record in await connection.fetch(statement, *narrowed.values)]
