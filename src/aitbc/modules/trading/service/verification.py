"""Recomputes everything from the first record on, in bounded memory, and names the first thing that does not hold."""

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from aitbc.kernel.crypto import chain_format
from aitbc.kernel.crypto.chain_format import ChainError
from aitbc.kernel.crypto.chain_verifier import ExportVerifier
from aitbc.kernel.crypto.entry_accounts import NATIVE, account_key, entry_key
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.money import share
from aitbc.modules.trading.models.book import RAISED
from aitbc.modules.trading.models.records import stamp
from aitbc.modules.trading.models.views import Divergence, LedgerReport
from aitbc.modules.trading.service.blocks import header_of

RECORDS_PAGE = 500
BLOCKS_PAGE = 200
PREFIX = {"transaction": "txn", "receipt": "rcpt"}

READ_BLOCKS = "SELECT * FROM trading.blocks WHERE height > $1 ORDER BY height LIMIT $2"

_RECORD = """
SELECT i.{order} AS place, {height} AS height, i.kind, i.record_id, i.digest, COALESCE(t.body, r.body) AS body,
    t.kind AS transaction_kind, t.hold, t.reference, t.reason, t.created_at,
    (SELECT json_agg(json_build_array(a.owner || '/' || a.purpose || coalesce(':' || e.asset, ''),
        e.amount_units::text, e.balance_after_units::text, e.account_version, e.position,
        e.created_at = t.created_at AND a.asset = coalesce(e.asset, 'AITBC')) ORDER BY e.position)
         FROM trading.entries e LEFT JOIN trading.accounts a ON a.id = e.account_id
        WHERE e.transaction_id = t.id) AS entries,
    h.payer AS hold_payer, h.amount_units AS hold_amount, h.state AS hold_state, h.price_units AS hold_price,
    h.placed_by, h.ended_by, h.reference AS hold_reference, h.fee_basis_points, h.placed_at, h.ended_at,
    h.reason AS hold_reason,
    x.id AS trade, x.quantity_units AS trade_quantity, x.cost_units AS trade_cost, x.buyer_fee_units, x.seller_fee_units,
    x.maker, x.taker, x.buyer, x.seller, x.taker_side,
    r.transaction_id, r.payer, r.miner, r.miner_account, r.price_units, r.fee_units, r.earned_units, r.issued_at
FROM trading.{table} i
LEFT JOIN trading.transactions t ON i.kind = 'transaction' AND t.id = i.record_id
LEFT JOIN trading.receipts r ON i.kind = 'receipt' AND r.id = i.record_id
LEFT JOIN trading.exchange_trades x ON i.kind = 'transaction' AND x.id = i.record_id
LEFT JOIN trading.holds h ON h.id = COALESCE(t.hold, r.id)
WHERE i.{order} >= $1 AND i.{order} < $2 ORDER BY i.{order} LIMIT $3"""
READ_SEALED = _RECORD.format(table="block_items", order="sequence", height="i.height")
READ_UNSEALED = _RECORD.format(table="unsealed", order="id", height="NULL::bigint")
READ_ACCOUNTS = """
SELECT id, owner, purpose, asset, balance_units, held_units, earned_units, spent_units, version FROM trading.accounts
WHERE id > $1 ORDER BY id LIMIT $2"""
# What lies in the tables and in no block and no queue: put there by hand.
ORPHANS = {
    "transaction": """SELECT t.id FROM trading.transactions t
        WHERE NOT EXISTS (SELECT FROM trading.block_items i WHERE i.record_id = t.id)
        AND NOT EXISTS (SELECT FROM trading.unsealed u WHERE u.record_id = t.id) ORDER BY t.id LIMIT 1""",
    "receipt": """SELECT r.id FROM trading.receipts r
        WHERE NOT EXISTS (SELECT FROM trading.block_items i WHERE i.record_id = r.id)
        AND NOT EXISTS (SELECT FROM trading.unsealed u WHERE u.record_id = r.id) ORDER BY r.id LIMIT 1""",
}
COUNT = "SELECT count(*) FROM trading."
OPEN_ORDERS = "SELECT id, held_units FROM trading.exchange_orders WHERE state = 'open' AND id > $1 ORDER BY id LIMIT $2"
STILL_OPEN = "SELECT count(*) FROM trading.holds WHERE state = 'open' AND id = ANY($1::uuid[])"
ENDS = {"settle": "settled", "void": "voided", "expire": "expired", "rent": "settled", "refund": "settled"}
HELD_PAGE = 5_000
SYSTEM_ACCOUNTS = frozenset(f"system/{purpose}" for purpose in ("issuance", "escrow", "fees", "treasury"))
"""Those that are there from the beginning, used or not."""


async def verify(database: Database) -> LedgerReport:
    """Verify blocks, records, entries, holds, receipts and balances against each other, as of one moment."""
    async with (
        database.listener() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await connection.execute("SET LOCAL statement_timeout = '10min'")
        return await walk(connection)


async def walk(connection: Connection) -> LedgerReport:
    """The same on a connection whose transaction sees one moment."""
    audit = _Audit()
    divergence = None
    try:
        await audit.blocks(connection)
        await audit.unsealed(connection)
        await audit.accounts(connection)
        await audit.leftovers(connection)
    except ChainError as error:
        divergence = Divergence(height=error.height, record=error.record, field=error.field, message=error.message)
    books = audit.books
    return LedgerReport(
        ok=divergence is None,
        height=audit.verifier.height,
        head=audit.head,
        transactions=books.transactions,
        entries=books.entries,
        receipts=books.receipts,
        unsealed=audit.waiting,
        accounts=len(books.accounts),
        divergence=divergence,
    )


class _Audit:
    """One walk over everything."""

    def __init__(self) -> None:
        self.verifier = ExportVerifier()
        self.books = self.verifier.books
        self.head: str | None = None
        self.waiting = 0
        self.placed = 0
        self.raised: set[str] = set()
        """Holds that were voided to be placed anew with more money, and are not yet."""
        self.replaced: set[str] = set()
        """Holds of which a later record says how they were placed: that of the last raising."""
        self.sealed = 0
        self.earned: dict[str, int] = defaultdict(int)
        self.spent: dict[str, int] = defaultdict(int)

    async def blocks(self, connection: Connection) -> None:
        """Every block with its records, from the first on."""
        height = -1
        while True:
            page = await connection.fetch(READ_BLOCKS, height, BLOCKS_PAGE)
            for block in page:
                if height < 0:
                    self.verifier.line(chain_format.export_start(chain_format.block_hash(header_of(block))))
                self._block(block)
                await self._records(connection, block)
                height = block["height"]
            if len(page) < BLOCKS_PAGE:
                break
        if height < 0:
            raise ChainError("there is no first block", field="height", height=0)

    def _block(self, block: asyncpg.Record) -> None:
        header = header_of(block)
        self.verifier.line(chain_format.export_block(header, block["signature"]))
        self.head = chain_format.block_hash(header)
        if chain_format.name_digest(block["hash"]) != self.head:
            raise ChainError("the stored hash is not the header's", field="hash", height=block["height"])

    async def _records(self, connection: Connection, block: asyncpg.Record) -> None:
        first, end, height = block["first_sequence"], block["first_sequence"] + block["records"], block["height"]
        for start in range(first, end, RECORDS_PAGE):
            page = await connection.fetch(READ_SEALED, start, min(start + RECORDS_PAGE, end), RECORDS_PAGE)
            await asyncio.to_thread(self._sealed_page, page, start, height)
        if self.sealed != end - 1:
            raise ChainError("a record of this block is missing", field="records", height=height)

    def _sealed_page(self, page: Sequence[asyncpg.Record], start: int, height: int) -> None:
        for expected, row in enumerate(page, start):
            try:
                if row["place"] != expected:
                    raise ChainError("a record of this block is missing", field="sequence")
                _same("block_items/height", row["height"], height)
                raw = self._stored(row)
                self.verifier.line(raw)
                self._compare(row, chain_format.parse(raw))
            except ChainError as error:
                error.height = height
                error.record = error.record or _name(row)
                raise
            self.sealed += 1

    async def unsealed(self, connection: Connection) -> None:
        """The records that wait for their block."""
        start = 0
        while True:
            page = await connection.fetch(READ_UNSEALED, start, 2**63 - 1, RECORDS_PAGE)
            await asyncio.to_thread(self._unsealed_page, page)
            if len(page) < RECORDS_PAGE:
                break
            start = page[-1]["place"] + 1
        self.books.check_balanced()

    def _unsealed_page(self, page: Sequence[asyncpg.Record]) -> None:
        for row in page:
            try:
                record = chain_format.parse(self._stored(row))
                self.books.apply(record)
                self._compare(row, record)
            except ChainError as error:
                error.record = error.record or _name(row)
                raise
            self.waiting += 1

    def _stored(self, row: asyncpg.Record) -> bytes:
        if row["body"] is None:
            raise ChainError("the record is gone from its table", field="record")
        raw: bytes = row["body"].encode()
        if hashlib.sha256(raw).digest() != row["digest"]:
            raise ChainError("the record is not the one that was sealed", field="digest")
        return raw

    def _compare(self, row: asyncpg.Record, record: dict[str, Any]) -> None:
        """The columns beside a record must say what the record says."""
        if row["kind"] == "receipt":
            self._compare_receipt(row, record)
            return
        entries = [
            [name, str(chain_format.read_units(amount)), str(chain_format.read_units(balance)), version, position, True]
            for position, (name, amount, balance, version) in enumerate(map(_parts, record["entries"]))
        ]
        _same("entries", json.loads(row["entries"] or "[]"), entries)
        _same("id", ids.encode("txn", row["record_id"]), record["id"])
        _same("kind", row["transaction_kind"], record["kind"])
        _same("reference", row["reference"], record["reference"])
        _same("reason", row["reason"], record["reason"])
        _same("created_at", stamp(row["created_at"]), record["at"])
        _same("hold", None if row["hold"] is None else ids.encode("hold", row["hold"]), record["hold"])
        self._compare_hold(row, record)
        if record["kind"] == "trade" or row["trade"] is not None:
            self._count_trade(row, record)
        if record["kind"] == "correction" and record["entries"][0]["account"] != "system/issuance":
            self._count_correction(record["entries"])

    def _compare_hold(self, row: asyncpg.Record, record: dict[str, Any]) -> None:
        kind = record["kind"]
        if kind == "void" and record["reason"] == RAISED and row["ended_by"] != row["record_id"]:
            self.raised.add(record["hold"])
        elif kind == "hold" and row["placed_by"] not in (None, row["record_id"]):
            self.replaced.add(record["hold"])
        elif kind == "hold":
            self.raised.discard(record["hold"])
            self.replaced.discard(record["hold"])
            self.placed += 1
            payer, amount = self.books.holds[record["hold"]]
            _same("holds/payer", _main(row["hold_payer"]), payer)
            _same("holds/amount_units", row["hold_amount"], amount)
            _same("holds/reference", row["hold_reference"], record["reference"])
            _same("holds/placed_by", row["placed_by"], row["record_id"])
            _same("holds/placed_at", row["placed_at"], row["created_at"])
        elif kind in ENDS:
            _same("holds/state", row["hold_state"], ENDS[kind])
            _same("holds/ended_by", row["ended_by"], row["record_id"])
            _same("holds/ended_at", row["ended_at"], row["created_at"])
            _same("holds/reason", row["hold_reason"], record["reason"])
            if kind == "rent":
                self._count_rent(row, record["entries"])
            elif kind == "refund":
                self._count_refund(row, record["entries"])

    def _count_rent(self, row: asyncpg.Record, entries: Sequence[dict[str, Any]]) -> None:
        """A rent has no receipt: its hold says the price and the fee, and the entries who got what."""
        payer, price = _main(row["hold_payer"]) or "", row["hold_price"]
        fee = share(price, row["fee_basis_points"])
        moved: dict[str, int] = defaultdict(int)
        for entry in entries:
            moved[entry["account"]] += chain_format.read_units(entry["amount"])
        owner = next((name for name in moved if name not in (chain_format.ESCROW, chain_format.FEES, payer)), payer)
        expected = {chain_format.ESCROW: -row["hold_amount"], chain_format.FEES: fee}
        for name, amount in ((owner, price - fee), (payer, row["hold_amount"] - price)):
            expected[name] = expected.get(name, 0) + amount
        _same("holds/price_units", moved, {name: amount for name, amount in expected.items() if amount})
        self.spent[payer] += price
        self.earned[owner] += price - fee
        self.earned[chain_format.FEES] += fee

    def _count_trade(self, row: asyncpg.Record, record: dict[str, Any]) -> None:
        """A trade of the exchange: its row says what was bought for how much, and the entries who got what."""
        _same("exchange_trades/id", row["trade"], row["record_id"])
        orders = " ".join(ids.encode("ordr", row[side]) for side in ("maker", "taker"))
        _same("exchange_trades/maker", orders, record["reference"])
        moved: dict[str, int] = defaultdict(int)
        for entry in record["entries"]:
            moved[entry_key(entry)] += chain_format.read_units(entry["amount"])
        suffixes = {account_key("", entry.get("asset", NATIVE)) for entry in record["entries"]}
        given = {suffix: -moved[chain_format.ESCROW + suffix] for suffix in suffixes}
        base = self._base_of(row, suffixes, moved)
        quote = next(suffix for suffix in suffixes if suffix != base)
        _same("exchange_trades/quantity_units", row["trade_quantity"], given[base])
        _same("exchange_trades/cost_units", row["trade_cost"], given[quote])
        for suffix, column in ((base, "buyer_fee_units"), (quote, "seller_fee_units")):
            _same(f"exchange_trades/{column}", row[column], moved.get(chain_format.FEES + suffix, 0))
            self.earned[chain_format.FEES + suffix] += row[column]

    def _base_of(self, row: asyncpg.Record, suffixes: set[str], moved: Mapping[str, int]) -> str:
        """What was bought: what the buyer got, or what the whole of it went to the fees of."""
        buyer = _main(row["buyer"]) or ""
        for suffix in sorted(suffixes):
            if moved.get(buyer + suffix, 0) > 0:
                return suffix
        raise ChainError("the buyer got nothing", field="exchange_trades/buyer")

    def _count_refund(self, row: asyncpg.Record, entries: Sequence[dict[str, Any]]) -> None:
        """A refund: its hold says what the owner gave back, and the entries what of the fees went with it."""
        owner, amount = _main(row["hold_payer"]) or "", row["hold_price"]
        moved: dict[str, int] = defaultdict(int)
        for entry in entries:
            moved[entry["account"]] += chain_format.read_units(entry["amount"])
        fee = -moved.get(chain_format.FEES, 0)
        payer = next(name for name in moved if name not in (chain_format.ESCROW, chain_format.FEES, owner))
        expected = {chain_format.ESCROW: -row["hold_amount"], chain_format.FEES: -fee, payer: amount + fee}
        expected[owner] = row["hold_amount"] - amount
        _same("holds/price_units", moved, {name: part for name, part in expected.items() if part})
        self.spent[payer] -= amount + fee
        self.earned[owner] -= amount
        self.earned[chain_format.FEES] -= fee

    def _compare_receipt(self, row: asyncpg.Record, record: dict[str, Any]) -> None:
        price, fee, earned = (chain_format.read_units(record[part]) for part in ("price", "fee", "earned"))
        _same("receipts/id", ids.encode("rcpt", row["record_id"]), record["id"])
        _same("receipts/price_units", row["price_units"], price)
        _same("receipts/fee_units", row["fee_units"], fee)
        _same("receipts/earned_units", row["earned_units"], earned)
        _same("receipts/issued_at", stamp(row["issued_at"]), record["issued_at"])
        _same("holds/price_units", row["hold_price"], price)
        is_own_and_free = record["payer"] == record["miner_account"] and record["fee_basis_points"] == 0
        if not is_own_and_free:  # of before, an account paid the fee for its own miner's work too
            _same("holds/fee_basis_points", row["fee_basis_points"], record["fee_basis_points"])
        for column, prefix, part in (
            ("transaction_id", "txn", "transaction"),
            ("payer", "acct", "payer"),
            ("miner", "mnr", "miner"),
            ("miner_account", "acct", "miner_account"),
        ):
            _same(f"receipts/{column}", ids.encode(prefix, row[column]), record[part])
        self.spent[f"{record['payer']}/main"] += price
        self.earned[f"{record['miner_account']}/main"] += earned
        self.earned[chain_format.FEES] += fee

    def _count_correction(self, entries: Sequence[dict[str, Any]]) -> None:
        """A corrected settlement gave the price back to the payer, who stands first."""
        self.spent[entries[0]["account"]] -= chain_format.read_units(entries[0]["amount"])
        for entry in entries[1:]:
            self.earned[entry["account"]] += chain_format.read_units(entry["amount"])

    async def accounts(self, connection: Connection) -> None:
        """Stored balances, versions and counters must be what the entries add up to."""
        held: dict[str, int] = defaultdict(int, self.books.held())
        expected_names = SYSTEM_ACCOUNTS.union(self.books.accounts)
        last, seen = UUID(int=0), 0
        while True:
            page = await connection.fetch(READ_ACCOUNTS, last, RECORDS_PAGE)
            for row in page:
                name = account_key(f"{row['owner']}/{row['purpose']}", row["asset"])
                balance, version = self.books.accounts.get(name, (0, 0))
                expected = {"balance_units": balance, "held_units": held[name], "earned_units": self.earned[name]}
                expected |= {"spent_units": self.spent[name], "version": version}
                for column, value in expected.items():
                    _same(f"accounts/{column}", row[column], value, record=name)
                seen += name in expected_names
            if len(page) < RECORDS_PAGE:
                break
            last = page[-1]["id"]
        if seen != len(expected_names):
            raise ChainError("an account is gone from its table", field="accounts")

    async def leftovers(self, connection: Connection) -> None:
        """Nothing may lie in a table that no record speaks of."""
        for kind, query in ORPHANS.items():
            orphan = await connection.fetchval(query)
            if orphan is not None:
                name = ids.encode(PREFIX[kind], orphan)
                raise ChainError("it is in no block and waits for none", field=f"{kind}s", record=name)
        unplaced = next(iter(sorted(self.raised | self.replaced)), None)
        if unplaced is not None:
            raise ChainError("the hold was not placed anew", field="holds/placed_by", record=unplaced)
        counted = {"entries": self.books.entries, "holds": self.placed, "block_items": self.sealed}
        for table, expected in counted.items():
            _same(table, await connection.fetchval(COUNT + table), expected)
        _same("exchange_trades", await connection.fetchval(COUNT + "exchange_trades"), self.books.orders.trades)
        await self._orders(connection)
        still_open = [ids.decode("hold", hold) for hold in self.books.holds]
        for start in range(0, len(still_open), HELD_PAGE):
            part = still_open[start : start + HELD_PAGE]
            _same("holds/state", await connection.fetchval(STILL_OPEN, part), len(part))

    async def _orders(self, connection: Connection) -> None:
        """What lies in escrow for an order must be what is open of it: its row may hold nothing else."""
        held = {ids.decode("ordr", order): amount for order, (_, amount) in self.books.orders.open.items()}
        last, seen = UUID(int=0), 0
        while True:
            page = await connection.fetch(OPEN_ORDERS, last, RECORDS_PAGE)
            for row in page:
                name = ids.encode("ordr", row["id"])
                _same("exchange_orders/held_units", row["held_units"], held.get(row["id"], 0), record=name)
            seen += len(page)
            if len(page) < RECORDS_PAGE:
                break
            last = page[-1]["id"]
        _same("exchange_orders", seen, len(held))


def _same(field: str, found: Any, expected: Any, *, record: str | None = None) -> None:
    if found != expected:
        message = f"stored is {str(found)[:120]}, the records say {str(expected)[:120]}"
        raise ChainError(message, field=field, record=record)


def _parts(entry: dict[str, Any]) -> tuple[str, str, str, int]:
    return entry_key(entry), entry["amount"], entry["balance"], entry["version"]


def _name(row: asyncpg.Record) -> str:
    return ids.encode(PREFIX.get(row["kind"], "record"), row["record_id"])


def _main(payer: UUID | None) -> str | None:
    return None if payer is None else f"{ids.encode('acct', payer)}/main"
