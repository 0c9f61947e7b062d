"""Submissions in batches: stored answers for repeated ones, ranks for new ones, and one INSERT for all."""

from collections.abc import Callable, Sequence
from uuid import UUID

import msgspec
from msgspec import Struct

from aitbc.kernel.database.idempotency import IdempotencyKey, IdempotencyKeyReused
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.api import BookingNotOpen, Job, TooManyOpenJobs
from aitbc.modules.ai.batched.bookings import live_bookings
from aitbc.modules.ai.batched.counts import COUNT_SUBMITTED, refuse_excess, submitted_columns
from aitbc.modules.ai.batched.rows import JOBS, RESULT
from aitbc.modules.ai.models.queue import needs_of, rank_after
from aitbc.modules.ai.models.values import JobValue
from aitbc.modules.ai.models.views import job_view

INSERT_JOBS = JOBS.insert(without={"attempt", "started_at", "completed_at", "kept_until", "verdict"} | RESULT)
"""All of a new job's row but what is null until something happens to it."""

# By hand: a row of `answers` is made of a key and an answer. The first request with a key writes its answer; the others find
# it taken, and wait for one that is still running.
CLAIM_KEYS = """
INSERT INTO ai.answers (account, key, fingerprint, body, created_at)
SELECT v.*, $5 FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[]) AS v
ON CONFLICT DO NOTHING RETURNING account, key, body"""

STORED_ANSWERS = """
SELECT a.account, a.key, a.fingerprint, a.body FROM ai.answers a
JOIN unnest($1::text[], $2::text[]) AS v(account, key) ON a.account = v.account AND a.key = v.key"""

# A request that is refused leaves no answer behind: with the same key it may be tried again.
DROP_KEYS = """
DELETE FROM ai.answers a USING unnest($1::text[], $2::text[]) AS v(account, key)
WHERE a.account = v.account AND a.key = v.key"""

# By hand: new jobs are counted first, and then flows are looked up, which are tuples found by all that they are. The tag of
# each, locked, and the present rank of its lane: that of the lane's first job that waits in turn, one probe of the queue's
# index. Of an account without a lane the tag is how many jobs of it are open now.
COUNT_AND_LOCK_FLOWS = f"""
WITH counted AS ({COUNT_SUBMITTED}), known AS (
    SELECT account, lane, priority, tag FROM ai.flows
    WHERE (account, lane, priority) IN (SELECT * FROM unnest($3::uuid[], $4::uuid[], $5::int2[]))
    ORDER BY account, lane, priority FOR UPDATE)
SELECT account, NULL::uuid AS lane, NULL::int2 AS priority, open AS tag, NULL::int8 AS rank FROM counted
UNION ALL
SELECT v.account, v.lane, v.priority, k.tag, (
    SELECT j.rank FROM ai.jobs j WHERE j.lane = v.lane AND j.state = 'queued' AND j.rank >= 0 ORDER BY j.rank LIMIT 1)
FROM unnest($3::uuid[], $4::uuid[], $5::int2[]) AS v(account, lane, priority)
LEFT JOIN known k ON (k.account, k.lane, k.priority) = (v.account, v.lane, v.priority)"""  # noqa: S608 - constants

SAVE_FLOWS = """
INSERT INTO ai.flows (account, lane, priority, tag, used_at)
SELECT v.*, $5 FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::int8[]) AS v
ON CONFLICT (account, lane, priority)
    DO UPDATE SET tag = greatest(flows.tag, excluded.tag), used_at = excluded.used_at"""

Flow = tuple[UUID, UUID, int]


class _Places(Struct):
    """Where new jobs come: what is known of their flows and lanes, and how many open jobs their accounts have now."""

    tags: dict[Flow, int] = {}
    ranks: dict[UUID, int | None] = {}
    open_jobs: dict[UUID, int] = {}


class Submission(Struct, frozen=True):
    """A job to be written, and the key under which its answer is kept."""

    job: JobValue
    once: IdempotencyKey


async def submit_many(
    database: Database, submissions: Sequence[Submission], served: Callable[[str], int], *, open_max: int
) -> list[Job | AppError]:
    """Write the jobs whose money is held; answers each with the job, which for a repeated request is the earlier one.

    `served` tells the rank that a kind's miners have reached: where a lane that is empty begins. What would be more
    than `open_max` open jobs of an account is refused, and so is what is for a booking that is over.
    """
    async with database.raw_transaction() as connection:
        answers, fresh = await _claim_keys(connection, submissions)
        fresh = await _require_bookings(connection, submissions, fresh, answers)
        places = await _places(connection, [submissions[index].job for index in fresh])
        fresh = await _admit(connection, submissions, fresh, answers, (places, open_max))
        jobs = [submissions[index].job for index in fresh]
        if jobs:
            writes = WriteBatch()
            _rank(places, writes, jobs, served)
            writes.write(INSERT_JOBS, jobs)
            await writes.do(connection, commits=True)
    return answers


async def _claim_keys(
    connection: Connection, submissions: Sequence[Submission]
) -> tuple[list[Job | AppError], list[int]]:
    """The answer to every submission, and which of them are to be done now."""
    views = [job_view(submission.job) for submission in submissions]
    answers: list[Job | AppError] = list(views)
    keyed = {index: s.once for index, s in enumerate(submissions) if s.once.key is not None}
    if not keyed:
        return answers, list(range(len(submissions)))
    bodies = {index: msgspec.json.encode(views[index]).decode() for index in keyed}
    won = await connection.fetch(
        CLAIM_KEYS,
        [once.account for once in keyed.values()],
        [once.key for once in keyed.values()],
        [once.fingerprint for once in keyed.values()],
        list(bodies.values()),
        now(),
    )
    winners = {(record["account"], record["key"]): record["body"] for record in won}
    repeated = [index for index, once in keyed.items() if winners.get((once.account, once.key or "")) != bodies[index]]
    if repeated:
        await _replay(connection, {index: keyed[index] for index in repeated}, answers)
    return answers, [index for index in range(len(submissions)) if index not in set(repeated)]


async def _require_bookings(
    connection: Connection, submissions: Sequence[Submission], fresh: Sequence[int], answers: list[Job | AppError]
) -> list[int]:
    """Those of the fresh submissions that are for no booking, or for one that lasts."""
    named = {index: needs_of(submissions[index].job.needs).booking for index in fresh}
    wanted = {booking for booking in named.values() if booking is not None}
    live = await live_bookings(connection, wanted, now())
    over = [index for index in fresh if named[index] in wanted - live]
    if over:
        await _refuse(connection, [submissions[index] for index in over], answers, BookingNotOpen())
    return [index for index in fresh if index not in over]


async def _refuse(
    connection: Connection, refused: Sequence[Submission], answers: list[Job | AppError], error: AppError
) -> None:
    """Refuse submissions, which leave no answer behind."""
    keyed = [s.once for s in refused if s.once.key is not None]
    await connection.execute(DROP_KEYS, [once.account for once in keyed], [once.key for once in keyed])
    gone = {submission.job.id for submission in refused}
    for index, answer in enumerate(answers):  # a twin in this batch was answered with the same job
        if isinstance(answer, Job) and answer.id in gone:
            answers[index] = error


async def _admit(
    connection: Connection,
    submissions: Sequence[Submission],
    fresh: Sequence[int],
    answers: list[Job | AppError],
    limit: tuple[_Places, int],
) -> list[int]:
    """Those of the fresh submissions that their accounts have room for, the earlier ones first."""
    places, open_max = limit
    jobs = [submissions[index].job for index in fresh]
    excess = await refuse_excess(connection, jobs, places.open_jobs, open_max=open_max)
    refused: list[Submission] = []
    admitted: list[int] = []
    for index in reversed(fresh):
        if excess.get(submissions[index].job.account, 0) > 0:
            excess[submissions[index].job.account] -= 1
            refused.append(submissions[index])
        else:
            admitted.append(index)
    if refused:
        await _refuse(connection, refused, answers, TooManyOpenJobs(open_jobs_max=open_max))
    return admitted[::-1]


async def _replay(connection: Connection, repeated: dict[int, IdempotencyKey], answers: list[Job | AppError]) -> None:
    for index, found in zip(repeated, await _look_up(connection, list(repeated.values())), strict=True):
        answers[index] = found or IdempotencyKeyReused()


async def stored_answers(database: Database, onces: Sequence[IdempotencyKey]) -> list[Job | AppError | None]:
    """The answers that earlier requests with these keys got; none for a key that is new."""
    async with database.raw() as connection:
        return await _look_up(connection, onces)


async def _look_up(connection: Connection, onces: Sequence[IdempotencyKey]) -> list[Job | AppError | None]:
    found = await connection.fetch(STORED_ANSWERS, [once.account for once in onces], [once.key for once in onces])
    stored = {(record["account"], record["key"]): record for record in found}
    answers: list[Job | AppError | None] = []
    for once in onces:
        record = stored.get((once.account, once.key or ""))
        if record is None:
            answers.append(None)
        elif record["fingerprint"] != once.fingerprint:
            answers.append(IdempotencyKeyReused())
        else:
            once.replayed = True
            answers.append(msgspec.json.decode(record["body"], type=Job))
    return answers


async def _places(connection: Connection, jobs: Sequence[JobValue]) -> _Places:
    """Count new jobs, and lock their flows."""
    places = _Places()
    if not jobs:
        return places
    flows = sorted({_flow(job) for job in jobs})
    rows = await connection.fetch(COUNT_AND_LOCK_FLOWS, *submitted_columns(jobs), *_transposed(flows))
    for account, lane, priority, tag, rank in rows:
        if lane is None:
            places.open_jobs[account] = tag
        else:
            places.ranks[lane] = rank
            places.tags[account, lane, priority] = tag or 0
    return places


def _rank(places: _Places, writes: WriteBatch, jobs: Sequence[JobValue], served: Callable[[str], int]) -> None:
    """Give each job its place in its lane, in the order of arrival."""
    flows = sorted({_flow(job) for job in jobs})
    tags = places.tags
    for job in jobs:
        flow = _flow(job)
        rank = places.ranks[flow[1]]
        job.rank, tags[flow] = rank_after(served(job.kind) if rank is None else rank, tags[flow], job.priority)
    writes.add(SAVE_FLOWS, *_transposed(flows), [tags[flow] for flow in flows], now())


def _flow(job: JobValue) -> Flow:
    assert job.lane is not None
    return ids.decode("acct", job.account), job.lane, job.priority


def _transposed(flows: Sequence[Flow]) -> tuple[list[UUID], list[UUID], list[int]]:
    return [flow[0] for flow in flows], [flow[1] for flow in flows], [flow[2] for flow in flows]
