"""Many reads in one statement."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aitbc.kernel.database.filters import Filters
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids
from aitbc.modules.ai.batched.rows import ATTEMPT_ALL, JOBS, UNRULED, attempt_from, both_from, read_both
from aitbc.modules.ai.models.values import AttemptValue, JobValue

DETAIL = JOBS.columns(without=("files", "input_units", "expects", "request_id"))
LISTED = JOBS.columns(without=UNRULED - {"needs", "priority", "input_digest", "verdict"})
MEASURES = JOBS.columns(
    without=UNRULED - {"needs", "input_digest", "input_units", "units_max", "expects", "request_id", "trusted_only"}
)

READ_JOBS = f"SELECT {DETAIL} FROM ai.jobs WHERE id = ANY($1::uuid[])"  # noqa: S608 - constant columns
READ_ATTEMPTS = f"SELECT {ATTEMPT_ALL} FROM ai.attempts WHERE job = ANY($1::uuid[]) ORDER BY job, token"  # noqa: S608
READ_LAST_MINERS = """
SELECT DISTINCT ON (job) job, miner FROM ai.attempts WHERE job = ANY($1::uuid[]) ORDER BY job, token DESC"""
READ_LEASES = read_both(MEASURES, "a.id = ANY($1::uuid[])")

# By the primary key: a poll of many miners reads no more of their leases than this.
READ_LEASES_SEEN = """
SELECT id, job, miner, ended IS NOT NULL OR stop_asked_at IS NOT NULL AS is_over
FROM ai.attempts WHERE id = ANY($1::uuid[])"""
READ_LEASES_OVER = """
SELECT id FROM ai.attempts
WHERE id = ANY($1::uuid[]) AND (ended IN ('canceled', 'lost') OR ended IS NULL AND stop_asked_at IS NOT NULL)"""

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


async def read_last_miners(database: Database, jobs: Sequence[str]) -> dict[str, str]:
    """By job, who took it last; jobs that nobody took are not in it."""
    async with database.raw() as connection:
        rows = await connection.fetch(READ_LAST_MINERS, [ids.decode("job", job) for job in jobs])
    return {ids.encode("job", row["job"]): ids.encode("mnr", row["miner"]) for row in rows}


class LeaseSeen(NamedTuple):
    """What a miner that watches a lease must know of it."""

    job: str
    miner: str
    is_over: bool
    """Whether it has ended, or its owner asked to finish early."""


async def read_leases_seen(database: Database, watches: Sequence[Sequence[str]]) -> list[Mapping[str, LeaseSeen]]:
    """What miners that watch leases must know of them, by well-formed ids; those that do not exist are absent."""
    wanted = {ids.decode("att", attempt) for watch in watches for attempt in watch}
    async with database.raw() as connection:
        records = await connection.fetch(READ_LEASES_SEEN, list(wanted))
    found = {
        ids.encode("att", record["id"]): LeaseSeen(
            ids.encode("job", record["job"]), ids.encode("mnr", record["miner"]), record["is_over"]
        )
        for record in records
    }
    return [{attempt: found[attempt] for attempt in watch if attempt in found} for watch in watches]


async def read_leases_over(database: Database, attempts: Sequence[str]) -> list[str]:
    """Those of the leases that others than their miners ended, or that are to stop."""
    async with database.raw() as connection:
        records = await connection.fetch(READ_LEASES_OVER, [ids.decode("att", attempt) for attempt in attempts])
    return [ids.encode("att", record["id"]) for record in records]


async def read_page(database: Database, narrowed: Filters, limit: int, offset: int = 0) -> list[JobValue]:
    """The newest of the jobs that a list is narrowed to, without input and output."""
    part = f"LIMIT {narrowed.value(limit)}" + (f" OFFSET {narrowed.value(offset)}" if offset else "")
    statement = f"SELECT {LISTED} FROM ai.jobs {narrowed} ORDER BY id DESC {part}"  # noqa: S608 - constant columns
    async with database.raw() as connection:
        return [LISTED.read(record) for record in await connection.fetch(statement, *narrowed.values)]
