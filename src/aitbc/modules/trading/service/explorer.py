"""The explorer: accounts, statements, transactions, receipts, blocks, a search over them, and the export of the
chain."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from aitbc.kernel.crypto import chain_format
from aitbc.kernel.database.filters import Filters
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import NotFound
from aitbc.kernel.primitives.money import ASSET, render
from aitbc.modules.trading.api import HolderNotFound
from aitbc.modules.trading.models.records import ReceiptClaims, TransactionRecord, digest
from aitbc.modules.trading.models.rows import FEES, ISSUANCE, SYSTEM, account_id
from aitbc.modules.trading.models.tables import (
    AccountRow,
    BlockItemRow,
    BlockRow,
    HoldRow,
    NodeKeyRow,
    ReceiptRow,
)
from aitbc.modules.trading.models.views import (
    AccountEntry,
    AccountView,
    Block,
    BlockRecord,
    EntryView,
    Found,
    LedgerTransaction,
    NodeKey,
    Place,
    Receipt,
    ReceiptLine,
    SignedReceipt,
)
from aitbc.modules.trading.service.blocks import Blocks, block_view
from aitbc.modules.trading.service.exchange.fills import of_order
from aitbc.modules.trading.service.export import export

RECORD_PREFIX = {"transaction": "txn", "receipt": "rcpt"}
DIGITS_MAX = 18

ENTRIES = """
SELECT e.transaction_id, e.amount_units, e.balance_after_units, e.account_version, e.created_at, t.kind, t.reference, t.reason,
    e.asset
FROM trading.entries e JOIN trading.transactions t ON t.id = e.transaction_id {wanted}
ORDER BY e.account_version DESC LIMIT {limit}"""
LAST_ENTRIES = """
SELECT e.account_id, e.transaction_id, e.amount_units, e.balance_after_units, e.account_version, e.created_at,
    t.kind, t.reference, t.reason, e.asset
FROM unnest($1::uuid[]) wanted(id)
CROSS JOIN LATERAL (
    SELECT * FROM trading.entries WHERE account_id = wanted.id ORDER BY account_version DESC LIMIT $2) e
JOIN trading.transactions t ON t.id = e.transaction_id ORDER BY e.account_id, e.account_version DESC"""
TRANSACTIONS = """
SELECT t.body, i.height, i.sequence FROM trading.transactions t LEFT JOIN trading.block_items i ON i.record_id = t.id {wanted}
ORDER BY t.id DESC LIMIT {limit}"""
RECEIPTS = "SELECT body, issued_at FROM trading.receipts {wanted} ORDER BY issued_at DESC, id DESC LIMIT {limit}"


class BlockNotFound(NotFound):
    """There is no such block."""

    code = "block_not_found"


class TransactionNotFound(NotFound):
    """There is no such transaction."""

    code = "transaction_not_found"


class ReceiptNotFound(NotFound):
    """There is no such receipt; a job gets one when its result has been paid."""

    code = "receipt_not_found"


class NothingFound(NotFound):
    """Nothing here has this name: search takes a height, a hash, or an id (txn_, rcpt_, job_, hold_, acct_, mnr_)."""

    code = "nothing_found"


class Explorer:
    """Reads the ledger and the chain; changes nothing."""

    def __init__(self, database: Database, blocks: Blocks) -> None:
        self._database = database
        self._blocks = blocks

    async def account(self, who: Principal, account: str) -> AccountView:
        """An account's money; zero for one that never had any. Raises `HolderNotFound` for somebody else's."""
        if account != SYSTEM and (not ids.is_id("acct", account) or not who.owns(account)):
            raise HolderNotFound
        async with self._database.reading() as session:
            wanted = select(AccountRow).where(AccountRow.owner == account, AccountRow.asset == ASSET)
            rows = (await session.scalars(wanted)).all()
        shown = "fees" if account == SYSTEM else "main"
        rows = [row for row in rows if row.purpose == shown]
        return account_view(account, rows[0] if rows else None)

    async def accounts(self, *, limit: int, after: str | None) -> list[AccountView]:
        """Every account with money or a past, in the order of ids."""
        main = (AccountRow.purpose == "main", AccountRow.asset == ASSET)
        wanted = select(AccountRow).where(AccountRow.owner != SYSTEM, *main)
        wanted = wanted.order_by(AccountRow.id).limit(limit)
        if after is not None:
            wanted = wanted.where(AccountRow.id > ids.decode("acct", after))
        async with self._database.reading() as session:
            return [account_view(row.owner, row) for row in await session.scalars(wanted)]

    async def visible_accounts(self, who: Principal, *, limit: int) -> list[AccountView]:
        """The accounts that a caller may see, up to `limit`: its own, for an operator every one."""
        if who.is_admin:
            return await self.accounts(limit=limit, after=None)
        return [await self.account(who, who.account)]

    async def last_entries(self, accounts: Sequence[str], each: int) -> dict[str, list[AccountEntry]]:
        """Up to `each` of the newest lines in the statements of these accounts, newest first."""
        found: dict[str, list[AccountEntry]] = {account: [] for account in accounts}
        async with self._database.raw() as connection:
            rows = await connection.fetch(LAST_ENTRIES, [ids.decode("acct", account) for account in accounts], each)
        for row in rows:
            found[ids.encode("acct", row["account_id"])].append(entry_line(tuple(row)[1:]))
        return found

    async def entries(
        self, who: Principal, account: str, *, limit: int, before: int | None, asset: str = ASSET
    ) -> list[AccountEntry]:
        """An account's statement in an asset, newest first. Raises `HolderNotFound` for somebody else's."""
        if not ids.is_id("acct", account) or not who.owns(account):
            raise HolderNotFound
        wanted = Filters()
        wanted.add("e.account_id = {}", account_id(account, asset=asset))
        if before is not None:
            wanted.add("e.account_version < {}", before)
        return [entry_line(row) for row in await self._fetch(ENTRIES, wanted, limit)]

    # The chain: anybody's with a key that may read it

    async def transaction(self, transaction: str) -> LedgerTransaction:
        """One transaction with the balances before and after it. Raises `TransactionNotFound`."""
        if not ids.is_id("txn", transaction):
            raise TransactionNotFound
        wanted = Filters()
        wanted.add("t.id = {}", ids.decode("txn", transaction))
        found = await self._fetch(TRANSACTIONS, wanted, 1)
        if not found:
            raise TransactionNotFound
        return transaction_view(*found[0])

    async def transactions(
        self, *, limit: int, before: str | None, reference: str | None = None
    ) -> list[LedgerTransaction]:
        """Transactions, newest first; those of one job or hold when `reference` names it."""
        wanted = Filters()
        if reference is not None:
            async with self._database.reading() as session:
                found = await _of_hold(session, reference)
            wanted.add("t.id = ANY({}::uuid[])", [ids.decode("txn", transaction) for transaction in found])
        if before is not None:
            if not ids.is_id("txn", before):
                return []
            wanted.add("t.id < {}", ids.decode("txn", before))
        return [transaction_view(*row) for row in await self._fetch(TRANSACTIONS, wanted, limit)]

    async def receipt(self, receipt: str) -> Receipt:
        """A receipt with its proof of inclusion. Raises `ReceiptNotFound`."""
        if not ids.is_id("rcpt", receipt):
            raise ReceiptNotFound
        async with self._database.reading() as session:
            body = await session.scalar(select(ReceiptRow.body).where(ReceiptRow.id == receipt))
        if body is None:
            raise ReceiptNotFound
        proof = await self._blocks.proof(ids.decode("rcpt", receipt))
        return Receipt(receipt=msgspec.json.decode(body, type=SignedReceipt), proof=proof)

    async def receipts(
        self,
        *,
        limit: int,
        before: tuple[datetime, str] | None,
        job: str | None = None,
        payer: str | None = None,
        miner: str | None = None,
    ) -> list[ReceiptLine]:
        """Receipts, newest first: all of them, or those of a job, a payer or a miner."""
        wanted = Filters()
        for prefix, value in (("job", job), ("acct", payer), ("mnr", miner)):
            if value is not None and not ids.is_id(prefix, value):
                return []
        if job is not None:
            wanted.add("id = {}", ids.decode("job", job))
        if payer is not None:
            wanted.add("payer = {}", ids.decode("acct", payer))
        if miner is not None:
            wanted.add("miner = {}", ids.decode("mnr", miner))
        if before is not None:
            wanted.add("(issued_at, id) < ({}, {})", before[0], ids.decode("rcpt", before[1]))
        return [receipt_line(*row) for row in await self._fetch(RECEIPTS, wanted, limit)]

    async def _fetch(self, statement: str, wanted: Filters, limit: int) -> Sequence[Any]:
        text = statement.format(wanted=wanted, limit=wanted.value(limit))
        async with self._database.raw() as connection:
            return await connection.fetch(text, *wanted.values)

    async def signed_receipts(self, *, limit: int, job: str | None = None) -> list[tuple[ReceiptLine, SignedReceipt]]:
        """The newest receipts with all that they say, or that of a job."""
        query = select(ReceiptRow).order_by(ReceiptRow.issued_at.desc(), ReceiptRow.id.desc()).limit(limit)
        if job is not None:
            if not ids.is_id("job", job):
                return []
            query = query.where(ReceiptRow.id == ids.encode("rcpt", ids.decode("job", job)))
        async with self._database.reading() as session:
            rows = list(await session.scalars(query))
        return [
            (receipt_line(row.body, row.issued_at), msgspec.json.decode(row.body, type=SignedReceipt)) for row in rows
        ]

    async def receipt_count(self) -> int:
        """How many receipts there are."""
        async with self._database.reading() as session:
            return await session.scalar(select(func.count()).select_from(ReceiptRow)) or 0

    async def supply(self) -> tuple[int, int]:
        """How many units were issued, and how many of them lie with the fees."""
        wanted = select(AccountRow.id, AccountRow.balance_units).where(AccountRow.id.in_((ISSUANCE, FEES)))
        async with self._database.reading() as session:
            found = {id_: int(units) for id_, units in await session.execute(wanted)}
        return -found.get(ISSUANCE, 0), found.get(FEES, 0)

    async def height(self) -> int | None:
        """The height of the newest block; none before the first."""
        async with self._database.reading() as session:
            return await session.scalar(select(func.max(BlockRow.height)))

    async def block(self, name: str) -> Block:
        """A block by its height, its hash or `head`. Raises `BlockNotFound`."""
        query = select(BlockRow.__table__).order_by(BlockRow.height.desc()).limit(1)
        if name.isdigit() and name.isascii() and len(name) <= DIGITS_MAX:
            query = query.where(BlockRow.height == int(name))
        elif name != "head":
            try:
                query = query.where(BlockRow.hash == chain_format.read_digest(name))
            except ValueError:
                raise BlockNotFound from None
        async with self._database.reading() as session:
            row = (await session.execute(query)).mappings().one_or_none()
        if row is None:
            raise BlockNotFound
        return block_view(row)

    async def blocks(self, *, limit: int, before: int | None) -> list[Block]:
        """Blocks, newest first."""
        query = select(BlockRow.__table__).order_by(BlockRow.height.desc()).limit(limit)
        if before is not None:
            query = query.where(BlockRow.height < before)
        async with self._database.reading() as session:
            return [block_view(row) for row in (await session.execute(query)).mappings()]

    async def block_records(self, name: str, *, limit: int, after: int | None) -> list[BlockRecord]:
        """The records of a block in their order. Raises `BlockNotFound`."""
        block = await self.block(name)
        start = block.first_sequence if after is None else max(after + 1, block.first_sequence)
        query = (
            select(BlockItemRow)
            .where(BlockItemRow.sequence >= start, BlockItemRow.sequence < block.first_sequence + block.records)
            .order_by(BlockItemRow.sequence)
            .limit(limit)
        )
        async with self._database.reading() as session:
            return [
                BlockRecord(
                    sequence=item.sequence,
                    kind=item.kind,
                    id=ids.encode(RECORD_PREFIX[item.kind], item.record_id),
                    digest=chain_format.name_digest(item.digest),
                )
                for item in await session.scalars(query)
            ]

    async def keys(self) -> list[NodeKey]:
        """The node's public keys, oldest first."""
        query = select(NodeKeyRow.public_key, NodeKeyRow.first_used_at).order_by(NodeKeyRow.first_used_at)
        async with self._database.reading() as session:
            return [NodeKey(public_key=key, first_used_at=at) for key, at in await session.execute(query)]

    def export(self) -> AsyncIterator[bytes]:
        """The whole chain, for the offline verifier."""
        return export(self._database)

    async def search(self, who: Principal, wanted: str) -> Found:
        """Where a height, a hash or an id leads. Raises `NothingFound`."""
        wanted = wanted.strip()
        prefix = wanted.rpartition("_")[0]
        try:
            if wanted.startswith("sha256:") or wanted.isdigit():
                block = await self.block(wanted)
                return Found(kind="block", id=block.hash, path=f"/api/v1/trading/blocks/{block.height}")
            if prefix == "txn":
                return _lead("transaction", (await self.transaction(wanted)).id)
            if prefix == "acct":
                return _lead("address", (await self.account(who, wanted)).account, "addresses")
        except (BlockNotFound, TransactionNotFound, HolderNotFound):
            raise NothingFound from None
        if prefix in ("rcpt", "job", "hold", "book") and ids.is_id(prefix, wanted):
            return await self._search_job(prefix, wanted)
        if prefix == "mnr" and await self.receipts(limit=1, before=None, miner=wanted):
            return Found(kind="miner", id=wanted, path=f"/api/v1/trading/receipts?miner={wanted}")
        raise NothingFound

    async def _search_job(self, prefix: str, wanted: str) -> Found:
        """A job's receipt, hold and transactions have its UUID in common; so have a booking's."""
        shared = ids.decode(prefix, wanted)
        receipt = ids.encode("rcpt", shared)
        async with self._database.reading() as session:
            if await session.scalar(select(ReceiptRow.id).where(ReceiptRow.id == receipt)):
                return _lead("receipt", receipt)
            held = select(HoldRow.reference).where(HoldRow.id == ids.encode("hold", shared))
            reference = await session.scalar(held)
        if prefix == "rcpt" or reference is None:
            raise NothingFound
        return Found(kind="hold", id=wanted, path=f"/api/v1/trading/transactions?reference={wanted}")


async def _of_hold(session: AsyncSession, reference: str) -> Sequence[str]:
    """The transactions of a hold, by its id or that of its job or booking; or those of an order."""
    prefix = reference.rpartition("_")[0]
    if ids.is_id("ordr", reference):
        return await of_order(session, reference)
    if prefix not in ("job", "hold", "rcpt", "book") or not ids.is_id(prefix, reference):
        return []
    hold = ids.encode("hold", ids.decode(prefix, reference))
    row = (await session.execute(select(HoldRow.placed_by, HoldRow.ended_by).where(HoldRow.id == hold))).one_or_none()
    return [] if row is None else [transaction for transaction in row if transaction is not None]


def _lead(kind: str, id_: str, noun: str | None = None) -> Found:
    return Found(kind=kind, id=id_, path=f"/api/v1/trading/{noun or kind + 's'}/{id_}")


def _place(height: int | None, sequence: int | None) -> Place | None:
    return None if height is None or sequence is None else Place(height=height, sequence=sequence)


def account_view(owner: str, row: AccountRow | None) -> AccountView:
    """What callers see of an account."""
    available, held = (0, 0) if row is None else (row.balance_units, row.held_units)
    return AccountView(
        account=owner,
        available=render(available),
        held=render(held),
        owned=render(available + held),
        earned=render(0 if row is None else row.earned_units),
        spent=render(0 if row is None else row.spent_units),
        entries=0 if row is None else row.version,
    )


def entry_line(row: Any) -> AccountEntry:
    """What callers see of an entry in a statement."""
    transaction, amount_units, after_units, version, at, kind, reference, reason, asset = row
    return AccountEntry(
        transaction=ids.encode("txn", transaction),
        kind=kind,
        reference=reference,
        reason=reason,
        amount=render(amount_units),
        before=render(after_units - amount_units),
        after=render(after_units),
        version=version,
        at=at,
        asset=asset or UNSET,
    )


def transaction_view(body: str, height: int | None, sequence: int | None) -> LedgerTransaction:
    """What callers see of a transaction: nothing but its record says, and where in the chain it is."""
    record = msgspec.json.decode(body, type=TransactionRecord)
    settled = record.kind == "settle" and record.hold is not None
    return LedgerTransaction(
        id=record.id,
        kind=record.kind,
        hold=record.hold,
        reference=record.reference,
        reason=record.reason,
        at=datetime.fromisoformat(record.at),
        entries=tuple(
            EntryView(
                account=entry.account,
                amount=entry.amount,
                before=render(chain_format.read_units(entry.balance) - chain_format.read_units(entry.amount)),
                after=entry.balance,
                version=entry.version,
                asset=entry.asset,
            )
            for entry in record.entries
        ),
        digest=chain_format.name_digest(digest(body.encode())),
        receipt=ids.encode("rcpt", ids.decode("hold", record.hold)) if settled and record.hold else None,
        sealed=_place(height, sequence),
    )


def receipt_line(body: str, issued_at: datetime) -> ReceiptLine:
    """What callers see of a receipt in a list."""
    claims = msgspec.json.decode(body, type=ReceiptClaims)
    return ReceiptLine(
        id=claims.id,
        job=claims.job,
        kind=claims.kind,
        payer=claims.payer,
        miner=claims.miner,
        miner_account=claims.miner_account,
        price=claims.price,
        fee=claims.fee,
        earned=claims.earned,
        issued_at=issued_at,
        transaction=claims.transaction,
    )
