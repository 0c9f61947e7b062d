"""What callers see of ledger and chain; amounts are decimal strings."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Struct, UnsetType

from aitbc.kernel.primitives.json_schema import one_of
from aitbc.modules.trading.models.budgets import PERIODS
from aitbc.modules.trading.models.records import KINDS, ReceiptClaims

TransactionKind = Annotated[str, one_of(KINDS)]


class LedgerAsset(Struct, frozen=True, kw_only=True):
    """Something that accounts may have: play money, as AITBC is."""

    code: str
    """Its code. For example `GOLD`."""
    name: str
    """What it is called. For example `Gold of the arena`."""
    created_at: datetime | None
    """When it was defined; null for AITBC, which is always there."""


class AccountAsset(Struct, frozen=True, kw_only=True):
    """What an account has in one asset."""

    asset: str
    """The asset. For example `GOLD`."""
    available: str
    """What can be spent, in that asset. For example `9.95`."""
    held: str
    """What is set aside for open orders, and of AITBC for jobs and bookings too. For example `0.05`."""
    owned: str
    """Both together. For example `10`."""
    entries: int
    """How many lines its statement in this asset has. For example `2`."""


class AccountView(Struct, frozen=True, kw_only=True):
    """An account's money now: it owns what is available and what is held."""

    account: str
    """The account. For example `acct_01k0000000000000000000000a`."""
    available: str
    """What can be spent, in AITBC. For example `9.95`."""
    held: str
    """What is set aside for open jobs and bookings, in AITBC. For example `0.05`."""
    owned: str
    """Both together, in AITBC. For example `10`."""
    earned: str
    """All that it was ever paid for work. For example `0.0121875`."""
    spent: str
    """All that it ever paid for work. For example `0.05`."""
    entries: int
    """How many lines its statement has. For example `2`."""


class HoldView(Struct, frozen=True, kw_only=True):
    """Money that is set aside for a job or a booking."""

    id: str
    """The hold. For example `hold_01k0000000000000000000000a`."""
    payer: str
    """Whose money it is. For example `acct_01k0000000000000000000000a`."""
    amount: str
    """How much, in AITBC. For example `0.05`."""
    reference: str
    """The job or the booking that it is for. For example `job_01k0000000000000000000000a`."""
    placed_at: datetime
    """When it was set aside."""
    expires_at: datetime
    """When it returns to the payer if nothing happens before."""


class BudgetView(Struct, frozen=True, kw_only=True):
    """A limit on what an account spends, and what counts against it in the period that goes on."""

    id: str
    """The budget. For example `bdgt_01k0000000000000000000000a`."""
    account: str
    """Whose money it limits. For example `acct_01k0000000000000000000000a`."""
    key: str | None
    """The API key whose spending counts; null for all keys. For example `key_01k0000000000000000000000a`."""
    model: str | None
    """The model on which spending counts; null for everything that is paid. For example `llama-3-8b`."""
    period: Annotated[str, one_of(PERIODS)]
    """How long a period is: a day or a month (UTC), or all time. For example `day`."""
    limit: str
    """The most that may be spent in a period, in AITBC. For example `10`."""
    held: str
    """What open jobs and bookings of this period may still cost, in AITBC. For example `0.05`."""
    spent: str
    """What was paid in this period, in AITBC. For example `1.25`."""
    remaining: str
    """What may still be reserved in this period, in AITBC. For example `8.7`."""
    resets_at: datetime | None
    """When the next period begins; null for a budget that is never renewed."""
    created_at: datetime
    """When it was made; what was held before does not count."""
    ended_at: datetime | None
    """When it was removed; null while it limits."""


class EntryView(Struct, frozen=True, kw_only=True):
    """One account's part of a transaction, with the balance before and after it."""

    account: str
    """`owner/purpose`. For example `acct_01k0000000000000000000000a/main`."""
    amount: str
    """What it got, or gave where it is negative, in its asset. For example `-0.05`."""
    before: str
    """Its balance before. For example `10`."""
    after: str
    """Its balance after. For example `9.95`."""
    version: int
    """The how-manieth entry of this account it is."""
    asset: str | UnsetType = UNSET
    """What it is counted in; left out for AITBC. For example `GOLD`."""


class Place(Struct, frozen=True, kw_only=True):
    """Where in the chain a record is sealed."""

    height: int
    """The block's number. For example `12`."""
    sequence: int
    """The record's number in the chain. For example `41`."""


class LedgerTransaction(Struct, frozen=True, kw_only=True):
    """Money that moved."""

    id: str
    """The transaction. For example `txn_01k0000000000000000000000a`."""
    kind: TransactionKind
    """`deposit`, `faucet`, `hold`, `settle`, `void`, `expire`, `correction`, `rent`, `transfer`, `refund`, or of the
    exchange `order`, `trade` or `cancel`."""
    hold: str | None
    """The hold that it placed or ended; null where there is none. For example `hold_01k0000000000000000000000a`."""
    reference: str | None
    """What it was for: a job, a booking, the transaction that it corrects, an order, or the two that traded.
    For example `job_01k0000000000000000000000a`."""
    reason: str | None
    """Why, for people; null where there is nothing to say. For example `welcome`."""
    at: datetime
    """When it was written."""
    entries: tuple[EntryView, ...]
    """Its parts; their amounts add up to zero."""
    digest: str
    """SHA-256 of its canonical form.
    For example `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    receipt: str | None
    """The receipt of a settlement. For example `rcpt_01k0000000000000000000000a`."""
    sealed: Place | None
    """Its place in the chain; none for a moment, until the next block."""


class AccountEntry(Struct, frozen=True, kw_only=True):
    """A line of an account's statement."""

    transaction: str
    """The transaction that it belongs to. For example `txn_01k0000000000000000000000a`."""
    kind: TransactionKind
    """What kind of transaction that is."""
    reference: str | None
    """What it was for; null where there is nothing. For example `job_01k0000000000000000000000a`."""
    reason: str | None
    """Why, for people. For example `welcome`."""
    amount: str
    """What it got, or gave where it is negative, in its asset. For example `-0.05`."""
    before: str
    """Its balance before. For example `10`."""
    after: str
    """Its balance after. For example `9.95`."""
    version: int
    """The number of this entry in the account. For example `2`."""
    at: datetime
    """When it was written."""
    asset: str | UnsetType = UNSET
    """What it is counted in; left out for AITBC. For example `GOLD`."""


class Block(Struct, frozen=True, kw_only=True):
    """A sealed stretch of records."""

    height: int
    """Its number, from 0. For example `12`."""
    hash: str
    """Its hash. For example `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    previous: str | None
    """The hash of the block before; null for the first. For example
    `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    merkle_root: str
    """The root of the Merkle tree over its records. For example
    `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    first_sequence: int
    """The sequence of its first record. For example `41`."""
    records: int
    """How many records it has. For example `3`."""
    time: str
    """When it was sealed. For example `2030-01-31T12:00:00.000000Z`."""
    node_key: str
    """The public key that it is signed with, in base64url.
    For example `11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo`."""
    signature: str
    """The node's signature over the hash, in base64url.
    For example `5VZDAMNgrHKQhuLMgG6CioSHfx645dl02HPgZSJJAVVfuIIVkKM7rMYeOXAc-bRr0lv18FlbviRlUUFDjnoQCw`."""


class BlockRecord(Struct, frozen=True, kw_only=True):
    """A record in a block."""

    sequence: int
    """Its number in the chain. For example `41`."""
    kind: Annotated[str, one_of(("transaction", "receipt"))]
    """`transaction` or `receipt`."""
    id: str
    """The transaction or receipt. For example `txn_01k0000000000000000000000a`."""
    digest: str
    """SHA-256 of its canonical form.
    For example `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""


class BlockHeader(Struct, frozen=True, kw_only=True):
    """What a block's hash and signature are over."""

    first_sequence: int
    """The sequence of its first record. For example `41`."""
    height: int
    """Its number, from 0. For example `12`."""
    merkle_root: str
    """The root of the Merkle tree over its records. For example
    `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    node_key: str
    """The public key that it is signed with, in base64url.
    For example `11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo`."""
    previous: str | None
    """The hash of the block before; null for the first. For example
    `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    records: int
    """How many records it has. For example `3`."""
    time: str
    """When it was sealed. For example `2030-01-31T12:00:00.000000Z`."""
    version: str
    """The form of the header. For example `aitbc.block.v1`."""


class InclusionProof(Struct, frozen=True, kw_only=True):
    """That a record is in a block, checkable without a server."""

    block: BlockHeader
    """The header of the block that has the record."""
    hash: str
    """The block's hash. For example `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    signature: str
    """The node's signature over it, in base64url.
    For example `5VZDAMNgrHKQhuLMgG6CioSHfx645dl02HPgZSJJAVVfuIIVkKM7rMYeOXAc-bRr0lv18FlbviRlUUFDjnoQCw`."""
    index: int
    """Which record of the block it is, from 0. For example `0`."""
    path: tuple[str, ...]
    """The hashes beside the way from the record to the Merkle root."""


class SignedReceipt(ReceiptClaims, frozen=True, kw_only=True):
    """The signed statement of one paid job."""

    node_signature: str
    """The node's Ed25519 signature over all the rest, in base64url.
    For example `5VZDAMNgrHKQhuLMgG6CioSHfx645dl02HPgZSJJAVVfuIIVkKM7rMYeOXAc-bRr0lv18FlbviRlUUFDjnoQCw`."""


class Receipt(Struct, frozen=True, kw_only=True):
    """A receipt with its proof of inclusion: the file that `aitbc receipt verify` reads."""

    receipt: SignedReceipt
    """The signed statement."""
    proof: InclusionProof | None
    """None for a moment, until the next block."""


class ReceiptLine(Struct, frozen=True, kw_only=True):
    """A receipt in a list."""

    id: str
    """The receipt. For example `rcpt_01k0000000000000000000000a`."""
    job: str
    """The job. For example `job_01k0000000000000000000000a`."""
    kind: str
    """The kind of work, one of `GET /api/v1/ai/kinds`. For example `chat`."""
    payer: str
    """Who paid. For example `acct_01k0000000000000000000000a`."""
    miner: str
    """Who did the work. For example `mnr_01k0000000000000000000000a`."""
    miner_account: str
    """Whose miner that is. For example `acct_01k0000000000000000000000b`."""
    price: str
    """What the payer paid, in AITBC. For example `0.0125`."""
    fee: str
    """The platform's share of it, in AITBC. For example `0.0003125`."""
    earned: str
    """What the miner's account got, in AITBC. For example `0.0121875`."""
    issued_at: datetime
    """When it was issued."""
    transaction: str
    """The transaction that paid. For example `txn_01k0000000000000000000000a`."""


class Found(Struct, frozen=True, kw_only=True):
    """Where a search leads."""

    kind: Annotated[str, one_of(("block", "transaction", "address", "receipt", "miner", "hold"))]
    """What it is. For example `receipt`."""
    id: str
    """Its id, or a block's number. For example `rcpt_01k0000000000000000000000a`."""
    path: str
    """Where it can be read. For example `/api/v1/trading/receipts/rcpt_01k0000000000000000000000a`."""


class NodeKey(Struct, frozen=True, kw_only=True):
    """A public key that the node signs, or once signed, receipts and blocks with."""

    public_key: str
    """Ed25519, in base64url. For example `11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo`."""
    first_used_at: datetime
    """When it first signed."""


class Divergence(Struct, frozen=True, kw_only=True):
    """The first thing that does not hold."""

    height: int | None
    """The block; none for what is not sealed yet or lies outside of the chain."""
    record: str | None
    """The record; null where it is the block itself. For example `txn_01k0000000000000000000000a`."""
    field: str
    """What of it does not hold. For example `digest`."""
    message: str
    """In what way. For example `the record is not the one that was sealed`."""


class LedgerReport(Struct, frozen=True, kw_only=True):
    """The outcome of verifying the ledger from its first record on."""

    ok: bool
    """Whether everything holds. For example `true`."""
    height: int
    """The number of the last block. For example `12`."""
    head: str | None
    """Its hash; null without any.
    For example `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    transactions: int
    """How many transactions were verified. For example `40`."""
    entries: int
    """How many entries of accounts. For example `96`."""
    receipts: int
    """How many receipts. For example `17`."""
    unsealed: int
    """How many records are not in a block yet. For example `0`."""
    accounts: int
    """How many accounts. For example `5`."""
    divergence: Divergence | None
    """The first thing that does not hold; null where all does."""
