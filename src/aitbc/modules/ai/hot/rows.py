"""Records to values and back: the columns that statements carry, and the two that save what rules changed."""

from collections.abc import Sequence
from typing import Any

from aitbc.kernel import ids
from aitbc.kernel.db import Connection
from aitbc.modules.ai.models.values import AttemptValue, JobValue

PREFIXES = {"account": "acct", "attempt": "att", "job": "job", "miner": "mnr", "miner_account": "acct"}

JOB_RULES = (
    "id, account, kind, state, reason, fault, token, attempt, attempts, attempts_max, retry_requester, avoided, "
    "due_at, expires_at, deadline_at, created_at, started_at, completed_at, kept_until, "
    "queue_seconds, start_seconds, run_seconds, "
    "retention_seconds, max_price_units, unit, unit_price_units, price_units, units, output_digest"
)
"""The columns that the rules need of a job."""
ATTEMPT_ALL = (
    "id, job, kind, token, miner, miner_account, started_at, run_until, expires_at, running_at, progress, ended, "
    "ended_at, "
    "fault, reason, message, usage, note, output_digest, miner_key, signature, stop_asked_at"
)

# Everything a rule may change of a job. The rows were locked before, so the newest value is the only one.
SAVE_JOBS = """
UPDATE ai.jobs j SET state = v.state, reason = v.reason, fault = v.fault, token = v.token, attempt = v.attempt,
    attempts = v.attempts, avoided = v.avoided, due_at = v.due_at, expires_at = v.expires_at, started_at = v.started_at,
    completed_at = v.completed_at, kept_until = v.kept_until
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int[], $6::uuid[], $7::smallint[], $8::text[],
    $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[])
    AS v(id, state, reason, fault, token, attempt, attempts, avoided, due_at, expires_at, started_at, completed_at,
         kept_until)
WHERE j.id = v.id"""

# Everything a rule may change of an attempt, and what a result leaves behind in it.
SAVE_ATTEMPTS = """
UPDATE ai.attempts a SET running_at = v.running_at, expires_at = v.expires_at, progress = v.progress, ended = v.ended,
    ended_at = v.ended_at, fault = v.fault, reason = v.reason, message = v.message, usage = v.usage, note = v.note,
    output_digest = v.output_digest, miner_key = v.miner_key, signature = v.signature
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::float8[], $5::text[], $6::timestamptz[], $7::text[],
    $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[])
    AS v(id, running_at, expires_at, progress, ended, ended_at, fault, reason, message, usage, note, output_digest,
         miner_key, signature)
WHERE a.id = v.id"""

# A job and its attempt together, in the order of jobs: all locks are taken in that order, so none waits in a circle.
LOCK_BOTH = f"""
SELECT {", ".join("a." + column for column in ATTEMPT_ALL.split(", "))} FROM ai.jobs j JOIN ai.attempts a ON a.job = j.id
WHERE a.id = ANY($1::uuid[]) ORDER BY j.id FOR UPDATE OF j, a"""  # noqa: S608 - constant columns


def job_from(record: Any) -> JobValue:
    """A job's record as a value."""
    values = dict(record)
    values["id"] = ids.encode("job", values["id"])
    values["account"] = ids.encode("acct", values["account"])
    if values["attempt"] is not None:
        values["attempt"] = ids.encode("att", values["attempt"])
    return JobValue(**values)


def attempt_from(record: Any) -> AttemptValue:
    """An attempt's record as a value."""
    values = dict(record)
    values["id"] = ids.encode("att", values["id"])
    for name in ("job", "miner", "miner_account"):
        values[name] = ids.encode(PREFIXES[name], values[name])
    return AttemptValue(**values)


async def lock_both(
    connection: Connection, attempts: Sequence[Any]
) -> tuple[dict[str, JobValue], dict[str, AttemptValue]]:
    """The jobs and attempts behind some attempts' UUIDs, locked; by their ids."""
    found = await connection.fetch(LOCK_BOTH, attempts)
    jobs = await connection.fetch(
        f"SELECT {JOB_RULES} FROM ai.jobs WHERE id = ANY($1::uuid[])",  # noqa: S608 - constant columns
        [record["job"] for record in found],
    )
    return {job.id: job for job in map(job_from, jobs)}, {attempt.id: attempt for attempt in map(attempt_from, found)}


async def save_jobs(connection: Connection, jobs: Sequence[JobValue]) -> None:
    """Write what the rules changed of some locked jobs."""
    if jobs:
        await connection.execute(
            SAVE_JOBS,
            [ids.decode("job", job.id) for job in jobs],
            [job.state for job in jobs],
            [job.reason for job in jobs],
            [job.fault for job in jobs],
            [job.token for job in jobs],
            [None if job.attempt is None else ids.decode("att", job.attempt) for job in jobs],
            [job.attempts for job in jobs],
            [job.avoided for job in jobs],
            [job.due_at for job in jobs],
            [job.expires_at for job in jobs],
            [job.started_at for job in jobs],
            [job.completed_at for job in jobs],
            [job.kept_until for job in jobs],
        )


async def save_attempts(connection: Connection, attempts: Sequence[AttemptValue]) -> None:
    """Write what the rules changed of some locked attempts."""
    if attempts:
        await connection.execute(
            SAVE_ATTEMPTS,
            [ids.decode("att", attempt.id) for attempt in attempts],
            [attempt.running_at for attempt in attempts],
            [attempt.expires_at for attempt in attempts],
            [attempt.progress for attempt in attempts],
            [attempt.ended for attempt in attempts],
            [attempt.ended_at for attempt in attempts],
            [attempt.fault for attempt in attempts],
            [attempt.reason for attempt in attempts],
            [attempt.message for attempt in attempts],
            [attempt.usage for attempt in attempts],
            [attempt.note for attempt in attempts],
            [attempt.output_digest for attempt in attempts],
            [attempt.miner_key for attempt in attempts],
            [attempt.signature for attempt in attempts],
        )
