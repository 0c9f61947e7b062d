"""The feed of receipts: what was paid, in the order of the chain, for whoever adds it up."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids
from aitbc.modules.trading.api import SealedReceipt

FEED = """
SELECT i.sequence, r.* FROM trading.block_items i JOIN trading.receipts r ON r.id = i.record_id
WHERE i.sequence > $1 AND i.kind = 'receipt' ORDER BY i.sequence LIMIT $2"""


class _Work(Struct):
    """What the record of a receipt says of the work."""

    job: str
    kind: str
    unit: str
    units: str


async def sealed_receipts(database: Database, after: int, limit: int) -> Sequence[SealedReceipt]:
    """Receipts in blocks, behind a number of the chain."""
    async with database.raw() as connection:
        rows = await connection.fetch(FEED, after, limit)
    found = []
    for row in rows:
        work = msgspec.json.decode(row["body"], type=_Work)
        found.append(
            SealedReceipt(
                sequence=row["sequence"],
                job=work.job,
                payer=ids.encode("acct", row["payer"]),
                miner=ids.encode("mnr", row["miner"]),
                miner_account=ids.encode("acct", row["miner_account"]),
                kind=work.kind,
                unit=work.unit,
                units=int(work.units),
                price_units=row["price_units"],
                fee_units=row["fee_units"],
                earned_units=row["earned_units"],
                issued_at=row["issued_at"],
            )
        )
    return found
