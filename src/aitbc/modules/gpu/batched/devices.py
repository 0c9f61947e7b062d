"""The GPUs that miners show with their heartbeats: recorded where they differ, and each given to one account."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from aitbc.kernel.database.unit_of_work import Connection
from aitbc.kernel.primitives import ids
from aitbc.modules.gpu.api import Inventory
from aitbc.modules.gpu.models.devices import (
    LAPSES,
    Measured,
    ShownGpu,
    believed,
    digest_of,
    leasable_of,
    leasable_text,
    lesser_of,
    shown_gpus,
    words_of,
)
from aitbc.modules.gpu.models.life import ALIVE, Status
from aitbc.modules.gpu.models.offer import capabilities_of
from aitbc.modules.gpu.models.values import Heartbeat, MinerValue

BLOCKED = "its GPU {uuid} is another account's: remove that one's miner, or leave it off for a day"

ELSEWHERE = "another miner of its owner's has it for lease"
"""Why a GPU rests that two miners of one account show, as two on one machine do: one of them alone leases it."""

BROKEN = "the GPU that is booked has a fault, and its time is not paid until it works again"

READ_PROFILES = """
SELECT p.miner, p.capabilities, p.shown, p.devices, coalesce(m.readings, p.inventory) AS inventory
FROM gpu.profiles p JOIN gpu.miners m ON m.id = p.miner WHERE p.miner = ANY($1::uuid[])"""

REMOVE_DEVICES = "DELETE FROM gpu.devices WHERE miner = ANY($1::uuid[])"

READ_MEASURED = "SELECT miner, uuid, name FROM gpu.device_facts WHERE miner = ANY($1::uuid[]) AND source = 'measured'"

ADD_DEVICES = """
INSERT INTO gpu.devices (miner, place, uuid, words, lesser, memory_mib, fault)
SELECT miner, place, uuid, string_to_array(words, ' '), string_to_array(lesser, ' '), memory_mib, fault
FROM unnest($1::uuid[], $2::int2[], $3::text[], $4::text[], $5::text[], $6::int8[], $7::text[])
    AS v(miner, place, uuid, words, lesser, memory_mib, fault)"""

SAVE_SHOWN = """
UPDATE gpu.profiles p SET shown = v.shown, devices = v.devices
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS v(miner, shown, devices)
WHERE p.miner = v.miner AND (p.shown, p.devices) IS DISTINCT FROM (v.shown, v.devices)"""

# The first to show a GPU has it. Also one that is there is locked, in the order of uuids, so that of two accounts that
# show it at once the second sees in the next statement what the first has committed.
LOCK_OWNERS = """
INSERT INTO gpu.device_owners AS o (uuid, account, since)
SELECT uuid, account, $3 FROM unnest($1::text[], $2::uuid[]) AS v(uuid, account) ORDER BY uuid
ON CONFLICT (uuid) DO UPDATE SET account = o.account WHERE false"""

# An owner whose miners are all removed or gone for long has it no more.
REPLACE_OWNERS = """
UPDATE gpu.device_owners o SET account = v.account, since = $3
FROM unnest($1::text[], $2::uuid[]) AS v(uuid, account)
WHERE o.uuid = v.uuid AND o.account <> v.account AND NOT EXISTS (
    SELECT FROM gpu.devices d JOIN gpu.miners m ON m.id = d.miner
    WHERE d.uuid = o.uuid AND m.account = o.account AND m.status <> 'removed' AND m.seen_at > $4)"""

# The GPUs of these that another live miner has for lease now.
READ_LEASED_ELSEWHERE = """
SELECT d.uuid, m.account FROM gpu.devices d JOIN gpu.miners m ON m.id = d.miner JOIN gpu.profiles p ON p.miner = d.miner
WHERE d.uuid = ANY($1::text[]) AND m.status = ANY($2::text[]) AND d.miner <> ALL($3::uuid[]) AND EXISTS (
    SELECT FROM json_array_elements(p.devices::json) AS one WHERE one->>'uuid' = d.uuid AND one->>'rests' IS NULL)"""

READ_OWNERS = "SELECT uuid, account FROM gpu.device_owners WHERE uuid = ANY($1::text[])"

# Of these bookings those whose GPU works no more, in miners of which a GPU has a fault.
READ_BROKEN = """
SELECT b.miner FROM gpu.bookings b JOIN gpu.listed_gpus l ON l.id = b.gpu
WHERE b.id = ANY($1::uuid[])
    AND EXISTS (SELECT FROM gpu.devices d WHERE d.miner = b.miner AND d.fault IS NOT NULL)
    AND NOT EXISTS (
        SELECT FROM gpu.devices d
        WHERE d.miner = b.miner AND d.fault IS NULL AND l.words <@ d.words AND d.lesser <@ l.words)"""


async def record_devices(
    connection: Connection, miners: Mapping[str, MinerValue], heartbeats: Sequence[Heartbeat], at: datetime
) -> set[str]:
    """Record the GPUs of miners that show others than before, that come back, or that are blocked because of them.

    Nearly always that is none of them. Answers the miners whose offer is now believed to another extent.
    """
    sent: dict[str, tuple[ShownGpu, ...] | None] = {}
    for heartbeat in heartbeats:
        miner = miners.get(heartbeat.miner)
        if miner is not None and miner.status != Status.REMOVED and _is_due(miner, heartbeat.gpus):
            sent[miner.id] = sent.get(miner.id) if heartbeat.gpus is None else heartbeat.gpus
    if not sent:
        return set()
    due = [miners[miner] for miner in sorted(sent)]
    profiles = {row["miner"]: row for row in await connection.fetch(READ_PROFILES, [_uuid(one) for one in due])}
    shown: dict[str, Sequence[ShownGpu]] = {}
    for miner in due:
        gpus = sent[miner.id]
        if gpus is None:
            gpus = shown_gpus(msgspec.json.decode(profiles[_uuid(miner)]["inventory"], type=Inventory))
        shown[miner.id] = gpus
    measured: dict[UUID, set[tuple[str, str | None]]] = defaultdict(set)
    for row in await connection.fetch(READ_MEASURED, [_uuid(one) for one in due]):
        measured[row["miner"]].add((row["uuid"], row["name"]))
    owners = await _claim(connection, due, shown, at)
    told, resting = shown, await _leased_elsewhere(connection, due, shown, profiles)
    shown = {miner: _rested(gpus, resting[miner]) for miner, gpus in told.items()}
    await _save_devices(connection, due, shown, measured)
    broken = await _broken(connection, due)
    changed = set()
    for miner in due:
        foreign = [gpu.uuid for gpu in shown[miner.id] if gpu.uuid and owners[gpu.uuid] != miner.account]
        miner.blocked_reason = BLOCKED.format(uuid=foreign[0]) if foreign else broken.get(_uuid(miner))
        miner.devices = None if resting[miner.id] else digest_of(told[miner.id])
        kept = profiles[_uuid(miner)]
        offer, proved = kept["capabilities"], measured[_uuid(miner)]
        if kept["devices"] != leasable_text(shown[miner.id], proved) or (
            capabilities_of(offer, kept["shown"]) != capabilities_of(offer, believed(shown[miner.id], proved))
        ):
            changed.add(miner.id)
    return changed


async def _leased_elsewhere(
    connection: Connection,
    miners: Sequence[MinerValue],
    shown: Mapping[str, Sequence[ShownGpu]],
    profiles: Mapping[UUID, Any],
) -> dict[str, set[str]]:
    """The GPUs of each miner that another of the same account has for lease; the owner of each is locked.

    Who has one for lease keeps it while it lives and shows it fit for work.
    """
    uuids = sorted({gpu.uuid for gpus in shown.values() for gpu in gpus if gpu.uuid})
    due = [_uuid(miner) for miner in miners]
    rows = await connection.fetch(READ_LEASED_ELSEWHERE, uuids, sorted(ALIVE), due) if uuids else []
    taken = {(ids.encode("acct", row["account"]), row["uuid"]) for row in rows}
    held = {miner.id: _leased_by(miner, profiles[_uuid(miner)]["devices"]) for miner in miners}
    resting: dict[str, set[str]] = {miner.id: set() for miner in miners}
    for miner in sorted(miners, key=lambda one: (not held[one.id], one.id)):
        fit = {gpu.uuid for gpu in shown[miner.id] if gpu.uuid and gpu.fault is None and gpu.rests is None}
        resting[miner.id] = {uuid for uuid in fit if (miner.account, uuid) in taken}
        taken |= {(miner.account, uuid) for uuid in fit}
    return resting


def _leased_by(miner: MinerValue, devices: str | None) -> set[str]:
    """The GPUs that a live miner has for lease up to now."""
    if miner.status not in ALIVE:
        return set()
    return {device["uuid"] for device in leasable_of(devices) if device.get("rests") is None}


def _rested(gpus: Sequence[ShownGpu], resting: set[str]) -> Sequence[ShownGpu]:
    return tuple(msgspec.structs.replace(gpu, rests=ELSEWHERE) if gpu.uuid in resting else gpu for gpu in gpus)


async def _broken(connection: Connection, miners: Sequence[MinerValue]) -> dict[UUID, str]:
    """Those of the miners that are booked for a GPU which has a fault now."""
    booked = [ids.decode("book", miner.booking) for miner in miners if miner.booking is not None]
    rows = await connection.fetch(READ_BROKEN, booked) if booked else []
    return {row["miner"]: BROKEN for row in rows}


def _is_due(miner: MinerValue, gpus: Sequence[ShownGpu] | None) -> bool:
    if miner.devices is None or miner.blocked_reason is not None or miner.status not in ALIVE:
        return True
    return gpus is not None and digest_of(gpus) != miner.devices


async def _save_devices(
    connection: Connection,
    miners: Sequence[MinerValue],
    shown: Mapping[str, Sequence[ShownGpu]],
    measured: Mapping[UUID, Measured],
) -> None:
    """Keep the GPUs of these miners instead of those before, and what is believed by them."""
    uuids = [_uuid(miner) for miner in miners]
    await connection.execute(REMOVE_DEVICES, uuids)
    rows = [(_uuid(miner), place, gpu) for miner in miners for place, gpu in enumerate(shown[miner.id])]
    if rows:
        words = [words_of(gpu.name) for *_, gpu in rows]
        await connection.execute(
            ADD_DEVICES,
            [miner for miner, *_ in rows],
            [place for _, place, _ in rows],
            [gpu.uuid for *_, gpu in rows],
            [" ".join(some) for some in words],
            [" ".join(lesser_of(some)) for some in words],
            [gpu.memory_mib for *_, gpu in rows],
            [gpu.fault for *_, gpu in rows],
        )
    beliefs = [believed(shown[miner.id], measured[_uuid(miner)]) for miner in miners]
    leasable = [leasable_text(shown[miner.id], measured[_uuid(miner)]) for miner in miners]
    await connection.execute(SAVE_SHOWN, uuids, beliefs, leasable)


async def _claim(
    connection: Connection, miners: Sequence[MinerValue], shown: Mapping[str, Sequence[ShownGpu]], at: datetime
) -> dict[str, str]:
    """Give each GPU that is nobody's to the first of these miners that shows it; answers whose all of them are."""
    first: dict[str, str] = {}
    for miner in miners:
        for gpu in shown[miner.id]:
            if gpu.uuid:
                first.setdefault(gpu.uuid, miner.account)
    if not first:
        return {}
    uuids, accounts = list(first), [ids.decode("acct", account) for account in first.values()]
    await connection.execute(LOCK_OWNERS, uuids, accounts, at)
    await connection.execute(REPLACE_OWNERS, uuids, accounts, at, at - LAPSES)
    return {row["uuid"]: ids.encode("acct", row["account"]) for row in await connection.fetch(READ_OWNERS, uuids)}


def _uuid(miner: MinerValue) -> UUID:
    return ids.decode("mnr", miner.id)
