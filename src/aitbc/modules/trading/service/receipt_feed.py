"""The feed of receipts: what was paid, in the order of the chain, for whoever adds it up."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import UNSET, Struct, UnsetType

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids
from aitbc.modules.trading.api import SealedReceipt, WorkPaid

FEED = """
SELECT i.sequence, r.* FROM trading.block_items i JOIN trading.receipts r ON r.id = i.record_id
WHERE i.sequence > $1 AND i.kind = 'receipt' ORDER BY i.sequence LIMIT $2"""

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
