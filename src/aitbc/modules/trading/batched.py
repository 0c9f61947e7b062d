"""The gathered way: holds, settlements and voids of many callers in one transaction, with a few set-based statements.

The rules are those of models/book.py, the same as for the ordinary way. All of it locks escrow first and then the other
accounts in the order of their ids, so that no two transactions can wait for each other.
"""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import asyncpg
from msgspec import Struct

from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.database.outbox import publish_many
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.trading.api import Hold, PlaceHold, SettleHold, Settlement
from aitbc.modules.trading.events import HoldExpired
from aitbc.modules.trading.models.book import ESCROW, FEES, Account, Book, HeldMoney, Issued, found_receipt

ACCOUNTS_KNOWN_MAX = 200_000

# Accounts of miners that are paid for the first time. Alone and before the transaction, so that nobody waits for it.
OPEN_ACCOUNTS = """
INSERT INTO trading.accounts
    (id, owner, purpose, balance_units, held_units, earned_units, spent_units, version, created_at)
SELECT id, owner, 'main', 0, 0, 0, 0, 0, $3 FROM unnest($1::uuid[], $2::text[]) AS new(id, owner) ORDER BY id
ON CONFLICT DO NOTHING"""

# Every account the batch touches, in the order of ids; a void names only its hold, which knows the payer.
LOCK_ACCOUNTS = """
SELECT id, owner, purpose, balance_units, held_units, earned_units, spent_units, version FROM trading.accounts
WHERE id = ANY($1::uuid[] || ARRAY(SELECT payer FROM trading.holds WHERE id = ANY($2::uuid[])))
ORDER BY id FOR NO KEY UPDATE"""

# No lock: whoever changes a hold has locked escrow before.
READ_HOLDS = """
SELECT id, payer, amount_units, fee_basis_points, state, reference, placed_at, expires_at, ended_at, price_units
FROM trading.holds WHERE id = ANY($1::uuid[])"""

FIND_EXPIRED = """
SELECT id FROM trading.holds WHERE state = 'open' AND expires_at <= $1 ORDER BY expires_at LIMIT $2"""

# Only for settlements that are asked for again.
READ_RECEIPTS = """
SELECT id, body, price_units, fee_units FROM trading.receipts WHERE id = ANY($1::uuid[])"""

SAVE_ACCOUNTS = """
UPDATE trading.accounts a SET balance_units = d.balance, held_units = d.held, earned_units = d.earned,
    spent_units = d.spent, version = d.version
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
    AS d(id, balance, held, earned, spent, version, version_found)
WHERE a.id = d.id AND a.version = d.version_found"""

ADD_HOLDS = """
INSERT INTO trading.holds
    (id, payer, amount_units, fee_basis_points, state, reference, placed_at, expires_at, placed_by)
SELECT id, payer, amount, fee, 'open', reference, $8, expires_at, placed_by
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::int[], $5::text[], $6::timestamptz[], $7::uuid[])
    AS new(id, payer, amount, fee, reference, expires_at, placed_by)"""

END_HOLDS = """
UPDATE trading.holds h SET
    state = d.state, ended_at = $6, ended_by = d.ended_by, reason = d.reason, price_units = d.price
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::bigint[]) AS d(id, state, ended_by, reason, price)
WHERE h.id = d.id AND h.state = 'open'"""

ADD_TRANSACTIONS = """
INSERT INTO trading.transactions (id, kind, hold, reference, reason, created_at, body)
SELECT id, kind, hold, reference, reason, $7, body
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[])
    AS new(id, kind, hold, reference, reason, body)"""

ADD_ENTRIES = """
INSERT INTO trading.entries
    (transaction_id, position, account_id, amount_units, balance_after_units, account_version, created_at)
SELECT *, $7::timestamptz
FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[])"""

ADD_RECEIPTS = """
INSERT INTO trading.receipts
    (id, transaction_id, payer, miner, miner_account, price_units, fee_units, earned_units, body, issued_at)
SELECT *, $10::timestamptz
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::bigint[], $7::bigint[], $8::bigint[],
    $9::text[])"""

# In the order of the arrays: the numbers that the rows get are the order of the chain.
ADD_UNSEALED = """
INSERT INTO trading.unsealed (kind, record_id, digest) SELECT * FROM unnest($1::text[], $2::uuid[], $3::bytea[])"""


class VoidHold(Struct, frozen=True):
    """Return all of an open hold."""

    hold: str
    reason: str


Command = PlaceHold | SettleHold | VoidHold
Outcome = Hold | Settlement


class Gathered:
    """Does batches of commands, each batch in one transaction."""

    def __init__(self, database: Database, key: Key) -> None:
        self._database = database
        self._key = key
        self._known: set[UUID] = set()

    async def flush(self, commands: Sequence[Command], fee_basis_points: int) -> list[Outcome | AppError]:
        """Answers for each command its outcome or what refuses it; raises when the transaction did not happen."""
        await self._open_accounts(command for command in commands if isinstance(command, SettleHold))
        async with self._database.raw_transaction() as connection:
            book = await self._load(connection, commands, fee_basis_points)
            outcomes = [_apply(book, command) for command in commands]
            if book.postings:
                await save(connection, book)
        return outcomes

    async def expire(self, limit: int) -> int:
        """Return open holds past their deadline, the oldest first, and tell it; answers how many."""
        async with self._database.raw_transaction() as connection:
            at = now()
            due = [row["id"] for row in await connection.fetch(FIND_EXPIRED, at, limit)]
            if not due:
                return 0
            book = Book(at=at, key=self._key, fee_basis_points=0)
            for row in await connection.fetch(LOCK_ACCOUNTS, [ESCROW], due):
                book.accounts[row["id"]] = locked_account(row)
            for row in await connection.fetch(READ_HOLDS, due):
                if row["state"] == "open":
                    hold = ids.encode("hold", row["id"])
                    book.holds[hold] = held_money(row, hold, book.accounts)
            for hold in sorted(book.holds):
                book.give_back(hold, "expired", "deadline_reached")
            if book.postings:
                await save(connection, book)
            told = [HoldExpired(hold=hold.id, payer=hold.payer, reference=hold.reference) for hold in book.ended]
            await publish_many(connection, "trading", told)
        if told:
            self._database.notify_published()
        return len(due)

    async def _open_accounts(self, settlements: Iterable[SettleHold]) -> None:
        owners = {ids.decode("acct", command.miner_account): command.miner_account for command in settlements}
        missing = [id_ for id_ in owners if id_ not in self._known]
        if not missing:
            return
        async with self._database.raw() as connection:
            await connection.execute(OPEN_ACCOUNTS, missing, [owners[id_] for id_ in missing], now())
        if len(self._known) > ACCOUNTS_KNOWN_MAX:
            self._known.clear()
        self._known.update(missing)

    async def _load(self, connection: Connection, commands: Sequence[Command], fee_basis_points: int) -> Book:
        accounts, wanted, payers_of = {ESCROW, FEES}, dict[UUID, str](), list[UUID]()
        for command in commands:
            hold = ids.decode("hold", command.hold)
            wanted[hold] = command.hold
            if isinstance(command, VoidHold):
                payers_of.append(hold)
            else:
                accounts.add(ids.decode("acct", command.payer))
            if isinstance(command, SettleHold):
                accounts.add(ids.decode("acct", command.miner_account))
        locked = await connection.fetch(LOCK_ACCOUNTS, list(accounts), payers_of)
        # The moment is taken with escrow locked, so that times do not run against the order of the chain.
        book = Book(at=now(), key=self._key, fee_basis_points=fee_basis_points)
        for row in locked:
            account = locked_account(row)
            book.accounts[account.id] = account
        for row in await connection.fetch(READ_HOLDS, list(wanted)):
            name = wanted[row["id"]]
            book.holds[name] = held_money(row, name, book.accounts)
        await self._load_receipts(connection, book, commands)
        return book

    async def _load_receipts(self, connection: Connection, book: Book, commands: Sequence[Command]) -> None:
        again = [
            command.hold
            for command in commands
            if isinstance(command, SettleHold) and getattr(book.holds.get(command.hold), "state", None) == "settled"
        ]
        if not again:
            return
        for row in await connection.fetch(READ_RECEIPTS, [ids.decode("hold", hold) for hold in again]):
            hold = ids.encode("hold", row["id"])
            book.receipts[hold] = found_receipt(
                row["body"], row["price_units"], row["fee_units"], book.holds[hold].amount_units
            )


def _apply(book: Book, command: Command) -> Outcome | AppError:
    try:
        match command:
            case PlaceHold():
                return book.place(command)
            case SettleHold():
                return book.settle(command)
            case VoidHold():
                return book.give_back(command.hold, "voided", command.reason)
    except AppError as refusal:
        return refusal


def locked_account(row: asyncpg.Record) -> Account:
    """An account as LOCK_ACCOUNTS answers it."""
    id_, owner, purpose, balance, held, earned, spent, version = row
    return Account(id_, owner, purpose, balance, held, earned, spent, version, version)


def held_money(row: asyncpg.Record, hold: str, accounts: Mapping[UUID, Account]) -> HeldMoney:
    """A hold as READ_HOLDS answers it; what has an id in text form already is not given another."""
    payer = accounts.get(row["payer"])
    return HeldMoney(
        id=hold,
        payer=ids.encode("acct", row["payer"]) if payer is None else payer.owner,
        amount_units=row["amount_units"],
        fee_basis_points=row["fee_basis_points"],
        state=row["state"],
        reference=row["reference"],
        placed_at=row["placed_at"],
        expires_at=row["expires_at"],
        ended_at=row["ended_at"],
        price_units=row["price_units"],
    )


async def save(connection: Connection, book: Book) -> None:
    """Write what a book did, in one statement of a part for each table."""
    writes = WriteBatch()
    accounts = [book.accounts[id_] for id_ in book.changed]
    saved = writes.add(
        SAVE_ACCOUNTS,
        [account.id for account in accounts],
        [account.balance_units for account in accounts],
        [account.held_units for account in accounts],
        [account.earned_units for account in accounts],
        [account.spent_units for account in accounts],
        [account.version for account in accounts],
        [account.version_found for account in accounts],
    )
    _add_holds(writes, book)
    ended = [hold for hold in book.ended if not hold.placed_by]
    place = _end_holds(writes, ended, book)
    transactions = [ids.decode("txn", posting.id) for posting in book.postings]
    writes.add(
        ADD_TRANSACTIONS,
        transactions,
        [posting.kind for posting in book.postings],
        [None if posting.hold is None else ids.decode("hold", posting.hold) for posting in book.postings],
        [posting.reference for posting in book.postings],
        [posting.reason for posting in book.postings],
        [posting.body.decode() for posting in book.postings],
        book.at,
    )
    entries = [
        (id_, at, e) for p, id_ in zip(book.postings, transactions, strict=True) for at, e in enumerate(p.entries)
    ]
    writes.add(
        ADD_ENTRIES,
        [transaction for transaction, _, _ in entries],
        [position for _, position, _ in entries],
        [entry.account for _, _, entry in entries],
        [entry.amount_units for _, _, entry in entries],
        [entry.balance_after_units for _, _, entry in entries],
        [entry.account_version for _, _, entry in entries],
        book.at,
    )
    _add_receipts(writes, book.issued, book)
    writes.add(ADD_UNSEALED, *(list(column) for column in zip(*book.records(), strict=True)))
    counts = await writes.do(connection)
    assert counts[saved] == len(accounts), "an account changed although it was locked"
    assert place is None or counts[place] == len(ended), "a hold ended although escrow was locked"
    if len(ended) < len(book.ended):  # placed by this very book: only now can they be found
        later = WriteBatch()
        _end_holds(later, [hold for hold in book.ended if hold.placed_by], book)
        assert (await later.do(connection))[0] == len(book.ended) - len(ended), "a new hold was not found"


def _add_holds(writes: WriteBatch, book: Book) -> None:
    if book.placed:
        writes.add(
            ADD_HOLDS,
            [ids.decode("hold", hold.id) for hold in book.placed],
            [ids.decode("acct", hold.payer) for hold in book.placed],
            [hold.amount_units for hold in book.placed],
            [hold.fee_basis_points for hold in book.placed],
            [hold.reference for hold in book.placed],
            [hold.expires_at for hold in book.placed],
            [ids.decode("txn", hold.placed_by) for hold in book.placed],
            book.at,
        )


def _end_holds(writes: WriteBatch, holds: Sequence[HeldMoney], book: Book) -> int | None:
    """Where the count of the holds that ended will stand; none where none ended."""
    if not holds:
        return None
    return writes.add(
        END_HOLDS,
        [ids.decode("hold", hold.id) for hold in holds],
        [hold.state for hold in holds],
        [ids.decode("txn", hold.ended_by or "") for hold in holds],
        [hold.reason for hold in holds],
        [hold.price_units for hold in holds],
        book.at,
    )


def _add_receipts(writes: WriteBatch, issued: Sequence[Issued], book: Book) -> None:
    if not issued:
        return
    writes.add(
        ADD_RECEIPTS,
        [ids.decode("rcpt", one.claims.id) for one in issued],
        [ids.decode("txn", one.claims.transaction) for one in issued],
        [ids.decode("acct", one.claims.payer) for one in issued],
        [ids.decode("mnr", one.claims.miner) for one in issued],
        [ids.decode("acct", one.claims.miner_account) for one in issued],
        [one.settlement.price_units for one in issued],
        [one.settlement.fee_units for one in issued],
        [one.settlement.earned_units for one in issued],
        [one.body.decode() for one in issued],
        book.at,
    )
