"""What goes into blocks: the canonical records of transactions and receipts.

The fields of these structs stand in the order of their names, so that encoding them in that order is the canonical
form; a test compares it with the general one in kernel/crypto/chain_format.py.
"""

import hashlib
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from aitbc.kernel.crypto import chain_format
from aitbc.kernel.crypto.signing import Key
from aitbc.modules.trading.api import SettleHold

KINDS = (
    *("deposit", "faucet", "hold", "settle", "void", "expire", "correction", "rent", "transfer", "refund"),
    *("order", "trade", "cancel"),
)
"""What transactions are."""
Stamp = Annotated[
    str,
    Meta(extra_json_schema={"format": "date-time", "examples": ["2030-01-31T12:00:00.000000Z"]}, description="UTC."),
]
"""A time as records have it, see `stamp`."""
_encode = msgspec.json.Encoder().encode


class EntryRecord(Struct, frozen=True, kw_only=True):
    """One account's part, in the record of a transaction."""

    account: str
    """`owner/purpose`."""
    amount: str
    asset: str | UnsetType = UNSET
    """What it is counted in; absent for AITBC."""
    balance: str
    """The balance after it."""
    version: int
    """The how-manieth entry of this account it is."""


class TransactionRecord(Struct, frozen=True, kw_only=True):
    """A ledger transaction, as a block seals it."""

    at: Stamp
    entries: list[EntryRecord]
    hold: str | None
    id: str
    kind: str
    reason: str | None
    reference: str | None
    version: str = chain_format.TRANSACTION


class ReceiptDevice(Struct, frozen=True, kw_only=True):
    """A GPU that a job had, as its receipt names it; the fields stand in the order of their names."""

    index: int | None
    """Its number among the GPUs of its miner. For example `0`."""
    is_whole: bool
    """Whether no other job had it at the same time."""
    memory_mib: int
    """How much of its memory the job might hold, in MiB. For example `24576`."""
    uuid_digest: str
    """SHA-256 of its uuid. For example
    `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""


class ReceiptAnswer(Struct, frozen=True, kw_only=True):
    """An answer that was compared to verify a job; the fields stand in the order of their names."""

    agrees: bool
    """Whether it agrees with the one that was taken. For example `true`."""
    attempt: str
    """The attempt that brought it. For example `att_01k0000000000000000000000a`."""
    output_digest: str
    """SHA-256 of it as canonical JSON. For example
    `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    trusted: bool
    """Whether an operator had its miner down as trusted. For example `false`."""


class ReceiptVerification(Struct, frozen=True, kw_only=True):
    """How the work of a job was verified; the fields stand in the order of their names."""

    answers: tuple[ReceiptAnswer, ...]
    """All answers, in the order in which they came."""
    rule: str
    """When two answers agree. For example `each cosine at least 0.999`."""
    tier: str
    """What the job asked for. For example `quorum:3`."""
    verdict: str
    """`valid`, `trusted` (a trusted miner did it) or `unchecked` (a sampled job that was not drawn).
    For example `valid`."""


class ReceiptClaims(Struct, frozen=True, kw_only=True):
    """All of a receipt that the node signs."""

    attempt: str
    """The attempt. For example `att_01k0000000000000000000000a`."""
    devices: tuple[ReceiptDevice, ...] | UnsetType = UNSET
    """The GPUs that were reserved for the job; absent where it asked for none."""
    earned: str
    """What the miner's account got, in AITBC. For example `0.0121875`."""
    fee: str
    """The platform's share of the price, in AITBC. For example `0.0003125`."""
    fee_basis_points: int
    """That share in 1/10 000. For example `250`."""
    finished_at: Stamp
    """When the result was accepted. For example `2030-01-31T12:00:00.000000Z`."""
    id: str
    """The receipt. For example `rcpt_01k0000000000000000000000a`."""
    input_digest: str
    """SHA-256 of the input as canonical JSON. For example
    `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    issued_at: Stamp
    """When the receipt was issued. For example `2030-01-31T12:00:00.000000Z`."""
    job: str
    """The job. For example `job_01k0000000000000000000000a`."""
    kind: str
    """The kind of work, one of `GET /api/v1/ai/kinds`. For example `chat`."""
    miner: str
    """Who did the work. For example `mnr_01k0000000000000000000000a`."""
    miner_account: str
    """Whose miner that is. For example `acct_01k0000000000000000000000b`."""
    miner_key: str
    """The miner's public key, in base64url. For example `11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo`."""
    miner_signature: str
    """The miner's signature over its work statement, in base64url.
    For example `5VZDAMNgrHKQhuLMgG6CioSHfx645dl02HPgZSJJAVVfuIIVkKM7rMYeOXAc-bRr0lv18FlbviRlUUFDjnoQCw`."""
    node_key: str
    """The node's public key, in base64url. For example `11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo`."""
    offer: str | UnsetType = UNSET
    """The offer at which it was done; absent where the platform's price held.
    For example `offer_01k0000000000000000000000a`."""
    output_digest: str
    """SHA-256 of the output as canonical JSON. For example
    `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    payer: str
    """Who paid. For example `acct_01k0000000000000000000000a`."""
    price: str
    """What the payer paid, in AITBC. For example `0.0125`."""
    started_at: Stamp
    """When the attempt began. For example `2030-01-31T12:00:00.000000Z`."""
    token: int
    """The fencing token of the lease. For example `7`."""
    transaction: str
    """The transaction that paid. For example `txn_01k0000000000000000000000a`."""
    unit: str
    """What was metered. For example `byte`."""
    unit_price: str | UnsetType = UNSET
    """What that offer asked for one unit when the job was claimed, in AITBC. For example `0.00002`."""
    units: str
    """How many units were metered, as text. For example `62500`."""
    verification: ReceiptVerification | UnsetType = UNSET
    """How it was verified; absent where the job asked for nothing."""
    version: str = chain_format.RECEIPT
    """The form of the receipt. For example `aitbc.receipt.v1`."""


def stamp(at: datetime) -> str:
    """RFC 3339 in UTC with microseconds: `2026-01-31T12:00:00.000000Z`."""
    return f"{at.isoformat(timespec='microseconds')[:-6]}Z"


def devices_of(command: SettleHold) -> tuple[ReceiptDevice, ...] | UnsetType:
    """The GPUs of a settlement, as its receipt names them."""
    if isinstance(command.devices, UnsetType):
        return UNSET
    return msgspec.convert(command.devices, tuple[ReceiptDevice, ...])


def verification_of(command: SettleHold) -> ReceiptVerification | UnsetType:
    """How the work of a settlement was verified, as its receipt says it."""
    if isinstance(command.verification, UnsetType):
        return UNSET
    return msgspec.convert(command.verification, ReceiptVerification)


def encode_transaction(record: TransactionRecord) -> bytes:
    """The canonical bytes of a transaction."""
    return _encode(record)


def sign_receipt(claims: ReceiptClaims, key: Key) -> bytes:
    """The canonical bytes of a receipt with the node's signature in its place."""
    unsigned = _encode(claims)
    signature = key.sign(unsigned)
    # `node_signature` follows `node_key` in the order of names; both are plain base 64 and need no escaping.
    place = f'"node_key":"{claims.node_key}",'.encode()
    head, _, tail = unsigned.partition(place)
    return b"".join((head, place, f'"node_signature":"{signature}",'.encode(), tail))


def digest(record: bytes) -> bytes:
    """What the tree of a block is made of."""
    return hashlib.sha256(record).digest()
