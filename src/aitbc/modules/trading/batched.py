"""Batched commands of the ledger: holds, settlements and voids of many callers in one transaction, set-based.

The rules are those of models/book.py. Every transaction here locks escrow first and then the other accounts in the
order of their ids, so that no two can wait for each other.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
from msgspec import Struct

from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.database.bulk import BulkTable
from aitbc.kernel.database.outbox import publish_many
from aitbc.kernel.database.sql_errors import ConstraintViolated
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.trading.api import Balance, Hold, PlaceHold, RaiseHold, SettleHold, Settlement
from aitbc.modules.trading.events import HoldExpired
from aitbc.modules.trading.models.book import Book, settled_before
from aitbc.modules.trading.models.budgets import Budget, Budgets, BudgetUse
from aitbc.modules.trading.models.rows import ESCROW, FEES, Account, Entry, HeldMoney, Issued, Posting
from aitbc.modules.trading.models.tables import (
    AccountRow,
    BudgetRow,
    BudgetUseRow,
    EntryRow,
    HoldRow,
    ReceiptRow,
    TransactionRow,
)

ACCOUNTS_KNOWN_MAX = 200_000

ACCOUNTS = BulkTable(AccountRow, Account, unmapped=("created_at",), computed=("version_found",))
HOLDS = BulkTable(HoldRow, HeldMoney)
TRANSACTIONS = BulkTable(TransactionRow, Posting, unmapped=("created_at",), computed=("digest", "entries"))
ENTRIES = BulkTable(EntryRow, Entry, unmapped=("created_at",))
BUDGETS = BulkTable(BudgetRow, Budget, unmapped=("created_at", "ended_at"))
BUDGET_USES = BulkTable(BudgetUseRow, BudgetUse)
RECEIPTS = BulkTable(ReceiptRow, Issued, unmapped=("issued_at",), computed=("digest",))

# Accounts of miners that are paid for the first time.
OPEN_ACCOUNTS = ACCOUNTS.insert(
    constants={"purpose": "'main'", "asset": "'AITBC'", "created_at": ":created_at"}
    | dict.fromkeys(("balance_units", "held_units", "earned_units", "spent_units", "version", "budgets"), "0"),
    suffix="ORDER BY v.id ON CONFLICT DO NOTHING",
)

LOCKED = ACCOUNTS.columns(known=("version_found",))
# Every account the batch touches, in the order of ids; a void names only its hold, which knows the payer.
LOCK_ACCOUNTS = f"""
SELECT {LOCKED} FROM trading.accounts
WHERE id = ANY($1::uuid[] || ARRAY(SELECT payer FROM trading.holds WHERE id = ANY($2::uuid[])))
ORDER BY id FOR NO KEY UPDATE"""  # noqa: S608 - constant columns

HELD = HOLDS.columns(without=("placed_by", "ended_by", "reason", "key"), known=("id", "payer"))
# No lock: whoever changes a hold has locked escrow before.
READ_HOLDS = f"SELECT {HELD}, id, payer FROM trading.holds WHERE id = ANY($1::uuid[])"  # noqa: S608 - constant columns

FIND_EXPIRED = """
SELECT id FROM trading.holds WHERE state = 'open' AND expires_at <= $1 ORDER BY expires_at LIMIT $2"""

FIND_ENDED = "SELECT id FROM trading.holds WHERE id = ANY($1::uuid[]) AND state = ANY($2::text[])"

LOCK_ESCROW = "SELECT FROM trading.accounts WHERE id = $1 FOR NO KEY UPDATE"

# By hand: one deadline for all. Behind the lock of escrow, like every change of a hold.
PROLONG = """
UPDATE trading.holds SET expires_at = greatest(expires_at, $2)
WHERE id = ANY($1::uuid[]) AND ended_at IS NULL RETURNING id"""

FIND_RECEIPTED = "SELECT id FROM trading.receipts WHERE id = ANY($1::uuid[])"

BUDGET = BUDGETS.columns()
# Only for accounts that have some. A budget is changed behind the lock of its account.
READ_BUDGETS = f"""
SELECT {BUDGET} FROM trading.budgets WHERE account = ANY($1::uuid[]) AND ended_at IS NULL ORDER BY id"""  # noqa: S608 - constants

USE = BUDGET_USES.columns()
# No lock: whoever changes one has locked escrow before.
READ_USES = f"""
SELECT {USE} FROM trading.budget_uses
WHERE (budget, period_start) IN (SELECT * FROM unnest($1::uuid[], $2::date[]))"""  # noqa: S608 - constant columns

# Only for settlements that are repeated.
READ_RECEIPTS = """
SELECT id, body, price_units, fee_units FROM trading.receipts WHERE id = ANY($1::uuid[])"""

READ_BALANCES = "SELECT id, balance_units, held_units FROM trading.accounts WHERE id = ANY($1::uuid[])"

SAVE_ACCOUNTS = ACCOUNTS.update(without=("owner", "purpose", "budgets", "asset"), compare={"version": "version_found"})
ADD_HOLDS = HOLDS.insert(
    without=("ended_at", "ended_by", "reason", "price_units"),
    constants={"state": "'open'", "placed_at": ":placed_at"},
)
# Open is what has not ended: said so, no plan takes the indexes of what is open for a way to single rows.
END_HOLDS = HOLDS.update(
    only=("state", "ended_by", "reason", "price_units"),
    constants={"ended_at": ":ended_at"},
    where="t.ended_at IS NULL",
)
RAISE_HOLDS = HOLDS.update(
    only=("amount_units", "placed_by", "budgets"), constants={"placed_at": ":placed_at"}, where="t.ended_at IS NULL"
)
SAVE_USES = BUDGET_USES.insert(
    suffix="ON CONFLICT (budget, period_start) DO UPDATE SET held_units = excluded.held_units, "
    "spent_units = excluded.spent_units"
)
ADD_TRANSACTIONS = TRANSACTIONS.insert(constants={"created_at": ":created_at"})
ADD_ENTRIES = ENTRIES.insert(constants={"created_at": ":created_at"})
ADD_RECEIPTS = RECEIPTS.insert(constants={"issued_at": ":issued_at"})
# By hand: no struct carries it. In the order of the arrays: the numbers that the rows get are the order of the chain.
ADD_UNSEALED = """
INSERT INTO trading.unsealed (kind, record_id, digest) SELECT * FROM unnest($1::text[], $2::uuid[], $3::bytea[])"""


class VoidHold(Struct, frozen=True):
    """Return all of an open hold."""

    hold: str
    reason: str


Command = PlaceHold | RaiseHold | SettleHold | VoidHold
Outcome = Hold | Settlement


class _MayBePlaced(Exception):
    """A hold was refused that may have been placed before."""


class LedgerBatches:
    """Executes batches of commands, each batch in one transaction."""

    def __init__(self, database: Database, key: Key) -> None:
        self._database = database
        self._key = key
        self._known: set[UUID] = set()
        """Accounts that are there: none is ever removed."""

    async def flush(self, commands: Sequence[Command], fee_basis_points: int) -> list[Outcome | AppError]:
        """Returns for each command its outcome or what refuses it; raises when the transaction did not happen.

        Holds are placed under new ids, so they are not looked for, unless an INSERT says that one is there already,
        or one is refused: it may be there already too.
        """
        await self._open_accounts(commands)
        try:
            return await self._flush(commands, fee_basis_points, placed=False)
        except (ConstraintViolated, _MayBePlaced):
            return await self._flush(commands, fee_basis_points, placed=True)

    async def _flush(
        self, commands: Sequence[Command], fee_basis_points: int, *, placed: bool
    ) -> list[Outcome | AppError]:
        async with self._database.raw_transaction() as connection:
            book = await self._load(connection, commands, fee_basis_points, placed=placed)
            outcomes = [_try(book, command) for command in commands]
            if not placed and any(
                isinstance(command, PlaceHold) and isinstance(outcome, AppError)
                for command, outcome in zip(commands, outcomes, strict=True)
            ):
                raise _MayBePlaced
            await save(connection, book, commits=True)
        return outcomes

    async def apply_all(self, connection: Connection, commands: Sequence[SettleHold | VoidHold]) -> None:
        """Execute commands in a transaction that is open already; one refusal refuses all."""
        if missing := self._missing(commands):
            await connection.execute(OPEN_ACCOUNTS.sql, *OPEN_ACCOUNTS.arrays(missing), now())
        book = await self._load(connection, commands, fee_basis_points=0)
        for command in commands:
            _apply(book, command)
        await save(connection, book)

    async def expire(self, limit: int) -> int:
        """Return open holds past their deadline, the oldest first, and publish it; returns how many."""
        async with self._database.raw_transaction() as connection:
            at = now()
            due = [row["id"] for row in await connection.fetch(FIND_EXPIRED, at, limit)]
            if not due:
                return 0
            book = Book(at=at, accounts=await _lock(connection, [ESCROW], due))
            for row in await connection.fetch(READ_HOLDS, due):
                if (
                    row["state"] == "open" and row["expires_at"] <= at
                ):  # it may have been settled or prolonged meanwhile
                    hold = _held_money(row, ids.encode("hold", row["id"]), book.accounts)
                    book.holds[hold.id] = hold
            await load_budgets(connection, book)
            for name in sorted(book.holds):
                book.give_back(name, "expired", "deadline_reached")
            await save(connection, book)
            events = [HoldExpired(hold=hold.id, payer=hold.payer, reference=hold.reference) for hold in book.ended]
            await publish_many(connection, "trading", events)
        if events:
            self._database.notify_published()
        return len(due)

    async def prolong(self, holds: Sequence[str], until: datetime) -> list[str]:
        """Move the deadlines of those of these holds that are open, never nearer; returns those."""
        async with self._database.raw_transaction() as connection:
            await connection.execute(LOCK_ESCROW, ESCROW)
            rows = await connection.fetch(PROLONG, [ids.decode("hold", hold) for hold in holds], until)
        return [ids.encode("hold", row["id"]) for row in rows]

    async def _open_accounts(self, commands: Sequence[Command]) -> None:
        """Make missing accounts alone and before the transaction, so that nobody waits for it."""
        missing = self._missing(commands)
        if not missing:
            return
        async with self._database.raw(writes=True) as connection:
            await connection.execute(OPEN_ACCOUNTS.sql, *OPEN_ACCOUNTS.arrays(missing), now())
        if len(self._known) > ACCOUNTS_KNOWN_MAX:
            self._known.clear()
        self._known.update(account.id for account in missing)

    def _missing(self, commands: Sequence[Command]) -> list[Account]:
        """Accounts that are to be paid and that may not be there yet."""
        paid = [command.miner_account for command in commands if isinstance(command, SettleHold)]
        owners = {ids.decode("acct", owner): owner for owner in paid}
        return [Account(id_, owner) for id_, owner in owners.items() if id_ not in self._known]

    async def _load(
        self, connection: Connection, commands: Sequence[Command], fee_basis_points: int, *, placed: bool = True
    ) -> Book:
        """The book that commands need; with the holds that they place only where some may be `placed` already."""
        accounts, wanted, payers_of = {ESCROW, FEES}, dict[UUID, str](), list[UUID]()
        for command in commands:
            hold = ids.decode("hold", command.hold)
            if placed or not isinstance(command, PlaceHold):
                wanted[hold] = command.hold
            if isinstance(command, VoidHold):
                payers_of.append(hold)
            else:
                accounts.add(ids.decode("acct", command.payer))
            if isinstance(command, SettleHold):
                accounts.add(ids.decode("acct", command.miner_account))
        locked = await _lock(connection, list(accounts), payers_of)
        # The time is taken with escrow locked, so that times do not run against the order of the chain.
        book = Book(at=now(), key=self._key, fee_basis_points=fee_basis_points, accounts=locked)
        for row in await connection.fetch(READ_HOLDS, list(wanted)) if wanted else ():
            name = wanted[row["id"]]
            book.holds[name] = _held_money(row, name, locked)
        await load_budgets(connection, book)
        await _load_receipts(connection, book, commands)
        return book


async def _lock(connection: Connection, accounts: Sequence[UUID], holds: Sequence[UUID]) -> dict[UUID, Account]:
    """Accounts and the payers of holds, locked."""
    found: dict[UUID, Account] = {}
    for row in await connection.fetch(LOCK_ACCOUNTS, accounts, holds):
        found[row["id"]] = LOCKED.read_values(row, row["version"])
    return found


async def load_budgets(connection: Connection, book: Book) -> None:
    """Read the budgets that a book is under: nothing where no account has any, and no hold counts against one."""
    limited = [account.id for account in book.accounts.values() if account.budgets]
    marks = [hold.budgets for hold in book.holds.values() if hold.budgets is not None]
    if not limited and not marks:
        return
    found = [BUDGET.read(row) for row in await connection.fetch(READ_BUDGETS, limited)] if limited else []
    budgets = book.budgets = Budgets()
    for budget in found:
        budgets.of_account.setdefault(budget.account, []).append(budget)
    keys = budgets.wanted(marks, book.at)
    wanted = [ids.decode("bdgt", budget) for budget, _ in keys], [start for _, start in keys]
    for row in await connection.fetch(READ_USES, *wanted):
        use = USE.read(row)
        budgets.uses[use.budget, use.period_start] = use


async def _load_receipts(connection: Connection, book: Book, commands: Sequence[Command]) -> None:
    repeated = [
        command.hold
        for command in commands
        if isinstance(command, SettleHold) and getattr(book.holds.get(command.hold), "state", None) == "settled"
    ]
    if not repeated:
        return
    for row in await connection.fetch(READ_RECEIPTS, [ids.decode("hold", hold) for hold in repeated]):
        hold = ids.encode("hold", row["id"])
        book.settled[hold] = settled_before(
            row["body"], row["price_units"], row["fee_units"], book.holds[hold].amount_units
        )


def _try(book: Book, command: Command) -> Outcome | AppError:
    try:
        return _apply(book, command)
    except AppError as refusal:
        return refusal


def _apply(book: Book, command: Command) -> Outcome:
    match command:
        case PlaceHold():
            return book.place(command)
        case RaiseHold():
            return book.raise_hold(command)
        case SettleHold():
            return book.settle(command)
        case VoidHold():
            return book.give_back(command.hold, "voided", command.reason)


def _held_money(row: asyncpg.Record, hold: str, accounts: Mapping[UUID, Account]) -> HeldMoney:
    """A hold as READ_HOLDS returns it; an id that is there in text form already is not encoded again."""
    payer = accounts.get(row["payer"])
    return HELD.read_values(row, hold, ids.encode("acct", row["payer"]) if payer is None else payer.owner)


async def save(connection: Connection, book: Book, *, commits: bool = False) -> None:
    """Write what a book did, in one statement with a part for each table, and commit with it if wished.

    It fails where an account changed although it was locked, or a hold ended although escrow was.
    """
    if not book.postings:
        return
    writes = WriteBatch()
    writes.expect(writes.write(SAVE_ACCOUNTS, [book.accounts[id_] for id_ in book.changed]), len(book.changed))
    if book.placed:
        writes.write(ADD_HOLDS, book.placed, book.at)
    if book.raised:
        writes.expect(writes.write(RAISE_HOLDS, book.raised, book.at), len(book.raised))
    if ended := [hold for hold in book.ended if not hold.placed_by]:
        writes.expect(writes.write(END_HOLDS, ended, book.at), len(ended))
    writes.write(ADD_TRANSACTIONS, book.postings, book.at)
    # In one statement: the database checks there that each transaction sums to zero.
    writes.write(ADD_ENTRIES, [entry for posting in book.postings for entry in posting.entries], book.at)
    if book.budgets.changed:
        writes.write(SAVE_USES, [book.budgets.uses[key] for key in sorted(book.budgets.changed)])
    if book.issued:
        writes.write(ADD_RECEIPTS, book.issued, book.at)
    writes.add(ADD_UNSEALED, *(list(column) for column in zip(*book.records(), strict=True)))
    new = [hold for hold in book.ended if hold.placed_by]
    await writes.do(connection, commits=commits and not new)
    if new:  # placed or raised by this very book: only now can they be found as that
        later = WriteBatch()
        later.expect(later.write(END_HOLDS, new, book.at), len(new))
        await later.do(connection, commits=commits)


async def find_ended(connection: Connection, holds: Sequence[str], states: Sequence[str]) -> set[str]:
    """Of these holds, those that ended in one of these states."""
    rows = await connection.fetch(FIND_ENDED, [ids.decode("hold", hold) for hold in holds], states)
    return {ids.encode("hold", row["id"]) for row in rows}


async def find_receipted(database: Database, jobs: Sequence[str]) -> list[str]:
    """Those of these jobs that have a receipt, by well-formed ids; both share one UUID."""
    async with database.raw() as connection:
        rows = await connection.fetch(FIND_RECEIPTED, [ids.decode("job", job) for job in jobs])
    return [ids.encode("job", row["id"]) for row in rows]


async def read_balances(database: Database, accounts: Sequence[str]) -> list[Balance | AppError]:
    """The balances of accounts, by well-formed ids."""
    wanted = {account: ids.decode("acct", account) for account in accounts}
    async with database.raw() as connection:
        rows = await connection.fetch(READ_BALANCES, list(wanted.values()))
    found = {row["id"]: (row["balance_units"], row["held_units"]) for row in rows}
    return [
        Balance(account=account, available_units=found.get(id_, (0, 0))[0], held_units=found.get(id_, (0, 0))[1])
        for account, id_ in ((account, wanted[account]) for account in accounts)
    ]
