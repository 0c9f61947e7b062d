"""What is left of the GPUs of miners that ask for work, locked until the claims of their batch are written."""

from collections import defaultdict
from collections.abc import Collection
from typing import Any
from uuid import UUID

from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.primitives import ids
from aitbc.modules.ai.models.devices import Reserved, Room, devices_of, reserved_of

# In the order of ids, and before any job is locked: two batches with claims of the same miners wait for each other here
# and nowhere else. Whoever comes second then sees what the first has reserved.
LOCK_DEVICES = """
SELECT id, devices FROM ai.miners WHERE id = ANY($1::uuid[]) AND devices IS NOT NULL ORDER BY id FOR NO KEY UPDATE"""

READ_DEVICES = "SELECT id, devices FROM ai.miners WHERE id = ANY($1::uuid[]) AND devices IS NOT NULL"

READ_RESERVED = """
SELECT miner, devices FROM ai.attempts WHERE ended IS NULL AND miner = ANY($1::uuid[]) AND devices IS NOT NULL"""


async def lock_rooms(connection: Connection, miners: Collection[str]) -> dict[str, Room]:
    """What is left of the GPUs of these miners, each locked; miners that name none are not in it."""
    rows = await connection.fetch(LOCK_DEVICES, _uuids(miners))
    return await _rooms(connection, {row["id"]: row["devices"] for row in rows})


async def read_rooms(database: Database, miners: Collection[str]) -> dict[str, Room]:
    """What is left now of the GPUs of these miners; it may be gone when it is asked for."""
    async with database.raw() as connection:
        rows = await connection.fetch(READ_DEVICES, _uuids(miners))
        return await _rooms(connection, {row["id"]: row["devices"] for row in rows})


async def _rooms(connection: Connection, devices: dict[UUID, str]) -> dict[str, Room]:
    reserved: dict[UUID, list[Reserved]] = defaultdict(list)
    for row in await connection.fetch(READ_RESERVED, list(devices)) if devices else ():
        reserved[row["miner"]] += reserved_of(row["devices"])
    return {ids.encode("mnr", miner): Room(devices_of(text), reserved[miner]) for miner, text in devices.items()}


def _uuids(miners: Collection[str]) -> list[Any]:
    return [ids.decode("mnr", miner) for miner in miners]
