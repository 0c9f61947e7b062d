"""The whole chain as a stream of lines, page by page: what the offline verifier reads."""

from collections.abc import AsyncIterator

from aitbc.kernel.crypto import chain_format
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.modules.trading.service.blocks import header_of

BLOCKS_PAGE = 200
RECORDS_PAGE = 500
HEAD = "SELECT height FROM trading.blocks ORDER BY height DESC LIMIT 1"
READ_BLOCKS = "SELECT * FROM trading.blocks WHERE height > $1 AND height <= $2 ORDER BY height LIMIT $3"
READ_BODIES = """
SELECT i.sequence, i.kind, i.record_id, i.digest, COALESCE(t.body, r.body) AS body
FROM trading.block_items i
LEFT JOIN trading.transactions t ON i.kind = 'transaction' AND t.id = i.record_id
LEFT JOIN trading.receipts r ON i.kind = 'receipt' AND r.id = i.record_id
WHERE i.sequence >= $1 AND i.sequence < $2 ORDER BY i.sequence"""


async def export(database: Database) -> AsyncIterator[bytes]:
    """The lines of an export up to the block that is the last one now, in pieces of many lines each.

    A connection is held only while a page is read, never while the reader of the stream makes us wait.
    """
    async with database.raw() as connection:
        head = await connection.fetchval(HEAD)
        genesis = await connection.fetchrow("SELECT * FROM trading.blocks WHERE height = 0")
    yield chain_format.export_start(chain_format.block_hash(header_of(genesis))) + b"\n"
    keys: set[str] = set()
    height, records, last = -1, 0, genesis
    while height < head:
        async with database.raw() as connection:
            blocks = await connection.fetch(READ_BLOCKS, height, head, BLOCKS_PAGE)
        for block in blocks:
            keys.add(block["node_key"])
            yield chain_format.export_block(header_of(block), block["signature"]) + b"\n"
            first, end = block["first_sequence"], block["first_sequence"] + block["records"]
            for start in range(first, end, RECORDS_PAGE):
                async with database.raw() as connection:
                    piece, more = await _piece(connection, start, min(start + RECORDS_PAGE, end))
                keys |= more
                yield piece
            height, records, last = block["height"], end - 1, block
    yield (
        chain_format.export_end(
            head=chain_format.block_hash(header_of(last)), height=height, records=records, keys=keys
        )
        + b"\n"
    )


async def _piece(connection: Connection, start: int, end: int) -> tuple[bytes, set[str]]:
    """Some records as lines, and the node keys that signed the receipts among them."""
    rows = await connection.fetch(READ_BODIES, start, end)
    lines = [row["body"] or "" for row in rows]
    keys = {_key_of(row["body"]) for row in rows if row["kind"] == "receipt" and row["body"]}
    return "".join(f"{line}\n" for line in lines).encode(), keys


def _key_of(receipt: str) -> str:
    """The node key of a stored receipt; its text is canonical, so the field is found without parsing all of it."""
    return receipt.partition('"node_key":"')[2].partition('"')[0]
