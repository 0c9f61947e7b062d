"""Parts of outputs in batches: what many miners stream at one moment is stored in one transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct

from aitbc.kernel.database.bulk import BulkTable
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.api import LeaseLost, NotToldInParts, Parts, PartsKept, PartsTooLarge
from aitbc.modules.ai.batched.renew import FIRST_RENEWALS, LOCK_ATTEMPTS, status_of
from aitbc.modules.ai.batched.rows import attempt_from, lock_both, save_attempts, save_jobs
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.life import show_sign
from aitbc.modules.ai.models.tables import PartRow
from aitbc.modules.ai.models.values import AttemptValue, JobValue, StoredPart

PARTS_MAX = 100_000
PARTS_BYTES_MAX = 2 * 1024 * 1024
"""What the parts of one attempt may weigh together."""
READ_LAST_PARTS = """
SELECT wanted.job, wanted.token, last.sequence, last.bytes FROM unnest($1::uuid[], $2::int[]) AS wanted(job, token)
CROSS JOIN LATERAL (
    SELECT sequence, bytes FROM ai.parts AS stored
    WHERE stored.job = wanted.job AND stored.token = wanted.token ORDER BY sequence DESC LIMIT 1
) AS last"""
BEGIN_TEXTS = "UPDATE ai.attempts SET first_text_at = $2 WHERE id = ANY($1::uuid[]) AND first_text_at IS NULL"


class NewPart(Struct):
    """A part as it is written."""

    job: str
    token: int
    sequence: int
    at: datetime
    text: str
    bytes: int


INSERT_PARTS = BulkTable(PartRow, NewPart).insert()


class KeptParts(Struct, frozen=True):
    """What became of the parts that one miner sent of one attempt."""

    answer: PartsKept
    job: str
    token: int
    fresh: list[StoredPart]
    """Those that are new."""
    is_first_sign: bool
    """Whether the job runs since these."""


class _Last(NamedTuple):
    sequence: int = 0
    bytes: int = 0


async def keep_parts(database: Database, sent: Sequence[Parts]) -> list[KeptParts | AppError]:
    """Store what follows on what is kept of each attempt, and answer whether to go on with it.

    First signs of work go in a transaction of their own: it locks jobs too, and locks are taken in one order.
    """
    uuids = {ids.decode("att", one.attempt) for one in sent if ids.is_id("att", one.attempt)}
    async with database.raw() as connection:
        first = [row["id"] for row in await connection.fetch(FIRST_RENEWALS, list(uuids))]
    answers: list[KeptParts | AppError | None] = [None] * len(sent)
    if first:
        async with database.raw_transaction() as connection:
            jobs, attempts = await lock_both(connection, first)
            await _keep(connection, sent, answers, attempts, jobs)
    rest = list(uuids - set(first))
    if rest:
        async with database.raw_transaction() as connection:
            attempts = {a.id: a for a in map(attempt_from, await connection.fetch(LOCK_ATTEMPTS, rest))}
            await _keep(connection, sent, answers, attempts, {})
    return [LeaseLost() if answer is None else answer for answer in answers]


async def _keep(
    connection: Connection,
    sent: Sequence[Parts],
    answers: list[KeptParts | AppError | None],
    attempts: Mapping[str, AttemptValue],
    jobs: Mapping[str, JobValue],
) -> None:
    """Fill in the answers for these attempts."""
    at = now()
    rows = [attempt for attempt in attempts.values() if KINDS[attempt.kind].streams]
    keys = [ids.decode("job", row.job) for row in rows], [row.token for row in rows]
    last = {
        (ids.encode("job", record["job"]), record["token"]): _Last(record["sequence"], record["bytes"])
        for record in (await connection.fetch(READ_LAST_PARTS, *keys) if rows else ())
    }
    new: list[NewPart] = []
    signs: list[AttemptValue] = []
    begun: list[UUID] = []
    for place, one in enumerate(sent):
        attempt = attempts.get(one.attempt)
        if attempt is None or (attempt.miner, attempt.token) != (one.miner, one.token):
            continue
        if one.parts and not KINDS[attempt.kind].streams:
            answers[place] = NotToldInParts()
            continue
        is_first_sign = attempt.job in jobs and attempt.ended is None and attempt.running_at is None
        if is_first_sign:
            show_sign(jobs[attempt.job], attempt, at=at)
            signs.append(attempt)
        place_of = attempt.job, attempt.token
        before = last.get(place_of, _Last())
        status = status_of(attempt, one.miner, one.token).status
        fresh = _following(attempt, one, before, at) if status == "live" else []
        if fresh is None:
            answers[place] = PartsTooLarge(parts_max=PARTS_MAX, bytes_max=PARTS_BYTES_MAX)
            continue
        new += fresh
        if fresh:
            if not before.sequence:
                begun.append(ids.decode("att", attempt.id))
            last[place_of] = _Last(fresh[-1].sequence, fresh[-1].bytes)
        stored = [StoredPart(attempt=part.token, sequence=part.sequence, at=part.at, text=part.text) for part in fresh]
        kept = last.get(place_of, before).sequence
        answer = PartsKept(status=status, kept=kept, heard=kept)
        answers[place] = KeptParts(answer, attempt.job, attempt.token, stored, is_first_sign)
    writes = WriteBatch()
    save_jobs(writes, [jobs[attempt.job] for attempt in signs])
    save_attempts(writes, signs)
    if new:
        writes.write(INSERT_PARTS, new)
    await writes.do(connection, commits=not begun)
    if begun:  # alone: first signs change the same rows
        await connection.execute(BEGIN_TEXTS, begun, at)


def _following(attempt: AttemptValue, sent: Parts, last: _Last, at: datetime) -> list[NewPart] | None:
    """The parts that follow on what is kept; none at all where they would weigh too much."""
    fresh: list[NewPart] = []
    kept, weight = last
    for part in sorted(sent.parts, key=lambda part: part.sequence):
        if part.sequence != kept + 1:
            continue
        kept, weight = part.sequence, weight + len(part.text.encode())
        if kept > PARTS_MAX or weight > PARTS_BYTES_MAX:
            return None
        fresh.append(NewPart(attempt.job, attempt.token, kept, at, part.text, weight))
    return fresh
