"""The shapes of the legacy dialect, made from what the explorer shows."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from aitbc.modules.trading.models.views import Block, LedgerTransaction, ReceiptLine, SignedReceipt


class LegacyBlock(Struct, frozen=True, kw_only=True):
    """A block, with both names that legacy clients have for its count."""

    height: int
    hash: str
    parent_hash: str | None
    timestamp: str
    txCount: int  # noqa: N815 - the wire's name
    tx_count: int
    proposer: str
    """The node's public key."""


class LegacyTransaction(Struct, frozen=True, kw_only=True, rename={"sender": "from", "receiver": "to"}):
    """Money that moved: whose balance fell most, and whose rose most."""

    hash: str
    block: int | None
    """None for a moment, until it is sealed."""
    sender: str
    receiver: str
    value: str
    status: str
    timestamp: datetime
    kind: str


class LegacyReceipt(Struct, frozen=True, kw_only=True):
    """A paid job."""

    receiptId: str  # noqa: N815 - the wire's names
    jobId: str  # noqa: N815
    miner: str
    coordinator: str
    """Who paid, as the explorer before had it."""
    issuedAt: datetime  # noqa: N815
    status: str
    payload: dict[str, Any]


class BlockPage(Struct, frozen=True, kw_only=True):
    """Blocks, newest first, of all that there are."""

    blocks: tuple[LegacyBlock, ...]
    limit: int
    chain_id: str | UnsetType = UNSET
    """Absent at `/blocks`."""
    total: int


class ReceiptPage(Struct, frozen=True, kw_only=True):
    """Receipts, newest first, of all that there are."""

    receipts: tuple[LegacyReceipt, ...]
    limit: int
    job_id: str | UnsetType | None = UNSET
    """Absent at `/receipts`."""
    total: int


def block_of(block: Block) -> LegacyBlock:
    """A block in the legacy shape."""
    return LegacyBlock(
        height=block.height,
        hash=block.hash,
        parent_hash=block.previous,
        timestamp=block.time,
        txCount=block.records,
        tx_count=block.records,
        proposer=block.node_key,
    )


def transaction_of(transaction: LedgerTransaction) -> LegacyTransaction:
    """A transaction in the legacy shape; its value is what it moved of AITBC, the one asset that this dialect knows."""
    native = [entry for entry in transaction.entries if isinstance(entry.asset, UnsetType)]
    moved = sorted(native or transaction.entries, key=lambda entry: Decimal(entry.amount))
    sealed = transaction.sealed
    return LegacyTransaction(
        hash=transaction.id,
        block=None if sealed is None else sealed.height,
        sender=moved[0].account if moved else "",
        receiver=moved[-1].account if moved else "",
        value=moved[-1].amount if native else "0",
        status="pending" if sealed is None else "confirmed",
        timestamp=transaction.at,
        kind=transaction.kind,
    )


def receipt_of(line: ReceiptLine, signed: SignedReceipt) -> LegacyReceipt:
    """A receipt in the legacy shape."""
    return LegacyReceipt(
        receiptId=line.id,
        jobId=line.job,
        miner=line.miner,
        coordinator=line.payer,
        issuedAt=line.issued_at,
        status="Succeeded",
        payload={
            "units": float(signed.units),
            "unit_type": signed.unit,
            "price": float(signed.price),
            "fee": float(signed.fee),
            "earned": float(signed.earned),
            "provider": line.miner,
            "client": line.payer,
            "started_at": signed.started_at,
            "completed_at": signed.finished_at,
            "signature": signed.node_signature,
        },
    )
