"""The gathered way: the signs of life of many miners in one transaction, and what must be known of many in one read."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from aitbc.kernel.database.outbox import publish_many
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.events import AttemptEnded
from aitbc.modules.gpu.api import MinerNotFound
from aitbc.modules.gpu.models.life import Status, hear
from aitbc.modules.gpu.models.reputation import PRIOR, UNKNOWN, Score, Tally, score, tally
from aitbc.modules.gpu.models.values import Asking, Beat, MinerValue, Standing
from aitbc.modules.gpu.models.views import miner_changed

# In the order of ids, as all locks on several miners are: no two transactions wait for each other.
LOCK_MINERS = """
SELECT id, account, status, status_reason, drain_message, pause_reason, slots, slots_busy, version, booking, booker
FROM gpu.miners WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE"""

# One rewrite of each narrow row. No index holds any of these columns, so the new version stays on the same page.
SAVE_MINERS = """
UPDATE gpu.miners m SET status = v.status, status_reason = v.status_reason, pause_reason = v.pause_reason,
    slots = v.slots, slots_busy = v.slots_busy, version = v.version, readings = coalesce(v.readings, m.readings),
    seen_at = $9, changed_at = CASE WHEN v.version = m.version THEN m.changed_at ELSE $9 END
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::smallint[], $7::bigint[], $8::text[])
    AS v(id, status, status_reason, pause_reason, slots, slots_busy, version, readings)
WHERE m.id = v.id"""

READ_CAPABILITIES = "SELECT miner, capabilities FROM gpu.profiles WHERE miner = ANY($1::uuid[])"

ADD_CHANGES = """
INSERT INTO gpu.status_changes (miner, at, status, reason)
SELECT miner, $4, status, reason FROM unnest($1::uuid[], $2::text[], $3::text[]) AS v(miner, status, reason)"""

# All that a poll or a result needs to know of its miner.
READ_ASKING = """
SELECT m.id, m.account, m.public_key, m.status, m.status_reason, m.slots, m.booking, m.booker, p.capabilities,
    r.score, r.good, r.bad
FROM gpu.miners m JOIN gpu.profiles p ON p.miner = m.id LEFT JOIN gpu.reputations r ON r.miner = m.id
WHERE m.id = ANY($1::uuid[])"""

# In the order of attempts, as all hearers keep them.
KEEP_ATTEMPTS = """
INSERT INTO gpu.reputation_events
    (attempt, miner, job, job_kind, outcome, fault, reason, started_at, ended_at, heard_at)
SELECT v.*, $10 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::timestamptz[], $9::timestamptz[]) AS v
ON CONFLICT DO NOTHING RETURNING attempt"""

# A reputation that is there is locked and stays as it is: hearers take turns.
LOCK_SCORES = """
INSERT INTO gpu.reputations AS r (miner, score, good, bad, updated_at)
SELECT miner, $2, 0, 0, $3 FROM unnest($1::uuid[]) AS miner
ON CONFLICT (miner) DO UPDATE SET score = r.score WHERE false"""

READ_DAYS = "SELECT miner, day, good, bad FROM gpu.reputation_days WHERE miner = ANY($1::uuid[])"

SAVE_DAYS = """
INSERT INTO gpu.reputation_days (miner, day, good, bad)
SELECT * FROM unnest($1::uuid[], $2::date[], $3::int[], $4::int[])
ON CONFLICT (miner, day) DO UPDATE SET good = excluded.good, bad = excluded.bad"""

SAVE_SCORES = """
UPDATE gpu.reputations r SET score = v.score, good = v.good, bad = v.bad, updated_at = $5
FROM unnest($1::uuid[], $2::float8[], $3::int[], $4::int[]) AS v(miner, score, good, bad) WHERE r.miner = v.miner"""


async def beat_many(database: Database, beats: Sequence[Beat]) -> list[Standing | AppError]:
    """Hear signs of life; tells of each miner that changed by it."""
    at = now()
    async with database.raw_transaction() as connection:
        wanted = {ids.decode("mnr", beat.miner) for beat in beats}
        miners = {miner.id: miner for miner in map(_value, await connection.fetch(LOCK_MINERS, list(wanted)))}
        before = {miner.id: miner.status for miner in miners.values()}
        changed = [beat.miner for beat in beats if beat.miner in miners and hear_beat(miners[beat.miner], beat)]
        heard = [miner for miner in miners.values() if miner.status != Status.REMOVED]
        await _save(connection, heard, at)
        news = [miners[miner] for miner in dict.fromkeys(changed)]
        if news:
            await _tell(connection, news, before, {beat.miner: beat.request_id for beat in beats}, at)
    if news:
        database.notify_published()
    return [
        Standing(miners[beat.miner].status, miners[beat.miner].status_reason)
        if beat.miner in miners
        else MinerNotFound()
        for beat in beats
    ]


def hear_beat(miner: MinerValue, beat: Beat) -> bool:
    """Apply a sign of life; whether that changed anything others must know."""
    miner.slots_busy = miner.slots_busy if beat.slots_busy is None else beat.slots_busy
    miner.readings = beat.readings or miner.readings
    slots = miner.slots if beat.slots is None else beat.slots
    return hear(miner, slots=slots, pause=beat.pause, leaving=beat.leaving)


async def read_asking(database: Database, miners: Sequence[str]) -> list[Asking | AppError]:
    """What must be known of miners that ask for work or bring it, by well-formed ids."""
    async with database.raw() as connection:
        records = await connection.fetch(READ_ASKING, [ids.decode("mnr", miner) for miner in set(miners)])
    found = {record["id"]: _asking(record) for record in records}
    return [found.get(ids.decode("mnr", miner)) or MinerNotFound() for miner in miners]


async def judge_many(connection: Connection, events: Sequence[AttemptEnded]) -> None:
    """Keep attempts that ended, each once, and bring the reputations of their miners up to them."""
    ended = {ids.decode("att", event.attempt): event for event in events}
    order = sorted(ended)
    rows = [ended[attempt] for attempt in order]
    kept = await connection.fetch(
        KEEP_ATTEMPTS,
        order,
        [ids.decode("mnr", event.miner) for event in rows],
        [ids.decode("job", event.job) for event in rows],
        [event.job_kind for event in rows],
        [event.outcome for event in rows],
        [event.fault for event in rows],
        [event.reason for event in rows],
        [event.started_at for event in rows],
        [event.ended_at for event in rows],
        now(),
    )
    by_miner: dict[UUID, list[AttemptEnded]] = defaultdict(list)
    for row in kept:
        event = ended[row["attempt"]]
        by_miner[ids.decode("mnr", event.miner)].append(event)
    added = {
        miner: days
        for miner, attempts in sorted(by_miner.items())  # in one order, so that two hearers never wait in a circle
        if (days := tally((event.ended_at, event.outcome, event.fault, event.reason) for event in attempts))
    }
    if added:
        await _score_anew(connection, added)


async def _score_anew(connection: Connection, added: Mapping[UUID, Mapping[date, Tally]]) -> None:
    """Add to the days of miners, and store what they amount to."""
    miners, at = list(added), now()
    await connection.execute(LOCK_SCORES, miners, PRIOR, at)
    days: dict[UUID, dict[date, Tally]] = {miner: {} for miner in miners}
    for miner, day, good, bad in await connection.fetch(READ_DAYS, miners):
        days[miner][day] = Tally(good, bad)
    changed: list[tuple[UUID, date, Tally]] = []
    for miner, news in added.items():
        for day, one in news.items():
            before = days[miner].get(day, Tally())
            days[miner][day] = Tally(before.good + one.good, before.bad + one.bad)
            changed.append((miner, day, days[miner][day]))
    scores = [score(days[miner]) for miner in miners]
    writes = WriteBatch()
    writes.add(
        SAVE_DAYS,
        [miner for miner, _, _ in changed],
        [day for _, day, _ in changed],
        [one.good for _, _, one in changed],
        [one.bad for _, _, one in changed],
    )
    writes.add(
        SAVE_SCORES,
        miners,
        [one.value for one in scores],
        [one.good for one in scores],
        [one.bad for one in scores],
        at,
    )
    await writes.do(connection)


async def _save(connection: Connection, miners: Sequence[MinerValue], at: datetime) -> None:
    await connection.execute(
        SAVE_MINERS,
        _uuids(miners),
        [miner.status for miner in miners],
        [miner.status_reason for miner in miners],
        [miner.pause_reason for miner in miners],
        [miner.slots for miner in miners],
        [miner.slots_busy for miner in miners],
        [miner.version for miner in miners],
        [miner.readings for miner in miners],
        at,
    )


async def _tell(
    connection: Connection,
    miners: Sequence[MinerValue],
    before: Mapping[str, str],
    requests: Mapping[str, str | None],
    at: datetime,
) -> None:
    """Keep the steps in their lives, and tell what matching must know."""
    offers = {row["miner"]: row["capabilities"] for row in await connection.fetch(READ_CAPABILITIES, _uuids(miners))}
    steps = [miner for miner in miners if miner.status != before[miner.id]]
    if steps:
        statuses, reasons = [miner.status for miner in steps], [miner.status_reason for miner in steps]
        await connection.execute(ADD_CHANGES, _uuids(steps), statuses, reasons, at)
    events = [miner_changed(miner, offers[ids.decode("mnr", miner.id)], at) for miner in miners]
    await publish_many(connection, "gpu", events, requests=[requests[miner.id] for miner in miners])


def _uuids(miners: Sequence[MinerValue]) -> list[UUID]:
    return [ids.decode("mnr", miner.id) for miner in miners]


def _value(record: Any) -> MinerValue:
    values = dict(record)
    values["id"] = ids.encode("mnr", values["id"])
    values["account"] = ids.encode("acct", values["account"])
    values |= _booked(record)
    return MinerValue(**values)


def _asking(record: Any) -> Asking:
    score = UNKNOWN if record["score"] is None else Score(record["score"], record["good"], record["bad"])
    return Asking(
        id=ids.encode("mnr", record["id"]),
        account=ids.encode("acct", record["account"]),
        public_key=record["public_key"],
        status=record["status"],
        reason=record["status_reason"],
        slots=record["slots"],
        capabilities=record["capabilities"],
        score=score,
        **_booked(record),
    )


def _booked(record: Any) -> dict[str, str]:
    """The booking that a miner is in; nothing, nearly always."""
    if record["booking"] is None:
        return {}
    return {"booking": ids.encode("book", record["booking"]), "booker": ids.encode("acct", record["booker"])}
