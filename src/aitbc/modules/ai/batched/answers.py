"""Answers to verified jobs in batches: kept, and the verdict with the last that is wanted, all in one transaction."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Unavailable
from aitbc.modules.ai.api import LeaseLost
from aitbc.modules.ai.batched.complete import MARK_PAID, fill_attempt
from aitbc.modules.ai.batched.rows import (
    ATTEMPT_ALL,
    FIXED,
    HELD_UNTIL,
    JOBS,
    RESULT,
    UNRULED,
    both_from,
    read_both,
    save_attempts,
)
from aitbc.modules.ai.batched.verdicts import Concluded, Kept, conclude, write_concluded
from aitbc.modules.ai.models.checks.likelihoods import Measured
from aitbc.modules.ai.models.checks.sampling import is_drawn
from aitbc.modules.ai.models.checks.tiers import SAMPLED, is_quorum
from aitbc.modules.ai.models.checks.verdicts import decide
from aitbc.modules.ai.models.life import ask_another, bar, deliver, hold_outlasts_delivery
from aitbc.modules.ai.models.queue import needs_of
from aitbc.modules.ai.models.values import AttemptValue, Delivered, JobValue

VERIFIED = frozenset({"barred", "trusted_only", "verdict"})
ANSWERED = JOBS.columns(without=UNRULED - VERIFIED - {"needs", "input_digest", "request_id"})
SAVE_ANSWERED = JOBS.update(without=(UNRULED | FIXED | HELD_UNTIL) - RESULT - VERIFIED)

# A job and its attempt, in the order of jobs, as all locks are taken.
LOCK_ANSWERED = read_both(ANSWERED, "a.id = ANY($1::uuid[]) ORDER BY j.id, a.id FOR UPDATE OF j, a")
READ_DELIVERIES = f"""
SELECT d.is_trusted, d.output, d.units, d.price_units, d.agrees_with, {ATTEMPT_ALL.of("a")}
FROM ai.deliveries d JOIN ai.attempts a ON a.id = d.attempt
WHERE d.job = ANY($1::uuid[]) ORDER BY d.delivered_at, d.attempt"""  # noqa: S608 - constants
# What is known of miners: whether they are trusted, and how many valid answers in a row they gave, of kind and model.
READ_MINERS = """
SELECT v.miner, v.kind, v.model,
    coalesce((SELECT k.trusted FROM ai.asks k WHERE k.miner = v.miner), false) AS is_trusted,
    coalesce((SELECT r.valid_in_row FROM ai.track_records r
        WHERE r.miner = v.miner AND r.kind = v.kind AND r.model = v.model), 0) AS valid_in_row
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS v(miner, kind, model)"""
# By hand: an array goes in as one text, since a statement over arrays would take it apart.
INSERT_DELIVERIES = """
INSERT INTO ai.deliveries (attempt, job, miner, is_trusted, output, units, price_units, agrees_with, delivered_at)
SELECT v.attempt, v.job, v.miner, v.is_trusted, v.output, v.units, v.price_units, string_to_array(v.agrees, ' '), $9
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bool[], $5::text[], $6::bigint[], $7::bigint[], $8::text[])
    AS v(attempt, job, miner, is_trusted, output, units, price_units, agrees)"""
LOCK_UNCHECKED = f"""
SELECT {ANSWERED} FROM ai.jobs
WHERE id = ANY($1::uuid[]) AND state = 'queued' AND verification = 'sampled' AND trusted_only AND expires_at <= $2
ORDER BY id FOR UPDATE SKIP LOCKED"""  # noqa: S608 - constants


class Answering(Struct, frozen=True):
    """A judged answer, and what it was compared with."""

    delivered: Delivered
    compared: frozenset[str]
    """The earlier attempts whose answers it was compared with."""
    agreeing: Sequence[str]
    """Those of them that agree with it."""
    is_unclear: bool = False
    """Whether they agree only for want of evidence."""
    measured: Measured | None = None
    """What its check of an answer measured, where that was evaluated."""


class Answered(Struct):
    """What became of an answer."""

    job: JobValue
    attempt: AttemptValue
    is_new: bool = False
    is_behind: bool = False
    """Whether another answer came meanwhile, with which it must be compared first: nothing was written."""
    concluded: Concluded | None = None


class _Miner(Struct, frozen=True):
    """What is known of the miner of an answer."""

    is_trusted: bool
    valid_in_row: int


class _Round(Struct):
    """What is known while a batch is worked through."""

    jobs: dict[str, JobValue]
    attempts: dict[str, AttemptValue]
    kept: dict[str, list[Kept]]
    miners: dict[str, _Miner]
    """By attempt."""
    chance: Callable[[], float]
    at: datetime


async def answer_many(
    database: Database, answers: Sequence[Answering], chance: Callable[[], float], paid: list[UUID]
) -> list[Answered | AppError]:
    """Keep each answer whose lease still holds, and carry out the verdicts that the last ones bring.

    A repeated answer is answered as it stands, a late one is refused with `LeaseLost`. `chance` draws the samples.
    `paid` are events of payments that were made since: they need not be delivered any more.
    """
    done = paid[:]
    async with database.raw_transaction() as connection:
        known = await _read(connection, [answer.delivered.attempt for answer in answers], chance)
        results = [_answer(answer, known) for answer in answers]
        writes = WriteBatch()
        if done:
            writes.add(MARK_PAID, done, known.at)
        fresh = [one for one in results if isinstance(one, Answered) and one.is_new]
        is_due = _write(writes, fresh, known)
        await writes.do(connection, commits=True)
    del paid[: len(done)]
    if is_due:
        database.notify_published()
    return results


async def conclude_unchecked(database: Database, jobs: Sequence[str]) -> list[Concluded]:
    """Take the answers to those of these sampled jobs that nobody came to check in time."""
    concluded = []
    async with database.raw_transaction() as connection:
        at = now()
        records = await connection.fetch(LOCK_UNCHECKED, [ids.decode("job", job) for job in jobs], at)
        locked = [ANSWERED.read(record) for record in records]
        kept = await _read_deliveries(connection, [job.id for job in locked])
        for job in locked:
            decision = decide(SAMPLED, [one.answer for one in kept[job.id]], is_drawn=False)
            assert decision is not None
            concluded.append(conclude(job, kept[job.id], decision, at))
        writes = WriteBatch()
        if concluded:
            writes.write(SAVE_ANSWERED, [one.job for one in concluded])
            save_attempts(writes, [attempt for one in concluded for attempt in one.attempts])
        write_concluded(writes, concluded, at)
        await writes.do(connection, commits=True)
    return concluded


async def _read(connection: Connection, wanted: Sequence[str], chance: Callable[[], float]) -> _Round:
    """Lock jobs and attempts, and read what verdicts on them go by."""
    records = await connection.fetch(LOCK_ANSWERED, [ids.decode("att", attempt) for attempt in wanted])
    known = _Round({}, {}, {}, {}, chance, now())
    for job, attempt in (both_from(record, ANSWERED) for record in records):
        known.jobs.setdefault(job.id, job)
        known.attempts[attempt.id] = attempt
    known.kept = await _read_deliveries(connection, list(known.jobs))
    asked = [(one, known.jobs[one.job]) for one in known.attempts.values() if one.ended is None]
    keys = [(ids.decode("mnr", one.miner), one.kind, needs_of(job.needs).model or "") for one, job in asked]
    if keys:
        rows = await connection.fetch(READ_MINERS, *map(list, zip(*sorted(set(keys)), strict=True)))
        found = {
            (row["miner"], row["kind"], row["model"]): _Miner(row["is_trusted"], row["valid_in_row"]) for row in rows
        }
        known.miners = {one.id: found[key] for (one, _), key in zip(asked, keys, strict=True)}
    return known


async def _read_deliveries(connection: Connection, jobs: Sequence[str]) -> dict[str, list[Kept]]:
    """The answers to locked jobs that wait for the verdict, in the order in which they came."""
    kept: dict[str, list[Kept]] = defaultdict(list)
    for record in await connection.fetch(READ_DELIVERIES, [ids.decode("job", job) for job in jobs]):
        is_trusted, output, units, price_units, agrees_with, *values = tuple(record)
        attempt = ATTEMPT_ALL.read_values(values)
        kept[attempt.job].append(Kept(attempt, is_trusted, output, units, price_units, agrees_with))
    return kept


def _answer(answering: Answering, known: _Round) -> Answered | AppError:
    delivered, attempt = answering.delivered, known.attempts.get(answering.delivered.attempt)
    if attempt is None:
        return LeaseLost()
    job = known.jobs[attempt.job]
    if attempt.ended is not None and attempt.output_digest == delivered.output_digest:
        return Answered(job, attempt)
    if attempt.ended is not None or (attempt.miner, attempt.token) != (delivered.miner, delivered.token):
        return LeaseLost()
    if not hold_outlasts_delivery(job, known.at):
        return Unavailable("The money of this job must be held for longer first; deliver the result again.")
    kept = known.kept[job.id]
    if {one.attempt.id for one in kept} - answering.compared:
        return Answered(job, attempt, is_behind=True)
    deliver(attempt, at=known.at)
    fill_attempt(attempt, delivered)
    miner = known.miners[attempt.id]
    is_trusted = job.trusted_only or miner.is_trusted
    answer = Kept(attempt, is_trusted, delivered.output, delivered.units, delivered.price_units, answering.agreeing)
    answer.is_unclear, answer.measured = answering.is_unclear, answering.measured
    kept.append(answer)
    draws = job.verification == SAMPLED and len(kept) == 1
    is_checked = draws and is_drawn(miner.valid_in_row, known.chance)
    decision = decide(job.verification, [one.answer for one in kept], is_drawn=is_checked)
    answered = Answered(job, attempt, is_new=True)
    if decision is not None:
        answered.concluded = conclude(job, kept, decision, known.at)
    else:
        bar(job, attempt.miner_account)
        job.trusted_only = not is_quorum(job.verification)
        ask_another(job, at=known.at)
    return answered


def _write(writes: WriteBatch, fresh: Sequence[Answered], known: _Round) -> bool:
    """Write new answers and verdicts; whether an event is due at once."""
    if not fresh:
        return False
    concluded = [one.concluded for one in fresh if one.concluded is not None]
    waiting = [known.kept[one.job.id][-1] for one in fresh if one.concluded is None]
    writes.write(SAVE_ANSWERED, [one.job for one in fresh])
    save_attempts(writes, [one.attempt for one in waiting] + [a for one in concluded for a in one.attempts])
    if waiting:
        columns = [
            (
                ids.decode("att", one.attempt.id),
                ids.decode("job", one.attempt.job),
                ids.decode("mnr", one.attempt.miner),
                one.is_trusted,
                one.output,
                one.units,
                one.price_units,
                " ".join(one.agrees_with),
            )
            for one in waiting
        ]
        writes.add(INSERT_DELIVERIES, *map(list, zip(*columns, strict=True)), known.at)
    return write_concluded(writes, concluded, known.at)
