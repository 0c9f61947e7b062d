"""Results in batches: jobs, attempts, and the events that pay for them, in one transaction."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from msgspec import UNSET, Struct

from aitbc.kernel.database.outbox import outbox_insert
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Unavailable
from aitbc.modules.ai.api import LeaseLost, StopAsked
from aitbc.modules.ai.batched.counts import count_ended
from aitbc.modules.ai.batched.rows import lock_both, save_attempts, save_jobs
from aitbc.modules.ai.events import AttemptEnded, JobSucceeded
from aitbc.modules.ai.models.devices import receipt_devices
from aitbc.modules.ai.models.life import Ended, Reason, hold_outlasts_delivery, succeed
from aitbc.modules.ai.models.tables import AttemptRow
from aitbc.modules.ai.models.values import AttemptValue, Delivered, JobValue
from aitbc.modules.ai.models.views import hold_of

DIRECT_WAY = timedelta(seconds=5)
"""How long the relay leaves a payment to the direct way, which comes right after the commit."""

# What the direct way has paid; the relay would only bring trading what it knows.
MARK_PAID = "UPDATE ai.outbox SET delivered_at = $2 WHERE id = ANY($1::uuid[]) AND delivered_at IS NULL"


class Accepted(Struct):
    """A job that has its result, and the attempt that brought it."""

    job: JobValue
    attempt: AttemptValue
    input_digest: str
    repeated: bool
    event: UUID | None = None
    """The event that pays for it if the direct way does not."""


class Completion(Struct, frozen=True):
    """A checked result, with what the payment needs to know beside it."""

    delivered: Delivered
    input_digest: str
    request_id: str | None = None
    """The request that submitted the job: what follows from the result belongs to its trace."""


async def complete_many(
    database: Database, completions: Sequence[Completion], paid: list[UUID]
) -> list[Accepted | AppError]:
    """Accept each result whose lease still holds; a repeated one is answered like the first, a late one is refused.

    What is accepted is paid: none is whose money might go back before the event that pays for it is delivered.
    `paid` are events of earlier results that were settled since: they need not be delivered any more.
    """
    done = paid[:]
    results: list[Accepted | AppError] = []
    fresh: list[tuple[Accepted, Completion]] = []
    async with database.raw_transaction() as connection:
        uuids = [ids.decode("att", completion.delivered.attempt) for completion in completions]
        jobs, attempts = await lock_both(connection, uuids)
        for completion in completions:
            attempt = attempts.get(completion.delivered.attempt)
            answer = _accept(completion, attempt, jobs)
            results.append(answer)
            if isinstance(answer, Accepted) and not answer.repeated:
                fresh.append((answer, completion))
        writes = WriteBatch()
        if done:
            writes.add(MARK_PAID, done, now())
        _save(writes, fresh)
        await writes.do(connection, commits=True)
    del paid[: len(done)]
    return results  # these events are not due yet, so the relay need not be woken


def _accept(completion: Completion, attempt: AttemptValue | None, jobs: dict[str, JobValue]) -> Accepted | AppError:
    delivered = completion.delivered
    if attempt is None:
        return LeaseLost()
    job = jobs[attempt.job]
    if is_repeated(attempt, delivered):
        return Accepted(job, attempt, completion.input_digest, repeated=True)
    if not is_held(job, attempt, delivered):
        return LeaseLost()
    if is_cut_off(attempt, delivered):
        return StopAsked()
    at = now()
    if not hold_outlasts_delivery(job, at):
        return Unavailable("The money of this job must be held for longer first; deliver the result again.")
    succeed(job, attempt, at=at)
    fill(job, attempt, delivered)
    return Accepted(job, attempt, completion.input_digest, repeated=False)


def is_repeated(attempt: AttemptValue, delivered: Delivered) -> bool:
    """Whether this very result was accepted before."""
    same = (delivered.miner, delivered.token, delivered.output_digest)
    return attempt.ended == Ended.SUCCEEDED and same == (attempt.miner, attempt.token, attempt.output_digest)


def is_held(job: JobValue, attempt: AttemptValue, delivered: Delivered) -> bool:
    """Whether the lease is the newest of its job, of this miner, and has not ended."""
    return (
        attempt.ended is None
        and job.attempt == attempt.id
        and (job.token, attempt.token, attempt.miner) == (delivered.token, delivered.token, delivered.miner)
    )


def is_cut_off(attempt: AttemptValue, delivered: Delivered) -> bool:
    """Whether the owner asked to finish early, and this is another text than was delivered in parts until then."""
    return attempt.stop_asked_at is not None and not delivered.is_of_parts


def fill(job: JobValue, attempt: AttemptValue, delivered: Delivered) -> None:
    """Write an accepted result into job and attempt."""
    job.output, job.output_digest = delivered.output, delivered.output_digest
    job.units, job.price_units = delivered.units, delivered.price_units
    fill_attempt(attempt, delivered)


def fill_attempt(attempt: AttemptValue | AttemptRow, delivered: Delivered) -> None:
    """Write a result into the attempt that brought it."""
    attempt.usage, attempt.note, attempt.output_digest = delivered.usage, delivered.note, delivered.output_digest
    attempt.miner_key, attempt.signature = delivered.miner_key, delivered.signature
    if delivered.is_too_fast:
        attempt.reason = Reason.TOO_FAST.value
    if delivered.is_overcounted:
        attempt.reason = Reason.OVERCOUNTED.value


def _save(writes: WriteBatch, fresh: Sequence[tuple[Accepted, Completion]]) -> None:
    if not fresh:
        return
    jobs = [accepted.job for accepted, _ in fresh]
    save_jobs(writes, jobs, results=True)
    save_attempts(writes, [accepted.attempt for accepted, _ in fresh])
    payments = [succeeded(accepted) for accepted, _ in fresh]
    ended = [attempt_ended(accepted.job.account, accepted.attempt) for accepted, _ in fresh]
    requests = [completion.request_id for _, completion in fresh] * 2
    statement, columns = outbox_insert("ai", [*payments, *ended], delay=DIRECT_WAY, requests=requests)
    writes.add(statement, *columns)
    for (accepted, _), event in zip(fresh, columns[0], strict=False):
        accepted.event = event
    count_ended(writes, jobs)


def succeeded(accepted: Accepted) -> JobSucceeded:
    """The event that pays for an accepted result."""
    job, attempt = accepted.job, accepted.attempt
    assert job.units is not None and job.price_units is not None and attempt.ended_at is not None
    return JobSucceeded(
        hold=hold_of(job.id),
        job=job.id,
        attempt=attempt.id,
        token=attempt.token,
        payer=job.account,
        miner=attempt.miner,
        miner_account=attempt.miner_account,
        job_kind=job.kind,
        input_digest=accepted.input_digest,
        output_digest=attempt.output_digest or "",
        unit=job.unit,
        units=job.units,
        price_units=job.price_units,
        started_at=attempt.started_at,
        finished_at=attempt.ended_at,
        miner_key=attempt.miner_key or "",
        miner_signature=attempt.signature or "",
        offer=attempt.offer or UNSET,
        ask_units=UNSET if attempt.ask_units is None else attempt.ask_units,
        devices=UNSET if attempt.devices is None else receipt_devices(attempt.devices),
    )


def attempt_ended(payer: str, attempt: AttemptValue) -> AttemptEnded:
    """The event that a miner's reputation is made of, of an attempt at a job of this account's."""
    assert attempt.ended is not None and attempt.ended_at is not None
    return AttemptEnded(
        attempt=attempt.id,
        job=attempt.job,
        job_kind=attempt.kind,
        miner=attempt.miner,
        outcome=attempt.ended,
        fault=attempt.fault,
        reason=attempt.reason,
        is_own_work=payer == attempt.miner_account,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
    )
