"""Heartbeats of many miners in one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from aitbc.kernel.database.bulk import BulkTable
from aitbc.kernel.database.outbox import publish_many
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.gpu.api import MinerNotFound
from aitbc.modules.gpu.batched.devices import record_devices
from aitbc.modules.gpu.models.bookings import count_time
from aitbc.modules.gpu.models.life import Status, apply_heartbeat, takes_work
from aitbc.modules.gpu.models.tables import MinerRow
from aitbc.modules.gpu.models.values import BookedTimeValue, Heartbeat, MinerStatus, MinerValue
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

READ_CAPABILITIES = "SELECT miner, capabilities, shown, devices FROM gpu.profiles WHERE miner = ANY($1::uuid[])"

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
        other = await record_devices(connection, miners, heartbeats, at)
        changed = [
            heartbeat.miner
            for heartbeat in heartbeats
            if heartbeat.miner in miners and update_miner(miners[heartbeat.miner], heartbeat)
        ]
        changed += renumber(miners[miner] for miner in other.difference(changed))
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
    return MinerStatus(miner.status, miner.status_reason, miner.stopping_since, miner.booking)


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


def renumber(miners: Iterable[MinerValue]) -> list[str]:
    """Give a new version to miners whose GPUs changed and nothing else did; answers which."""
    changed = []
    for miner in miners:
        miner.version += 1
        changed.append(miner.id)
    return changed


def update_miner(miner: MinerValue, heartbeat: Heartbeat) -> bool:
    """Apply a heartbeat; whether that changed anything that others must know."""
    miner.slots_busy = miner.slots_busy if heartbeat.slots_busy is None else heartbeat.slots_busy
    miner.readings = heartbeat.readings or miner.readings
    slots = miner.slots if heartbeat.slots is None else heartbeat.slots
    return apply_heartbeat(miner, slots=slots, pause=heartbeat.pause, leaving=heartbeat.leaving)


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
    offers = {row["miner"]: row for row in await connection.fetch(READ_CAPABILITIES, _uuids(miners))}
    steps = [miner for miner in miners if miner.status != before[miner.id]]
    if steps:
        statuses, reasons = [miner.status for miner in steps], [miner.status_reason for miner in steps]
        await connection.execute(ADD_CHANGES, _uuids(steps), statuses, reasons, at)
    kept = [offers[ids.decode("mnr", miner.id)] for miner in miners]
    events = [
        miner_changed(miner, row["capabilities"], row["shown"], row["devices"], at)
        for miner, row in zip(miners, kept, strict=True)
    ]
    await publish_many(connection, "gpu", events, requests=[requests[miner.id] for miner in miners])


def _uuids(miners: Sequence[MinerValue]) -> list[UUID]:
    return [ids.decode("mnr", miner.id) for miner in miners]
