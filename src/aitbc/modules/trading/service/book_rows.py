"""The book of a unit of work: loads and saves what rents, trades, deposits and corrections change: none is batched."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from msgspec.structs import asdict
from sqlalchemy import insert, select, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.primitives.clock import now
from aitbc.modules.trading.models.book import Book
from aitbc.modules.trading.models.budgets import Budget, BudgetUse
from aitbc.modules.trading.models.rows import Account, HeldMoney
from aitbc.modules.trading.models.tables import (
    AccountRow,
    BudgetRow,
    BudgetUseRow,
    EntryRow,
    HoldRow,
    TransactionRow,
    UnsealedRow,
)

BALANCES = ("balance_units", "held_units", "earned_units", "spent_units", "version")
ENDED = ("state", "ended_at", "ended_by", "reason", "price_units")


async def open_accounts(
    uow: UnitOfWork, owners: Mapping[UUID, str], purposes: Mapping[UUID, str] | None = None
) -> None:
    """Make the accounts that are not there yet, in the order of ids; they are for `main` unless `purposes` say more."""
    purposes = purposes or {}
    await open_purses(uow, [Account(id_, owner, purposes.get(id_, "main")) for id_, owner in owners.items()])


async def open_purses(uow: UnitOfWork, accounts: Iterable[Account]) -> None:
    """Make those of these accounts that are not there yet, in the order of ids."""
    fresh = [
        {"id": one.id, "owner": one.owner, "purpose": one.purpose, "asset": one.asset, "created_at": now()}
        | dict.fromkeys(BALANCES, 0)
        for one in sorted(accounts, key=lambda one: one.id)
    ]
    await uow.session.execute(upsert(AccountRow).values(fresh).on_conflict_do_nothing())


async def load_book(uow: UnitOfWork, accounts: set[UUID], *, holds: Sequence[str] = ()) -> Book:
    """Lock accounts in the order of their ids (the system's come first) and read holds behind that lock."""
    locking = select(AccountRow).where(AccountRow.id.in_(accounts)).order_by(AccountRow.id)
    rows = await uow.session.scalars(
        locking.with_for_update(key_share=True), execution_options={"populate_existing": True}
    )
    book = Book(at=now(), accounts={row.id: _account_of(row) for row in rows})
    if holds:
        reading = select(HoldRow).where(HoldRow.id.in_(holds)).order_by(HoldRow.id)
        found = await uow.session.scalars(reading, execution_options={"populate_existing": True})
        book.holds = {row.id: held_money_of(row) for row in found}
    await _load_budgets(uow, book)
    return book


async def _load_budgets(uow: UnitOfWork, book: Book) -> None:
    """Read the budgets that a book is under, as batches do."""
    limited = [account.owner for account in book.accounts.values() if account.budgets]
    marks = [hold.budgets for hold in book.holds.values() if hold.budgets is not None]
    if not limited and not marks:
        return
    active = select(BudgetRow).where(BudgetRow.account.in_(limited), BudgetRow.ended_at.is_(None))
    for row in await uow.session.scalars(active.order_by(BudgetRow.id)) if limited else ():
        budget = Budget(**{name: getattr(row, name) for name in Budget.__struct_fields__})
        book.budgets.of_account.setdefault(budget.account, []).append(budget)
    wanted = book.budgets.wanted(marks, book.at)
    reading = select(BudgetUseRow).where(tuple_(BudgetUseRow.budget, BudgetUseRow.period_start).in_(wanted))
    for use in await uow.session.scalars(reading, execution_options={"populate_existing": True}):
        columns = {name: getattr(use, name) for name in BudgetUse.__struct_fields__}
        book.budgets.uses[use.budget, use.period_start] = BudgetUse(**columns)


async def _save_budgets(uow: UnitOfWork, book: Book) -> None:
    changed = [asdict(book.budgets.uses[key]) for key in sorted(book.budgets.changed)]
    if changed:
        saving = upsert(BudgetUseRow).values(changed)
        counts = {name: saving.excluded[name] for name in ("held_units", "spent_units")}
        await uow.session.execute(saving.on_conflict_do_update(index_elements=["budget", "period_start"], set_=counts))


async def save_book(uow: UnitOfWork, book: Book) -> None:
    """Write what a book did; receipts are issued in batches only."""
    for id_ in book.changed:
        account = await uow.session.get_one(AccountRow, id_)
        for column in BALANCES:
            setattr(account, column, getattr(book.accounts[id_], column))
    for hold in book.placed:
        uow.add(HoldRow(**asdict(hold)))
    for hold in book.ended:
        if hold.placed_by:  # placed by this very book, and written as it ended
            continue
        held = await uow.session.get_one(HoldRow, hold.id)
        for column in ENDED:
            setattr(held, column, getattr(hold, column))
    await _save_budgets(uow, book)
    for posting in book.postings:
        columns = {name: value for name, value in asdict(posting).items() if name not in ("digest", "entries")}
        uow.add(TransactionRow(**columns, created_at=book.at))
    # In one statement: the database checks there that each transaction sums to zero.
    entries = [asdict(entry) | {"created_at": book.at} for posting in book.postings for entry in posting.entries]
    await uow.session.execute(insert(EntryRow).values(entries))
    records = [{"kind": kind, "record_id": id_, "digest": digest} for kind, id_, digest in book.records()]
    await uow.session.execute(insert(UnsealedRow).values(records))


def held_money_of(row: HoldRow) -> HeldMoney:
    """A hold as it was read."""
    columns = (column for column in HeldMoney.__struct_fields__ if column != "placed_by")
    return HeldMoney(**{column: getattr(row, column) for column in columns})


def _account_of(row: AccountRow) -> Account:
    columns = {column: getattr(row, column) for column in Account.__struct_fields__ if column != "version_found"}
    return Account(**columns, version_found=row.version)
