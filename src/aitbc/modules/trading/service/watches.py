"""Watches: made and removed by accounts, and looked at again and again beside the ledger, which does not know them."""

from collections.abc import Sequence
from datetime import datetime

import structlog
from msgspec import Struct
from sqlalchemy import ColumnElement, func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, NotFound, TooMany
from aitbc.kernel.primitives.money import render
from aitbc.modules.trading.events import WatchedMoved
from aitbc.modules.trading.models.tables import AccountRow, BlockItemRow, EntryRow, ReceiptRow, TransactionRow
from aitbc.modules.trading.models.watches import AddressWatch, WatchRow, watch_view

WATCHES_MAX = 50
PAGE = 200
PER_ROUND = 100
"""So many entries of a watched address are looked at in one round; the rest in the next."""

log = structlog.get_logger("aitbc.trading")


class WatchNotFound(NotFound):
    """There is no such watch, or it is another account's."""

    code = "watch_not_found"


class TooManyWatches(TooMany):
    """An account has at most 50 watches; remove some."""

    code = "too_many_watches"


class MakeWatch(Struct, frozen=True, kw_only=True):
    """Somebody wants to be told."""

    address: str
    asset: str
    above_units: int
    label: str | None = None


class Moved(Struct, frozen=True):
    """Something that moved: by which transaction, how much and when."""

    number: int
    transaction: str
    kind: str
    amount_units: int
    at: datetime


class Watches:
    """Makes, removes and shows watches, and tells what they are for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retrying
    async def make(self, who: Principal, command: MakeWatch, once: IdempotencyKey) -> AddressWatch:
        """Tell the caller's webhooks of what moves from now on. Raises `TooManyWatches`."""
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, AddressWatch)) is not None:
                return earlier
            mine = (WatchRow.account == who.account, WatchRow.ended_at.is_(None))
            if (await uow.session.scalar(select(func.count()).select_from(WatchRow).where(*mine)) or 0) >= WATCHES_MAX:
                raise TooManyWatches
            row = WatchRow(
                id=ids.new_id("wtch"),
                account=who.account,
                subject="miner" if command.address.startswith("mnr_") else "account",
                address=command.address,
                asset=command.asset,
                above_units=command.above_units,
                label=command.label,
                seen=0,
                told=0,
                created_at=now(),
                ended_at=None,
            )
            row.seen = await _edge(uow, row)
            uow.add(row)
            await uow.audit(who.account, who.key, "watch.make", row.id, address=command.address)
            return await uow.answer(once, watch_view(row))

    @retrying
    async def remove(self, who: Principal, watch: str) -> AddressWatch:
        """Tell of it no more; again changes nothing. Raises `WatchNotFound`."""
        async with self._database.unit_of_work() as uow:
            row = await uow.find(WatchRow, watch, lock=True, missing=WatchNotFound)
            if row.account != who.account:
                raise WatchNotFound
            if row.ended_at is None:
                row.ended_at = now()
                await uow.audit(who.account, who.key, "watch.remove", row.id)
            return watch_view(row)

    async def one(self, who: Principal, watch: str) -> AddressWatch:
        """A watch of the caller's, also one that was removed. Raises `WatchNotFound`."""
        async with self._database.unit_of_work() as uow:
            row = await uow.find(WatchRow, watch, missing=WatchNotFound)
            if not who.owns(row.account):
                raise WatchNotFound
            return watch_view(row)

    async def page(self, who: Principal, *, limit: int, after: str | None) -> Sequence[AddressWatch]:
        """The caller's watches, in the order in which they were made."""
        wanted = select(WatchRow).where(WatchRow.account == who.account, WatchRow.ended_at.is_(None))
        if after is not None:
            wanted = wanted.where(WatchRow.id > after)
        async with self._database.reading() as session:
            return [watch_view(row) for row in await session.scalars(wanted.order_by(WatchRow.id).limit(limit))]

    async def look(self) -> None:
        """Look at every watched address once, and tell what moved since the last time."""
        edge = f"wtch_{'0' * 26}"
        while True:
            wanted = select(WatchRow.id).where(WatchRow.ended_at.is_(None), WatchRow.id > edge)
            async with self._database.reading() as session:
                page = (await session.scalars(wanted.order_by(WatchRow.id).limit(PAGE))).all()
            for watch in page:
                try:
                    await self._look(watch)
                except AppError as error:  # the next round tries again
                    log.warning("watch_waits", watch=watch, reason=error.message)
            if len(page) < PAGE:
                return
            edge = page[-1]

    @retrying
    async def _look(self, watch: str) -> None:
        async with self._database.unit_of_work() as uow:
            row = await uow.find(WatchRow, watch, lock=True, missing=WatchNotFound)
            if row.ended_at is not None:
                return
            edge = await _edge(uow, row)
            found = await _since(uow, row, edge)
            for moved in found:
                row.seen = moved.number
                if abs(moved.amount_units) >= row.above_units:
                    row.told += 1
                    uow.publish(_told(row, moved))
            if len(found) < PER_ROUND:
                row.seen = edge


async def _edge(uow: UnitOfWork, row: WatchRow) -> int:
    """How far there is anything to look at now."""
    if row.subject == "miner":
        return (await uow.session.scalar(select(func.max(BlockItemRow.sequence)))) or 0
    return (await uow.session.scalar(select(func.max(AccountRow.version)).where(*_main(row)))) or 0


def _main(row: WatchRow) -> tuple[ColumnElement[bool], ...]:
    return (AccountRow.owner == row.address, AccountRow.purpose == "main", AccountRow.asset == row.asset)


async def _since(uow: UnitOfWork, row: WatchRow, edge: int) -> list[Moved]:
    """What moved since the last look, up to an edge, the oldest first."""
    if row.subject == "miner":
        wanted = (
            select(
                BlockItemRow.sequence,
                ReceiptRow.transaction_id,
                TransactionRow.kind,
                ReceiptRow.earned_units,
                ReceiptRow.issued_at,
            )
            .join(BlockItemRow, BlockItemRow.record_id == ReceiptRow.id)
            .join(TransactionRow, TransactionRow.id == ReceiptRow.transaction_id)
            .where(ReceiptRow.miner == row.address, BlockItemRow.sequence > row.seen, BlockItemRow.sequence <= edge)
            .order_by(BlockItemRow.sequence)
        )
    else:
        wanted = (
            select(
                EntryRow.account_version,
                EntryRow.transaction_id,
                TransactionRow.kind,
                EntryRow.amount_units,
                EntryRow.created_at,
            )
            .join(AccountRow, AccountRow.id == EntryRow.account_id)
            .join(TransactionRow, TransactionRow.id == EntryRow.transaction_id)
            .where(*_main(row), EntryRow.account_version > row.seen, EntryRow.account_version <= edge)
            .order_by(EntryRow.account_version)
        )
    return [Moved(*found) for found in await uow.session.execute(wanted.limit(PER_ROUND))]


def _told(row: WatchRow, moved: Moved) -> WatchedMoved:
    return WatchedMoved(
        watch=row.id,
        account=row.account,
        address=row.address,
        label=row.label,
        transaction=moved.transaction,
        transaction_kind=moved.kind,
        amount=render(moved.amount_units),
        asset=row.asset,
        at=moved.at,
    )
