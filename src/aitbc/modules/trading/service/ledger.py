"""The ordinary way to move money: a visible unit of work over the rules of models/book.py."""

from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec
from sqlalchemy import insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.database.retry import retry
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.trading.api import Hold, HoldNotFound, HoldNotOpen, PayRent, PlaceHold, Rent, SettleHold, Settlement
from aitbc.modules.trading.models.book import ESCROW, FEES, Account, Book, HeldMoney, Issued, found_receipt, rent_of
from aitbc.modules.trading.models.records import TransactionRecord
from aitbc.modules.trading.models.tables import (
    AccountRow,
    EntryRow,
    HoldRow,
    ReceiptRow,
    TransactionRow,
    UnsealedRow,
)
from aitbc.modules.trading.service.fees import Fees

HOLD_FIELDS = tuple(HeldMoney.__dataclass_fields__)


class Ledger:
    """Moves money, one command in one transaction."""

    def __init__(self, database: Database, key: Key, fees: Fees) -> None:
        self._database = database
        self._key = key
        self._fees = fees

    async def place(self, command: PlaceHold) -> Hold:
        """Set money aside."""
        fee = await self._fees.in_force()

        async def work() -> Hold:
            async with self._database.unit_of_work() as uow:
                accounts = {ESCROW, ids.decode("acct", command.payer)}
                book = await self.open(uow, accounts, holds=[command.hold], fee_basis_points=fee)
                hold = book.place(command)
                await self.save(uow, book)
                return hold

        return await retry(work)

    async def settle(self, command: SettleHold) -> Settlement:
        """Pay out of a hold."""

        async def work() -> Settlement:
            async with self._database.unit_of_work() as uow:
                return (await self.settle_within(uow, [command]))[0]

        return await retry(work)

    async def settle_within(self, uow: UnitOfWork, commands: Sequence[SettleHold]) -> list[Settlement]:
        """Pay out of several holds in a unit of work that is open already; one refusal refuses all."""
        miners = {ids.decode("acct", command.miner_account): command.miner_account for command in commands}
        await self.open_accounts(uow, miners)
        payers = {ids.decode("acct", command.payer) for command in commands}
        book = await self.open(uow, {ESCROW, FEES, *miners, *payers}, holds=[command.hold for command in commands])
        settlements = [book.settle(command) for command in commands]
        await self.save(uow, book)
        return settlements

    async def pay_rent(self, command: PayRent) -> Rent:
        """Pay a rent out of a hold."""
        owners = {ids.decode("acct", command.owner): command.owner}
        accounts = {ESCROW, FEES, *owners, ids.decode("acct", command.payer)}

        async def work() -> Rent:
            async with self._database.unit_of_work() as uow:
                await self.open_accounts(uow, owners)
                book = await self.open(uow, accounts, holds=[command.hold])
                hold = book.holds.get(command.hold)
                if hold is not None and hold.state == "settled":
                    return await _paid_before(uow, hold, command)
                rent = book.pay_rent(command)
                await self.save(uow, book)
                return rent

        return await retry(work)

    async def void(self, hold: str, reason: str) -> Hold:
        """Return all of a hold."""

        async def work() -> Hold:
            async with self._database.unit_of_work() as uow:
                return (await self.void_within(uow, {hold: reason}))[0]

        return await retry(work)

    async def void_within(self, uow: UnitOfWork, reasons: dict[str, str]) -> list[Hold]:
        """Return several holds in a unit of work that is open already; one refusal refuses all."""
        wanted = [ids.decode("hold", hold) for hold in reasons]
        payers = await uow.session.scalars(select(HoldRow.payer).where(HoldRow.id.in_(reasons)))
        accounts = {ids.decode("acct", payer) for payer in payers}
        if not accounts and wanted:
            raise HoldNotFound
        book = await self.open(uow, {ESCROW, *accounts}, holds=list(reasons))
        holds = [book.give_back(hold, "voided", reason) for hold, reason in reasons.items()]
        await self.save(uow, book)
        return holds

    async def open_accounts(self, uow: UnitOfWork, owners: dict[UUID, str]) -> None:
        """Make the accounts that are not there yet, in the order of ids."""
        fresh = [
            {"id": id_, "owner": owners[id_], "purpose": "main", "balance_units": 0, "held_units": 0}
            | {"earned_units": 0, "spent_units": 0, "version": 0, "created_at": now()}
            for id_ in sorted(owners)
        ]
        await uow.session.execute(upsert(AccountRow).values(fresh).on_conflict_do_nothing())

    async def open(
        self, uow: UnitOfWork, accounts: set[UUID], *, holds: Sequence[str] = (), fee_basis_points: int = 0
    ) -> Book:
        """Lock accounts in the order of their ids (the system's come first) and read holds behind that lock."""
        locking = select(AccountRow).where(AccountRow.id.in_(accounts)).order_by(AccountRow.id)
        rows = await uow.session.scalars(
            locking.with_for_update(key_share=True), execution_options={"populate_existing": True}
        )
        book = Book(at=now(), key=self._key, fee_basis_points=fee_basis_points)
        book.accounts = {row.id: account_of(row) for row in rows}
        if holds:
            reading = select(HoldRow).where(HoldRow.id.in_(holds)).order_by(HoldRow.id)
            found = await uow.session.scalars(reading, execution_options={"populate_existing": True})
            book.holds = {row.id: held_money_of(row) for row in found}
        settled = [hold.id for hold in book.holds.values() if hold.state == "settled"]
        if settled:
            await self._find_receipts(uow, book, settled)
        return book

    async def _find_receipts(self, uow: UnitOfWork, book: Book, settled: Iterable[str]) -> None:
        receipts = [ids.encode("rcpt", ids.decode("hold", hold)) for hold in settled]
        for row in await uow.session.scalars(select(ReceiptRow).where(ReceiptRow.id.in_(receipts))):
            hold = ids.encode("hold", ids.decode("rcpt", row.id))
            amount = book.holds[hold].amount_units
            book.receipts[hold] = found_receipt(row.body, row.price_units, row.fee_units, amount)

    async def save(self, uow: UnitOfWork, book: Book) -> None:
        """Write what a book did."""
        if not book.postings:
            return
        for id_ in book.changed:
            row = await uow.session.get_one(AccountRow, id_)
            account = book.accounts[id_]
            row.balance_units, row.held_units, row.version = account.balance_units, account.held_units, account.version
            row.earned_units, row.spent_units = account.earned_units, account.spent_units
        for hold in book.placed:
            uow.add(HoldRow(**{column: getattr(hold, column) for column in HOLD_FIELDS}))
        await uow.session.flush()
        for hold in book.ended:
            held = await uow.session.get_one(HoldRow, hold.id)
            held.state, held.ended_at, held.ended_by = hold.state, hold.ended_at, hold.ended_by
            held.reason, held.price_units = hold.reason, hold.price_units
        await self._add_postings(uow, book)
        for issued in book.issued:
            uow.add(receipt_row(issued, book))
        await uow.session.flush()

    async def _add_postings(self, uow: UnitOfWork, book: Book) -> None:
        for posting in book.postings:
            row = TransactionRow(
                id=posting.id,
                kind=posting.kind,
                hold=posting.hold,
                reference=posting.reference,
                reason=posting.reason,
                created_at=book.at,
                body=posting.body.decode(),
            )
            uow.add(row)
        # In one statement: the database checks there that each transaction sums to zero.
        entries = [
            {
                "transaction_id": posting.id,
                "position": position,
                "account_id": entry.account,
                "amount_units": entry.amount_units,
                "balance_after_units": entry.balance_after_units,
                "account_version": entry.account_version,
                "created_at": book.at,
            }
            for posting in book.postings
            for position, entry in enumerate(posting.entries)
        ]
        await uow.session.execute(insert(EntryRow).values(entries))
        records = [{"kind": kind, "record_id": id_, "digest": digest} for kind, id_, digest in book.records()]
        await uow.session.execute(insert(UnsealedRow).values(records))


async def _paid_before(uow: UnitOfWork, hold: HeldMoney, command: PayRent) -> Rent:
    """The payment that ended this hold, if it is the one that is asked for. Raises `HoldNotOpen`."""
    assert hold.ended_by is not None, "a settled hold names what ended it"
    row = await uow.session.get_one(TransactionRow, hold.ended_by)
    named = {entry.account for entry in msgspec.json.decode(row.body, type=TransactionRecord).entries}
    rent = rent_of(hold, row.id)
    told = (row.kind, hold.payer, hold.reference, hold.price_units)
    paid = rent.earned_units == 0 or f"{command.owner}/main" in named
    if told != ("rent", command.payer, command.reference, command.price_units) or not paid:
        raise HoldNotOpen
    return rent


def account_of(row: AccountRow) -> Account:
    """An account as it was locked."""
    return Account(
        id=row.id,
        owner=row.owner,
        purpose=row.purpose,
        balance_units=row.balance_units,
        held_units=row.held_units,
        earned_units=row.earned_units,
        spent_units=row.spent_units,
        version=row.version,
        version_found=row.version,
    )


def held_money_of(row: HoldRow) -> HeldMoney:
    """A hold as it was read."""
    return HeldMoney(**{column: getattr(row, column) for column in HOLD_FIELDS})


def receipt_row(issued: Issued, book: Book) -> ReceiptRow:
    """The row of a new receipt."""
    claims, settlement = issued.claims, issued.settlement
    return ReceiptRow(
        id=claims.id,
        transaction_id=claims.transaction,
        payer=claims.payer,
        miner=claims.miner,
        miner_account=claims.miner_account,
        price_units=settlement.price_units,
        fee_units=settlement.fee_units,
        earned_units=settlement.earned_units,
        issued_at=book.at,
        body=issued.body.decode(),
    )
