"""The offline verifier of an exported ledger: replays every record from the first block on, in bounded memory.

Like kernel/crypto/chain_format.py it needs no server, no database and no package but PyNaCl.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from aitbc.kernel.crypto.chain_format import (
    ESCROW,
    EXPORT,
    FEES,
    LINE_BYTES_MAX,
    MAIN,
    RECEIPT,
    SYSTEM,
    TRANSACTION,
    TRANSACTION_FIELDS,
    TREASURY,
    ChainError,
    Tree,
    block_hash,
    canonical,
    check_receipt,
    checked_header,
    export_end,
    name_digest,
    parse,
    read_units,
    require_trusted,
)
from aitbc.kernel.crypto.entry_accounts import ASSET_ENTRY_FIELDS, ENTRY_FIELDS, asset_suffix, entry_key
from aitbc.kernel.crypto.order_replay import ORDER_KINDS, OrderReplay


@dataclass
class LedgerReplay:
    """The ledger replayed from its records: balances and open holds, with the double entry checked at each step.

    Memory grows with the accounts and open holds, never with the length of the history.
    """

    accounts: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By account: its balance in minor units, and its version."""
    holds: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By open hold: its payer and amount."""
    orders: OrderReplay = field(default_factory=OrderReplay)
    transactions: int = 0
    entries: int = 0
    receipts: int = 0
    owed_receipt: dict[str, Any] | None = None
    """The settlement whose receipt must be the very next record."""

    def apply(self, record: Any) -> str:
        """Apply one record; returns its id. Raises `ChainError` that names record and field."""
        version = record.get("version") if isinstance(record, dict) else None
        name = str(record.get("id"))[:64] if isinstance(record, dict) else None
        try:
            if version == TRANSACTION and record.keys() == TRANSACTION_FIELDS:
                self._apply_transaction(record)
            elif version == RECEIPT:
                self._apply_receipt(record)
            else:
                raise ChainError("this is no known kind of record", field="version", record=name)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if isinstance(error, ChainError):
                error.record = error.record or name
                raise
            raise ChainError(f"the record cannot be read: {error}", field="record", record=name) from None
        return str(name)

    def _apply_transaction(self, record: dict[str, Any]) -> None:
        if self.owed_receipt is not None:
            raise ChainError("the settlement before it has no receipt", field="receipt")
        moved = dict[str, int]()
        for position, entry in enumerate(record["entries"]):
            if entry.keys() not in (ENTRY_FIELDS, ASSET_ENTRY_FIELDS):
                raise ChainError("the entry lacks a part", field=f"entries/{position}")
            amount, balance, account = read_units(entry["amount"]), read_units(entry["balance"]), entry_key(entry)
            before, version = self.accounts.get(account, (0, 0))
            if before + amount != balance or amount == 0:
                raise ChainError("the balance does not follow from the one before", field=f"entries/{position}/balance")
            if entry["version"] != version + 1:
                raise ChainError("an entry of this account is missing", field=f"entries/{position}/version")
            if balance < 0 and (entry["account"] == TREASURY or not entry["account"].startswith(SYSTEM)):
                raise ChainError("the account is overdrawn", field=f"entries/{position}/balance")
            self.accounts[account] = (balance, version + 1)
            moved[account] = moved.get(account, 0) + amount
        if any(_by_asset(moved).values()) or not moved:
            raise ChainError("the entries do not sum to zero", field="entries")
        self._apply_hold(record, moved)
        self.transactions += 1
        self.entries += len(record["entries"])

    def _apply_hold(self, record: dict[str, Any], moved: dict[str, int]) -> None:
        hold, kind = record["hold"], record["kind"]
        escrow = moved.get(ESCROW, 0)
        if kind == "hold":
            (payer,) = (account for account in moved if account != ESCROW)
            if hold in self.holds or escrow <= 0 or not isinstance(hold, str):
                raise ChainError("the hold cannot be placed", field="hold")
            self.holds[hold] = (payer, escrow)
        elif kind in ("settle", "void", "expire", "rent", "refund"):
            payer, amount = self.holds.pop(hold, ("", 0))
            if not amount or escrow != -amount:
                raise ChainError("the hold was not open with this amount", field="hold")
            if kind == "settle":
                self.owed_receipt = {"record": record, "moved": moved, "payer": payer, "amount": amount}
            elif kind == "rent":
                _check_rent(moved, payer)
            elif kind == "refund":
                _check_refund(moved, payer)
            elif moved != {ESCROW: -amount, payer: amount}:
                raise ChainError("the hold did not return to its payer", field="entries")
        elif kind in ORDER_KINDS:
            self.orders.apply(record, moved)
        elif hold is not None or any(account.startswith(ESCROW) for account in moved):
            raise ChainError("escrow moved without a hold", field="entries")

    def _apply_receipt(self, receipt: dict[str, Any]) -> None:
        owed, self.owed_receipt = self.owed_receipt, None
        if owed is None:
            raise ChainError("the receipt follows no settlement", field="transaction")
        check_receipt(receipt)
        settled = owed["record"]
        of_hold = receipt["id"].partition("_")[2] == str(settled["hold"]).partition("_")[2]
        if receipt["transaction"] != settled["id"] or receipt["job"] != settled["reference"] or not of_hold:
            raise ChainError("the receipt is of another settlement", field="transaction")
        if receipt["payer"] + MAIN != owed["payer"]:
            raise ChainError("the receipt names another payer", field="payer")
        price, fee, earned = (read_units(receipt[part]) for part in ("price", "fee", "earned"))
        expected = {ESCROW: -owed["amount"], FEES: fee}
        for account, amount in ((owed["payer"], owed["amount"] - price), (receipt["miner_account"] + MAIN, earned)):
            expected[account] = expected.get(account, 0) + amount
        if {account: amount for account, amount in expected.items() if amount} != owed["moved"]:
            raise ChainError("the ledger moved other amounts than the receipt says", field="price")
        self.receipts += 1

    def check_balanced(self) -> None:
        """Check the invariants between records: no receipt is owed, the balances sum to zero. Raises `ChainError`."""
        if self.owed_receipt is not None:
            raise ChainError(
                "the last settlement has no receipt", field="receipt", record=self.owed_receipt["record"]["id"]
            )
        if any(_by_asset({account: balance for account, (balance, _) in self.accounts.items()}).values()):
            raise ChainError("the balances do not sum to zero", field="accounts")
        held = _by_asset(self.held())
        for asset in held | _by_asset(dict.fromkeys(self.accounts, 0)):
            if self.accounts.get(ESCROW + asset, (0, 0))[0] != held.get(asset, 0):
                raise ChainError("escrow is not the sum of the open holds and orders", field="holds")

    def held(self) -> dict[str, int]:
        """What lies in escrow for each account, in open holds and orders."""
        found = dict[str, int]()
        for payer, amount in (*self.holds.values(), *self.orders.open.values()):
            found[payer] = found.get(payer, 0) + amount
        return found


def _by_asset(amounts: dict[str, int]) -> dict[str, int]:
    """The sums in each asset: by what follows the name of an account, `` for AITBC and `:GOLD` for others."""
    sums = dict[str, int]()
    for account, amount in amounts.items():
        asset = asset_suffix(account)
        sums[asset] = sums.get(asset, 0) + amount
    return sums


def _check_rent(moved: dict[str, int], payer: str) -> None:
    """Check that held money went to one owner, the fees and back to the payer only."""
    owners = [account for account in moved if account not in (ESCROW, FEES, payer)]
    if len(owners) > 1 or any(not account.endswith(MAIN) or account.startswith(SYSTEM) for account in owners):
        raise ChainError("the rent went to more than one owner", field="entries")
    if any(amount < 0 for account, amount in moved.items() if account != ESCROW):
        raise ChainError("the rent was paid by somebody else than the hold", field="entries")


def _check_refund(moved: dict[str, int], owner: str) -> None:
    """Check that held money, and fees, went back to one payer, and the rest of it to whom it was held of."""
    payers = [account for account in moved if account not in (ESCROW, FEES, owner)]
    if len(payers) != 1 or not payers[0].endswith(MAIN) or payers[0].startswith(SYSTEM):
        raise ChainError("the refund went to another number of payers than one", field="entries")
    if moved[payers[0]] + moved.get(FEES, 0) <= 0 or moved.get(FEES, 0) > 0 or moved.get(owner, 0) < 0:
        raise ChainError("the refund was not paid by the hold and the fees", field="entries")


@dataclass(frozen=True)
class ExportChecked:
    """The contents of an export that passed all checks."""

    chain: str
    height: int
    head: str
    records: int
    transactions: int
    entries: int
    receipts: int
    accounts: int
    keys: frozenset[str]


class ExportVerifier:
    """Checks an export line by line, in the order of the file."""

    def __init__(self, *, trusted_keys: Collection[str] = ()) -> None:
        self.books = LedgerReplay()
        self.lines = 0
        self.height = -1
        self._trusted = frozenset(trusted_keys)
        self._keys: set[str] = set()
        self._chain: str | None = None
        self._header: dict[str, Any] | None = None
        self._tree = Tree()
        self._records = 0
        self._end: dict[str, Any] | None = None

    def line(self, raw: bytes) -> None:
        """Check the next line, without its line feed; raises `ChainError` for the first failure."""
        self.lines += 1
        begins_block = not self._inside() and not raw.startswith(b'{"end"')
        height = self.height + begins_block if self._chain is not None else 0
        try:
            self._check_line(raw)
        except ChainError as error:
            error.line = self.lines
            error.height = height if error.height is None else error.height
            raise

    def _inside(self) -> bool:
        return self._header is not None and self._tree.size < self._header["records"]

    def _check_line(self, raw: bytes) -> None:
        inside = self._inside()
        if len(raw) > LINE_BYTES_MAX:
            raise ChainError("the line is too long", field="record" if inside else "block")
        try:
            value = parse(raw)
        except ValueError as error:
            raise ChainError(f"the line is not strict JSON: {error}", field="record" if inside else "block") from None
        if self._end is not None:
            raise ChainError("there is more after the end", field="end")
        if not isinstance(value, dict) or canonical(value) != raw:
            raise ChainError("the line is not in canonical form", field="record" if inside else "block")
        if inside:
            self._check_record(raw, value)
        elif self._chain is None:
            self._check_start(value)
        elif value.keys() == {"end"}:
            self._check_end(value["end"])
        else:
            self._check_block(value)

    def _check_start(self, value: dict[str, Any]) -> None:
        if value.keys() != {"chain", "version"} or value["version"] != EXPORT:
            raise ChainError(f"this is not an export of version {EXPORT}", field="version")
        self._chain = str(value["chain"])

    def _check_block(self, value: dict[str, Any]) -> None:
        previous, height = self._header, self.height + 1
        self.height = height
        if value.keys() != {"block", "hash", "signature"}:
            raise ChainError("here the next block should begin", field="block")
        header = checked_header(value["block"], value["hash"], value["signature"], height=height)
        if header["height"] != height:
            raise ChainError(f"the block says it is height {header['height']}", field="height")
        if header["previous"] != (None if previous is None else block_hash(previous)):
            raise ChainError("the block does not follow the one before", field="previous")
        if previous is None and value["hash"] != self._chain:
            raise ChainError("the first block is not the one this chain is named after", field="chain")
        if previous is not None and not previous["time"] <= header["time"]:
            raise ChainError("the block is older than the one before", field="time")
        if header["first_sequence"] != self._records + 1:
            raise ChainError("a record is missing before this block", field="first_sequence")
        self._require_trusted(header["node_key"])
        self._header, self._tree = header, Tree()
        self._check_root()

    def _check_record(self, raw: bytes, value: dict[str, Any]) -> None:
        self.books.apply(value)
        if value["version"] == RECEIPT:
            self._require_trusted(value["node_key"])
        self._tree.add(hashlib.sha256(raw).digest())
        self._records += 1
        self._check_root()

    def _check_root(self) -> None:
        assert self._header is not None
        if self._tree.size == self._header["records"] and name_digest(self._tree.root()) != self._header["merkle_root"]:
            raise ChainError("the block's records do not have its root", field="merkle_root")

    def _require_trusted(self, key: str) -> None:
        require_trusted({key}, self._trusted, None)
        self._keys.add(key)

    def _check_end(self, end: Any) -> None:
        if self._header is None:
            raise ChainError("the export holds no block", field="end")
        expected = export_end(head=block_hash(self._header), height=self.height, records=self._records, keys=self._keys)
        if canonical({"end": end}) != expected:
            raise ChainError("the end does not state what came before it", field="end")
        self.books.check_balanced()
        self._end = end

    def finish(self, *, head: str | None = None) -> ExportChecked:
        """The result at the end of the file; `head` is a block hash known from elsewhere: the export must end at it."""
        if self._end is None or self._chain is None:
            raise ChainError("the export was cut short", field="end", height=max(self.height, 0), line=self.lines)
        if head is not None and self._end["head"] != head:
            raise ChainError("the export ends at another block than the one expected", field="head", height=self.height)
        return ExportChecked(
            chain=self._chain,
            height=self.height,
            head=self._end["head"],
            records=self._records,
            transactions=self.books.transactions,
            entries=self.books.entries,
            receipts=self.books.receipts,
            accounts=len(self.books.accounts),
            keys=frozenset(self._keys),
        )


def verify_export(file: BinaryIO, *, trusted_keys: Collection[str] = (), head: str | None = None) -> ExportChecked:
    """Check an export, line by line in bounded memory; raises `ChainError` for the first failure.

    With `trusted_keys` a signature by any other node key fails; `head` is a block hash, known from elsewhere, at which
    the export must end: it proves that nothing was cut off.
    """
    verifier = ExportVerifier(trusted_keys=trusted_keys)
    while raw := file.readline(LINE_BYTES_MAX + 2):
        if not raw.endswith(b"\n"):
            height, line = max(verifier.height, 0), verifier.lines + 1
            raise ChainError("the line has no end, or is too long", field="line", height=height, line=line)
        verifier.line(raw[:-1])
    return verifier.finish(head=head)
