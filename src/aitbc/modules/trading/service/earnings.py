"""Earnings: what receipts paid, by the GPUs that did the work and by kind of work."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import JSON, cast, func, select

from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids
from aitbc.modules.trading.api import DeviceEarnings, KindPaid
from aitbc.modules.trading.models.records import ReceiptDevice
from aitbc.modules.trading.models.tables import ReceiptRow

BODY = cast(ReceiptRow.body, JSON)


async def earned_by_devices(
    database: Database, miner: str, since: datetime | None, until: datetime | None
) -> Sequence[DeviceEarnings]:
    """What a miner was paid by its receipts of a time, added up by the GPUs that were reserved for the work."""
    if not ids.is_id("mnr", miner):
        return ()
    devices = BODY.op("->>")("devices").label("devices")
    is_own = (ReceiptRow.payer == ReceiptRow.miner_account).label("is_own")
    query = select(devices, is_own, func.count(), total(ReceiptRow.earned_units)).where(ReceiptRow.miner == miner)
    if since is not None:
        query = query.where(ReceiptRow.issued_at >= since)
    if until is not None:
        query = query.where(ReceiptRow.issued_at < until)
    async with database.reading() as session:
        rows = (await session.execute(query.group_by("devices", "is_own"))).all()
    return [
        DeviceEarnings(
            devices=tuple((one.uuid_digest, one.memory_mib) for one in _devices(text)),
            is_own_work=own,
            jobs=jobs,
            earned_units=earned,
        )
        for text, own, jobs, earned in rows
    ]


async def paid_by_kind(database: Database, since: datetime, without: Sequence[str]) -> Sequence[KindPaid]:
    """What was paid for each kind of work since a time; own work and that of some payers does not count."""
    kind = BODY.op("->>")("kind").label("kind")
    query = (
        select(kind, func.count(), total(ReceiptRow.earned_units))
        .where(ReceiptRow.issued_at >= since, ReceiptRow.payer != ReceiptRow.miner_account)
        .where(ReceiptRow.payer.not_in([account for account in without if ids.is_id("acct", account)]))
    )
    async with database.reading() as session:
        rows = (await session.execute(query.group_by("kind"))).all()
    return [KindPaid(kind=kind, receipts=receipts, earned_units=earned) for kind, receipts, earned in rows]


def _devices(text: str | None) -> tuple[ReceiptDevice, ...]:
    return () if text is None else msgspec.json.decode(text, type=tuple[ReceiptDevice, ...])
