"""The feed of receipts: what was paid, in the order of the chain, for whoever adds it up."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import UNSET, Struct, UnsetType

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids
from aitbc.modules.trading.api import SealedReceipt, WorkPaid

# A receipt has the id of its hold, which knows the key. Each half is cut at the limit: refunds are few.
FEED = """
(SELECT i.sequence, r.payer, r.miner, r.miner_account, r.body, r.price_units, r.fee_units, r.issued_at, h.key,
    false AS is_refund
FROM trading.block_items i JOIN trading.receipts r ON r.id = i.record_id JOIN trading.holds h ON h.id = r.id
WHERE i.sequence > $1 AND i.kind = 'receipt' ORDER BY i.sequence LIMIT $2)
UNION ALL
(SELECT i.sequence, r.payer, r.miner, r.miner_account, r.body, b.price_units, b.fee_units, t.created_at, h.key, true
FROM trading.refunds b JOIN trading.block_items i ON i.record_id = b.transaction_id
JOIN trading.transactions t ON t.id = b.transaction_id
JOIN trading.receipts r ON r.id = b.receipt JOIN trading.holds h ON h.id = r.id
WHERE i.sequence > $1 ORDER BY i.sequence LIMIT $2)
ORDER BY sequence LIMIT $2"""

PAID = """
SELECT i.sequence, r.*, h.amount_units AS held_units, h.fee_basis_points FROM trading.receipts r
JOIN trading.block_items i ON i.record_id = r.id JOIN trading.holds h ON h.id = r.id
WHERE r.issued_at >= $1 AND i.sequence > $2 ORDER BY i.sequence LIMIT $3"""


class _Work(Struct):
    """What the record of a receipt says of the work."""

    job: str
    kind: str
    unit: str
    units: str
    offer: str | UnsetType = UNSET


async def sealed_receipts(database: Database, after: int, limit: int) -> Sequence[SealedReceipt]:
    """Receipts in blocks and what of them went back, behind a number of the chain."""
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
                units=0 if row["is_refund"] else int(work.units),
                price_units=row["price_units"],
                fee_units=row["fee_units"],
                earned_units=row["price_units"] - row["fee_units"],
                issued_at=row["issued_at"],
                key=None if row["key"] is None else ids.encode("key", row["key"]),
                is_refund=row["is_refund"],
            )
        )
    return found


async def work_paid(database: Database, since: datetime, after: int, limit: int) -> Sequence[WorkPaid]:
    """Receipts in blocks that were issued from a time on, behind a number of the chain, with what was held for them."""
    async with database.raw() as connection:
        rows = await connection.fetch(PAID, since, after, limit)
    found = []
    for row in rows:
        work = msgspec.json.decode(row["body"], type=_Work)
        found.append(
            WorkPaid(
                sequence=row["sequence"],
                kind=work.kind,
                units=int(work.units),
                price_units=row["price_units"],
                fee_units=row["fee_units"],
                fee_basis_points=row["fee_basis_points"],
                held_units=row["held_units"],
                payer=ids.encode("acct", row["payer"]),
                miner_account=ids.encode("acct", row["miner_account"]),
                at_offer=work.offer is not UNSET,
                issued_at=row["issued_at"],
            )
        )
    return found
