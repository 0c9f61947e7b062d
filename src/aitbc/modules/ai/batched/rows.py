"""Records to values and back: the columns that statements carry, and the two that save what rules changed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from aitbc.kernel.database.unit_of_work import Connection
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.kernel.primitives import ids
from aitbc.modules.ai.models.values import AttemptValue, JobValue

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

JOB_CHANGES = {
    **dict.fromkeys(("state", "reason", "fault", "avoided"), "text"),
    "token": "int",
    "attempt": "uuid",
    "attempts": "smallint",
    **dict.fromkeys(("due_at", "expires_at", "started_at", "completed_at", "kept_until"), "timestamptz"),
}
"""Everything a rule may change of a job."""
RESULT = {**dict.fromkeys(("output", "output_digest"), "text"), **dict.fromkeys(("units", "price_units"), "int8")}
"""What a result adds to it."""
ATTEMPT_CHANGES = {
    **dict.fromkeys(("running_at", "expires_at", "ended_at"), "timestamptz"),
    "progress": "float8",
    **dict.fromkeys(("ended", "fault", "reason", "message", "usage", "note"), "text"),
    **dict.fromkeys(("output_digest", "miner_key", "signature"), "text"),
}
"""Everything a rule may change of an attempt, and what a result leaves behind in it."""


def _update(table: str, columns: Mapping[str, str]) -> str:
    """The statement that rewrites these columns of rows that were locked before, so that the newest value is the only one."""
    names = ", ".join(columns)
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(columns.values(), start=2))
    return (
        f"UPDATE ai.{table} t SET ({names}) = ROW({', '.join('v.' + name for name in columns)}) "  # noqa: S608 - constants
        f"FROM unnest($1::uuid[], {arrays}) AS v(id, {names}) WHERE t.id = v.id"
    )


SAVE_JOBS = _update("jobs", JOB_CHANGES)
SAVE_RESULTS = _update("jobs", JOB_CHANGES | RESULT)
SAVE_ATTEMPTS = _update("attempts", ATTEMPT_CHANGES)


def read_both(job_columns: str, behind: str) -> str:
    """The statement that reads attempts and, in the same rows before them, their jobs; see `both_from`."""
    jobs, attempts = (
        ", ".join(f"{table}.{column}" for column in columns.split(", "))
        for table, columns in (("j", job_columns), ("a", ATTEMPT_ALL))
    )
    return f"SELECT {jobs}, {attempts} FROM ai.attempts a JOIN ai.jobs j ON j.id = a.job WHERE {behind}"  # noqa: S608


# A job and its attempt together, in the order of jobs: all locks are taken in that order, so none waits in a circle.
LOCK_BOTH = read_both(JOB_RULES, "a.id = ANY($1::uuid[]) ORDER BY j.id FOR UPDATE OF j, a")


def job_from(record: Any) -> JobValue:
    """A job's record as a value."""
    return _job(dict(record))


def attempt_from(record: Any) -> AttemptValue:
    """An attempt's record as a value."""
    return _attempt(dict(record))


def both_from(record: Any, job_columns: str) -> tuple[JobValue, AttemptValue]:
    """A job and its attempt from a record of `read_both`, with the same columns."""
    names, values = job_columns.split(", "), tuple(record)
    job = _job(dict(zip(names, values, strict=False)))
    return job, _attempt(dict(zip(ATTEMPT_ALL.split(", "), values[len(names) :], strict=True)))


def _job(values: dict[str, Any]) -> JobValue:
    values["id"] = ids.encode("job", values["id"])
    values["account"] = ids.encode("acct", values["account"])
    if values["attempt"] is not None:
        values["attempt"] = ids.encode("att", values["attempt"])
    return JobValue(**values)


def _attempt(values: dict[str, Any]) -> AttemptValue:
    values["id"] = ids.encode("att", values["id"])
    values["job"] = ids.encode("job", values["job"])
    values["miner"] = ids.encode("mnr", values["miner"])
    values["miner_account"] = ids.encode("acct", values["miner_account"])
    return AttemptValue(**values)


async def lock_both(
    connection: Connection, attempts: Sequence[Any]
) -> tuple[dict[str, JobValue], dict[str, AttemptValue]]:
    """The jobs and attempts behind some attempts' UUIDs, locked; by their ids."""
    found = [both_from(record, JOB_RULES) for record in await connection.fetch(LOCK_BOTH, attempts)]
    return {job.id: job for job, _ in found}, {attempt.id: attempt for _, attempt in found}


def save_jobs(writes: WriteBatch, jobs: Sequence[JobValue], *, results: bool = False) -> None:
    """Write what the rules changed of some locked jobs, and what results add to it."""
    if not jobs:
        return
    columns = _columns(jobs, JOB_CHANGES | RESULT if results else JOB_CHANGES)
    columns["attempt"] = [None if job.attempt is None else ids.decode("att", job.attempt) for job in jobs]
    writes.add(SAVE_RESULTS if results else SAVE_JOBS, _uuids("job", jobs), *columns.values())


def save_attempts(writes: WriteBatch, attempts: Sequence[AttemptValue]) -> None:
    """Write what the rules changed of some locked attempts."""
    if attempts:
        writes.add(SAVE_ATTEMPTS, _uuids("att", attempts), *_columns(attempts, ATTEMPT_CHANGES).values())


def _columns(rows: Sequence[Any], names: Iterable[str]) -> dict[str, list[Any]]:
    return {name: [getattr(row, name) for row in rows] for name in names}


def _uuids(prefix: str, rows: Sequence[Any]) -> list[UUID]:
    return [ids.decode(prefix, row.id) for row in rows]
