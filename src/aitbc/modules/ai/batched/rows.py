"""Jobs and attempts between rows and values: what statements read of them, and the two that save what rules changed."""

from collections.abc import Sequence
from typing import Any

from aitbc.kernel.database.bulk import BulkTable, Columns
from aitbc.kernel.database.unit_of_work import Connection
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.modules.ai.models.tables import AttemptRow, JobRow
from aitbc.modules.ai.models.values import AttemptValue, JobValue

JOBS = BulkTable(JobRow, JobValue)
ATTEMPTS = BulkTable(
    AttemptRow, AttemptValue, unmapped=("blames_request", "first_text_at")
)  # for the commands that set and read them

UNRULED = frozenset(
    {"needs", "lane", "priority", "rank", "input", "input_digest", "files"}
    | {"input_units", "units_max", "expects", "output", "preferred", "request_id"}
    | {"barred", "trusted_only", "verdict"}
)
"""What the rules of a job's life do not need: the queue's columns, and content that may be large."""
FIXED = frozenset(
    {"account", "kind", "attempts_max", "retry_requester", "deadline_at", "created_at"}
    | {"queue_seconds", "start_seconds", "run_seconds", "retention_seconds"}
    | {"max_price_units", "unit", "unit_price_units", "verification", "copies"}
)
"""What stays as it was submitted."""
HELD_UNTIL = frozenset({"hold_expires_at"})
"""What only the prolonging of holds changes."""
RESULT = frozenset({"output", "output_digest", "units", "price_units"})
"""What a result adds to a job."""

ASKED = frozenset({"ask_units", "offer"})
"""What is frozen of an ask when a job is claimed."""

JOB_RULES = JOBS.columns(without=UNRULED)
ATTEMPT_ALL = ATTEMPTS.columns()

SAVE_JOBS = JOBS.update(without=UNRULED | FIXED | HELD_UNTIL | RESULT)
SAVE_BARRED = JOBS.update(without=(UNRULED | FIXED | HELD_UNTIL | RESULT) - {"barred"})
SAVE_RESULTS = JOBS.update(without=(UNRULED | FIXED | HELD_UNTIL) - RESULT)
SAVE_ATTEMPTS = ATTEMPTS.update(
    without=ASKED
    | {
        "session",
        "newcomer",
        "job",
        "kind",
        "token",
        "miner",
        "miner_account",
        "started_at",
        "run_until",
        "devices",
        "stop_asked_at",
    }
)


def read_both(job_columns: Columns[JobValue], condition: str) -> str:
    """The statement that reads attempts and, in the same rows before them, their jobs; see `both_from`."""
    columns = f"{job_columns.of('j')}, {ATTEMPT_ALL.of('a')}"
    return f"SELECT {columns} FROM ai.attempts a JOIN ai.jobs j ON j.id = a.job WHERE {condition}"  # noqa: S608 - constants


# A job and its attempt together, in the order of jobs: all locks are taken in that order, so none waits in a circle.
LOCK_BOTH = read_both(JOB_RULES, "a.id = ANY($1::uuid[]) ORDER BY j.id FOR UPDATE OF j, a")


def job_from(record: Any) -> JobValue:
    """A job from a record of `JOB_RULES`, or of more."""
    return JOB_RULES.read(record)


def attempt_from(record: Any) -> AttemptValue:
    """An attempt from a record of `ATTEMPT_ALL`."""
    return ATTEMPT_ALL.read(record)


def both_from(record: Any, job_columns: Columns[JobValue]) -> tuple[JobValue, AttemptValue]:
    """A job and its attempt from a record of `read_both`, with the same columns."""
    values, jobs = tuple(record), len(job_columns.names)
    return job_columns.read_values(values[:jobs]), ATTEMPT_ALL.read_values(values[jobs:])


async def lock_both(
    connection: Connection, attempts: Sequence[Any]
) -> tuple[dict[str, JobValue], dict[str, AttemptValue]]:
    """The jobs and attempts behind some attempts' UUIDs, locked; by their ids."""
    found = [both_from(record, JOB_RULES) for record in await connection.fetch(LOCK_BOTH, attempts)]
    return {job.id: job for job, _ in found}, {attempt.id: attempt for _, attempt in found}


def save_jobs(writes: WriteBatch, jobs: Sequence[JobValue], *, results: bool = False) -> None:
    """Write what the rules changed of some locked jobs, and what results add to it."""
    if jobs:
        writes.write(SAVE_RESULTS if results else SAVE_JOBS, jobs)


def save_barred(writes: WriteBatch, jobs: Sequence[JobValue]) -> None:
    """The same of quorums' jobs, with whose miners may not answer them."""
    if jobs:
        writes.write(SAVE_BARRED, jobs)


def save_attempts(writes: WriteBatch, attempts: Sequence[AttemptValue]) -> None:
    """Write what the rules changed of some locked attempts."""
    if attempts:
        writes.write(SAVE_ATTEMPTS, attempts)
