"""Batched commands of gpu: many miners' heartbeats and reputations in one transaction, many poll contexts in one
read."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from aitbc.kernel.database.bulk import BulkTable
from aitbc.kernel.database.outbox import publish_many
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.events import AttemptEnded
from aitbc.modules.gpu.api import MinerNotFound
from aitbc.modules.gpu.models.bookings import count_time
from aitbc.modules.gpu.models.life import Status, apply_heartbeat, takes_work
from aitbc.modules.gpu.models.reputation import PRIOR, UNKNOWN, Score, Tally, score, tally
from aitbc.modules.gpu.models.tables import MinerRow, ReputationEventRow
from aitbc.modules.gpu.models.values import BookedTimeValue, Heartbeat, MinerStatus, MinerValue, PollContext
from aitbc.modules.gpu.models.views import miner_changed

MINERS = BulkTable(
    MinerRow,
    MinerValue,
    unmapped=("name", "public_key", "capabilities_version", "created_at", "changed_at"),
)
LOCKED = MINERS.columns(without=("readings",))

# In the order of ids, as all locks on several miners are: no two transactions wait for each other.
LOCK_MINERS = f"SELECT {LOCKED} FROM gpu.miners WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE"  # noqa: S608

# One rewrite of each narrow row. No index holds any of these columns, so the new version stays on the same page.
SAVE_MINERS = MINERS.update(
    without=("account", "drain_message", "booking", "booker", "seen_at", "stopping_since"),
    constants={
        "readings": "coalesce(v.readings, t.readings)",
        "seen_at": ":seen_at",
        "changed_at": "CASE WHEN v.version = t.version THEN t.changed_at ELSE :seen_at END",
    },
)

READ_CAPABILITIES = "SELECT miner, capabilities FROM gpu.profiles WHERE miner = ANY($1::uuid[])"

# By hand, like the next: of the wide row of a booking they read and write only how its time is counted.
LOCK_TIMES = """
SELECT id, ends_at, grace_ms, unreachable_us, counted_at FROM gpu.bookings
WHERE id = ANY($1::uuid[]) AND state = 'active' ORDER BY id FOR NO KEY UPDATE"""

SAVE_TIMES = """
UPDATE gpu.bookings b SET unreachable_us = v.unreachable_us, counted_at = v.counted_at
FROM unnest($1::uuid[], $2::int8[], $3::timestamptz[]) AS v(id, unreachable_us, counted_at) WHERE b.id = v.id"""

ADD_CHANGES = """
INSERT INTO gpu.status_changes (miner, at, status, reason)
SELECT miner, $4, status, reason FROM unnest($1::uuid[], $2::text[], $3::text[]) AS v(miner, status, reason)"""

# By hand: it is read from three tables. All that a poll or a result needs to know of its miner.
READ_POLL_CONTEXTS = """
SELECT m.id, m.account, m.public_key, m.status, m.status_reason, m.slots, m.booking, m.booker, p.capabilities,
    r.score, r.good, r.bad
FROM gpu.miners m JOIN gpu.profiles p ON p.miner = m.id LEFT JOIN gpu.reputations r ON r.miner = m.id
WHERE m.id = ANY($1::uuid[])"""

# In the order of attempts, as all event handlers keep them.
KEEP_ATTEMPTS = BulkTable(ReputationEventRow, AttemptEnded, unmapped=("heard_at",)).insert(
    constants={"heard_at": ":heard_at"}, suffix="ON CONFLICT DO NOTHING RETURNING attempt"
)

# By hand, like the three below: they write sums, which no struct carries. A reputation that is there is locked and stays as
# it is: event handlers take turns.
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


async def record_heartbeats(
    database: Database, heartbeats: Sequence[Heartbeat], *, grace: timedelta
) -> list[MinerStatus | AppError]:
    """Record heartbeats; publishes each miner that changed by it. A silence within `grace` interrupts no booking."""
    at = now()
    async with database.raw_transaction() as connection:
        wanted = {ids.decode("mnr", heartbeat.miner) for heartbeat in heartbeats}
        miners = {miner.id: miner for miner in map(LOCKED.read, await connection.fetch(LOCK_MINERS, list(wanted)))}
        before = {miner.id: miner.status for miner in miners.values()}
        worked = {miner.id: takes_work(miner.status, miner.status_reason) for miner in miners.values() if miner.booking}
        changed = [
            heartbeat.miner
            for heartbeat in heartbeats
            if heartbeat.miner in miners and update_miner(miners[heartbeat.miner], heartbeat)
        ]
        heard = [miner for miner in miners.values() if miner.status != Status.REMOVED]
        await _save(connection, heard, at)
        await _count_booked_time(connection, heard, worked, at, grace)
        news = [miners[miner] for miner in dict.fromkeys(changed)]
        if news:
            await _publish_changes(
                connection, news, before, {heartbeat.miner: heartbeat.request_id for heartbeat in heartbeats}, at
            )
    if news:
        database.notify_published()
    return [
        _status(miners[heartbeat.miner]) if heartbeat.miner in miners else MinerNotFound() for heartbeat in heartbeats
    ]


def _status(miner: MinerValue) -> MinerStatus:
    return MinerStatus(miner.status, miner.status_reason, miner.stopping_since)


async def _count_booked_time(
    connection: Connection, miners: Sequence[MinerValue], worked: Mapping[str, bool], at: datetime, grace: timedelta
) -> None:
    """Count the time of the bookings of miners that took no work until now, or take none from now on."""
    booked = {
        ids.decode("book", miner.booking): miner
        for miner in miners
        if miner.booking is not None
        if not worked[miner.id] or miner.status != Status.ONLINE or (miner.seen_at or at) + grace < at
    }
    if not booked:
        return
    times = [BookedTimeValue(**row) for row in await connection.fetch(LOCK_TIMES, list(booked))]
    for time in times:
        miner = booked[time.id]
        count_time(time, working=worked[miner.id], seen_at=miner.seen_at, at=at)
    columns = [time.unreachable_us for time in times], [time.counted_at for time in times]
    await connection.execute(SAVE_TIMES, [time.id for time in times], *columns)


def update_miner(miner: MinerValue, heartbeat: Heartbeat) -> bool:
    """Apply a heartbeat; whether that changed anything that others must know."""
    miner.slots_busy = miner.slots_busy if heartbeat.slots_busy is None else heartbeat.slots_busy
    miner.readings = heartbeat.readings or miner.readings
    slots = miner.slots if heartbeat.slots is None else heartbeat.slots
    return apply_heartbeat(miner, slots=slots, pause=heartbeat.pause, leaving=heartbeat.leaving)


async def read_poll_contexts(database: Database, miners: Sequence[str]) -> list[PollContext | AppError]:
    """The poll contexts of miners, by well-formed ids."""
    async with database.raw() as connection:
        records = await connection.fetch(READ_POLL_CONTEXTS, [ids.decode("mnr", miner) for miner in set(miners)])
    found = {record["id"]: _poll_context(record) for record in records}
    return [found.get(ids.decode("mnr", miner)) or MinerNotFound() for miner in miners]


async def record_ended_attempts(connection: Connection, events: Sequence[AttemptEnded]) -> None:
    """Keep attempts that ended, each once, and bring the reputations of their miners up to them."""
    ended = {ids.decode("att", event.attempt): event for event in events}
    rows = [ended[attempt] for attempt in sorted(ended)]
    kept = await connection.fetch(KEEP_ATTEMPTS.sql, *KEEP_ATTEMPTS.arrays(rows), now())
    by_miner: dict[UUID, list[AttemptEnded]] = defaultdict(list)
    for row in kept:
        event = ended[row["attempt"]]
        if not event.is_own_work:
            by_miner[ids.decode("mnr", event.miner)].append(event)
    added = {
        miner: days
        for miner, attempts in sorted(
            by_miner.items()
        )  # in one order, so that two event handlers never wait in a circle
        if (days := tally((event.ended_at, event.outcome, event.fault, event.reason) for event in attempts))
    }
    if added:
        await _update_scores(connection, added)


async def _update_scores(connection: Connection, added: Mapping[UUID, Mapping[date, Tally]]) -> None:
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
    await connection.execute(SAVE_MINERS.sql, *SAVE_MINERS.arrays(miners), at)


async def _publish_changes(
    connection: Connection,
    miners: Sequence[MinerValue],
    before: Mapping[str, str],
    requests: Mapping[str, str | None],
    at: datetime,
) -> None:
    """Record status changes, and publish what matching must know."""
    offers = {row["miner"]: row["capabilities"] for row in await connection.fetch(READ_CAPABILITIES, _uuids(miners))}
    steps = [miner for miner in miners if miner.status != before[miner.id]]
    if steps:
        statuses, reasons = [miner.status for miner in steps], [miner.status_reason for miner in steps]
        await connection.execute(ADD_CHANGES, _uuids(steps), statuses, reasons, at)
    events = [miner_changed(miner, offers[ids.decode("mnr", miner.id)], at) for miner in miners]
    await publish_many(connection, "gpu", events, requests=[requests[miner.id] for miner in miners])


def _uuids(miners: Sequence[MinerValue]) -> list[UUID]:
    return [ids.decode("mnr", miner.id) for miner in miners]


def _poll_context(record: Any) -> PollContext:
    score = UNKNOWN if record["score"] is None else Score(record["score"], record["good"], record["bad"])
    return PollContext(
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
