"""What goes into blocks: the canonical records of transactions and receipts.

The fields of these structs stand in the order of their names, so that encoding them in that order is the canonical
form; a test compares it with the general one in kernel/crypto/chain_format.py.
"""

import hashlib
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from aitbc.kernel.crypto import chain_format
from aitbc.kernel.crypto.signing import Key

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


class ReceiptClaims(Struct, frozen=True, kw_only=True):
    """All of a receipt that the node signs."""

    attempt: str
    earned: str
    fee: str
    fee_basis_points: int
    finished_at: Stamp
    id: str
    input_digest: str
    issued_at: Stamp
    job: str
    kind: str
    miner: str
    miner_account: str
    miner_key: str
    miner_signature: str
    node_key: str
    output_digest: str
    payer: str
    price: str
    started_at: Stamp
    token: int
    transaction: str
    unit: str
    units: str
    version: str = chain_format.RECEIPT


def stamp(at: datetime) -> str:
    """RFC 3339 in UTC with microseconds: `2026-01-31T12:00:00.000000Z`."""
    return f"{at.isoformat(timespec='microseconds')[:-6]}Z"


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
