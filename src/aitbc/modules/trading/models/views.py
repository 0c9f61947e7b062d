"""What callers see of ledger and chain; amounts are decimal strings."""

from datetime import datetime

from msgspec import Struct

from aitbc.modules.trading.models.records import ReceiptClaims


class AccountView(Struct, frozen=True, kw_only=True):
    """An account's money now: it owns what is available and what is held."""

    account: str
    available: str
    held: str
    owned: str
    earned: str
    """All that it was ever paid for work."""
    spent: str
    """All that it ever paid for work."""
    entries: int


class HoldView(Struct, frozen=True, kw_only=True):
    """Money that is set aside for a job or a booking."""

    id: str
    payer: str
    amount: str
    reference: str
    """The job or the booking that it is for."""
    placed_at: datetime
    expires_at: datetime
    """When it returns to the payer if nothing happens before."""


class EntryView(Struct, frozen=True, kw_only=True):
    """One account's part of a transaction, with the balance before and after it."""

    account: str
    """`owner/purpose`."""
    amount: str
    before: str
    after: str
    version: int
    """The how-manieth entry of this account it is."""


class Place(Struct, frozen=True, kw_only=True):
    """Where in the chain a record is sealed."""

    height: int
    sequence: int


class LedgerTransaction(Struct, frozen=True, kw_only=True):
    """Money that moved."""

    id: str
    kind: str
    """`deposit`, `faucet`, `hold`, `settle`, `void`, `expire`, `correction` or `rent`."""
    hold: str | None
    reference: str | None
    """What it was for: a job, a booking, or the transaction that it corrects."""
    reason: str | None
    at: datetime
    entries: tuple[EntryView, ...]
    digest: str
    receipt: str | None
    """The receipt of a settlement."""
    sealed: Place | None
    """Its place in the chain; none for a moment, until the next block."""


class AccountEntry(Struct, frozen=True, kw_only=True):
    """A line of an account's statement."""

    transaction: str
    kind: str
    reference: str | None
    reason: str | None
    amount: str
    before: str
    after: str
    version: int
    at: datetime


class Block(Struct, frozen=True, kw_only=True):
    """A sealed stretch of records."""

    height: int
    hash: str
    previous: str | None
    merkle_root: str
    first_sequence: int
    records: int
    time: str
    node_key: str
    signature: str


class BlockRecord(Struct, frozen=True, kw_only=True):
    """A record in a block."""

    sequence: int
    kind: str
    """`transaction` or `receipt`."""
    id: str
    digest: str


class BlockHeader(Struct, frozen=True, kw_only=True):
    """What a block's hash and signature are over."""

    first_sequence: int
    height: int
    merkle_root: str
    node_key: str
    previous: str | None
    records: int
    time: str
    version: str


class InclusionProof(Struct, frozen=True, kw_only=True):
    """That a record is in a block, checkable without a server."""

    block: BlockHeader
    hash: str
    signature: str
    index: int
    path: tuple[str, ...]


class SignedReceipt(ReceiptClaims, frozen=True, kw_only=True):
    """The signed statement of one paid job."""

    node_signature: str


class Receipt(Struct, frozen=True, kw_only=True):
    """A receipt with its proof of inclusion: the file that `aitbc receipt verify` reads."""

    receipt: SignedReceipt
    proof: InclusionProof | None
    """None for a moment, until the next block."""


class ReceiptLine(Struct, frozen=True, kw_only=True):
    """A receipt in a list."""

    id: str
    job: str
    kind: str
    payer: str
    miner: str
    miner_account: str
    price: str
    fee: str
    earned: str
    issued_at: datetime
    transaction: str


class Found(Struct, frozen=True, kw_only=True):
    """Where a search leads."""

    kind: str
    id: str
    path: str


class NodeKey(Struct, frozen=True, kw_only=True):
    """A public key that the node signs, or once signed, receipts and blocks with."""

    public_key: str
    first_used_at: datetime


class Divergence(Struct, frozen=True, kw_only=True):
    """The first thing that does not hold."""

    height: int | None
    """The block; none for what is not sealed yet or lies outside of the chain."""
    record: str | None
    field: str
    message: str


class LedgerReport(Struct, frozen=True, kw_only=True):
    """The outcome of verifying the ledger from its first record on."""

    ok: bool
    height: int
    head: str | None
    transactions: int
    entries: int
    receipts: int
    unsealed: int
    accounts: int
    divergence: Divergence | None
