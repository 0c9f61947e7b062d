"""Blocks: sealed over the records of the ledger, each with the hash of the one before; and proofs of inclusion."""

import asyncio
from contextlib import suppress
from typing import Any
from uuid import UUID

import asyncpg

from aitbc.kernel.crypto import chain_format
from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.database.retry import retry
from aitbc.kernel.database.sql_errors import ConstraintViolated
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.primitives.clock import now
from aitbc.modules.trading.models.records import stamp
from aitbc.modules.trading.models.views import Block, BlockHeader, InclusionProof

RECORDS_PER_BLOCK_MAX = 10_000
THREAD_FROM = 256
"""A tree of fewer leaves is built at once: handing it to a thread would cost more."""

LOCK = "SELECT pg_advisory_xact_lock(1651270507)"
"""Held while a block is sealed: a second sealer waits, and then finds what the first one left."""
LAST_BLOCK = "SELECT * FROM trading.blocks ORDER BY height DESC LIMIT 1"
READ_UNSEALED = "SELECT id, digest FROM trading.unsealed ORDER BY id LIMIT $1"
ADD_BLOCK = """
INSERT INTO trading.blocks
    (height, hash, previous, merkle_root, first_sequence, records, sealed_at, node_key, signature)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"""
# A record leaves the queue and takes its place in the chain in one statement; the order of its numbers stays.
SEAL = """
WITH sealed AS (DELETE FROM trading.unsealed WHERE id = ANY($1::bigint[]) RETURNING id, kind, record_id, digest)
INSERT INTO trading.block_items (sequence, height, kind, record_id, digest)
SELECT $2::bigint - 1 + row_number() OVER (ORDER BY id), $3, kind, record_id, digest FROM sealed"""
FIND_ITEM = """
SELECT i.sequence, i.digest, b.* FROM trading.block_items i JOIN trading.blocks b USING (height)
WHERE i.record_id = $1"""
READ_DIGESTS = """
SELECT digest FROM trading.block_items WHERE sequence >= $1 AND sequence < $2 ORDER BY sequence"""
ADD_KEY = """
INSERT INTO trading.node_keys (public_key, first_used_at) VALUES ($1, $2) ON CONFLICT DO NOTHING"""


class Blocks:
    """Seals records into blocks, one sealer at a time."""

    def __init__(self, database: Database, key: Key) -> None:
        self._database = database
        self._key = key

    async def start(self) -> None:
        """Make the first block, if this is the first start, and store the public key that signs."""
        await retry(self._begin)

    async def _begin(self) -> None:
        async with self._database.raw_transaction() as connection:
            await connection.execute(ADD_KEY, self._key.public, now())
        with suppress(ConstraintViolated):  # of two first starts at once, the other made it
            async with self._database.raw_transaction() as connection:
                if await connection.fetchrow(LAST_BLOCK) is None:
                    await self._add_block(connection, None, [])

    async def seal(self) -> int:
        """Seal everything that waits; returns how many records were sealed."""
        if not await self._database.is_any("trading.unsealed"):
            return 0
        sealed = 0
        while True:
            count = await self._seal_one()
            sealed += count
            if count < RECORDS_PER_BLOCK_MAX:
                return sealed

    async def _seal_one(self) -> int:
        async with self._database.raw_transaction() as connection:
            await connection.execute(LOCK)
            waiting = await connection.fetch(READ_UNSEALED, RECORDS_PER_BLOCK_MAX)
            if not waiting:
                return 0
            last = await connection.fetchrow(LAST_BLOCK)
            assert last is not None, "the first block is made at the first start"
            first = last["first_sequence"] + last["records"]
            height = await self._add_block(connection, last, [row["digest"] for row in waiting])
            sealed = await connection.execute(SEAL, [row["id"] for row in waiting], first, height)
            assert sealed == f"INSERT 0 {len(waiting)}", "a record left the queue while it was being sealed"
        return len(waiting)

    async def _add_block(self, connection: Connection, last: asyncpg.Record | None, digests: list[bytes]) -> int:
        if len(digests) >= THREAD_FROM:
            root = await asyncio.to_thread(chain_format.merkle_root, digests)
        else:
            root = chain_format.merkle_root(digests)
        at = now() if last is None else max(now(), last["sealed_at"])
        header = chain_format.block_header(
            height=0 if last is None else last["height"] + 1,
            previous=None if last is None else chain_format.name_digest(last["hash"]),
            time=stamp(at),
            merkle_root=root,
            first_sequence=1 if last is None else last["first_sequence"] + last["records"],
            records=len(digests),
            node_key=self._key.public,
        )
        signature = self._key.sign(chain_format.canonical(header))
        hash_ = chain_format.read_digest(chain_format.block_hash(header))
        previous = None if last is None else last["hash"]
        numbers = (header["first_sequence"], len(digests))
        await connection.execute(
            ADD_BLOCK, header["height"], hash_, previous, root, *numbers, at, self._key.public, signature
        )
        return int(header["height"])

    async def proof(self, record_id: UUID) -> InclusionProof | None:
        """The inclusion proof of a record; none while it waits to be sealed."""
        async with self._database.raw() as connection:
            item = await connection.fetchrow(FIND_ITEM, record_id)
            if item is None:
                return None
            first = item["first_sequence"]
            rows = await connection.fetch(READ_DIGESTS, first, first + item["records"])
        index = item["sequence"] - first
        path = await asyncio.to_thread(chain_format.merkle_path, [row["digest"] for row in rows], index)
        block = block_view(item)
        return InclusionProof(
            block=BlockHeader(**header_of(item)),
            hash=block.hash,
            signature=block.signature,
            index=index,
            path=tuple(chain_format.name_digest(step) for step in path),
        )


def header_of(row: Any) -> dict[str, Any]:
    """The header of a stored block, rebuilt from its row."""
    return chain_format.block_header(
        height=row["height"],
        previous=None if row["previous"] is None else chain_format.name_digest(row["previous"]),
        time=stamp(row["sealed_at"]),
        merkle_root=row["merkle_root"],
        first_sequence=row["first_sequence"],
        records=row["records"],
        node_key=row["node_key"],
    )


def block_view(row: Any) -> Block:
    """What callers see of a stored block."""
    header = header_of(row)
    del header["version"]
    return Block(**header, hash=chain_format.name_digest(row["hash"]), signature=row["signature"])
