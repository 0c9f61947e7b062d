"""The shapes of the older dialect, made from what the explorer shows."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from litestar.params import FromQuery
from msgspec import Meta, Struct

from aitbc.kernel.primitives.errors import NotDone
from aitbc.modules.trading.models.views import Block, LedgerTransaction, ReceiptLine, SignedReceipt

SERVICE = "trading-service"
CHAIN = "ait-devnet"
"""The name that older clients give to a chain that they do not name."""
CURRENCY = "AITBC"
READ = {"permission": "chain:read"}
Count = Annotated[int, Meta(ge=1, le=500)]
Offset = Annotated[int, Meta(ge=0, le=10_000)]
Name = Annotated[str | None, Meta(max_length=100)]
ChainId = FromQuery[Name]


class OlderBlock(Struct, frozen=True, kw_only=True):
    """A block, with both names that older clients have for its count."""

    height: int
    hash: str
    parent_hash: str | None
    timestamp: str
    txCount: int  # noqa: N815 - the wire's name
    tx_count: int
    proposer: str
    """The node's public key."""


class OlderTransaction(Struct, frozen=True, kw_only=True, rename={"sender": "from", "receiver": "to"}):
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


class OlderReceipt(Struct, frozen=True, kw_only=True):
    """A paid job."""

    receiptId: str  # noqa: N815 - the wire's names
    jobId: str  # noqa: N815
    miner: str
    coordinator: str
    """Who paid, as the older explorer had it."""
    issuedAt: datetime  # noqa: N815
    status: str
    payload: dict[str, Any]


class BlockItems(Struct, frozen=True, kw_only=True):
    """Blocks, newest first."""

    items: tuple[OlderBlock, ...]
    next_offset: int | None


class BlockPage(Struct, frozen=True, kw_only=True):
    """Blocks, newest first, of all that there are."""

    blocks: tuple[OlderBlock, ...]
    limit: int
    chain_id: str
    total: int


class ReceiptPage(Struct, frozen=True, kw_only=True):
    """Receipts, newest first, of all that there are."""

    receipts: tuple[OlderReceipt, ...]
    limit: int
    job_id: str | None
    total: int


def block_of(block: Block) -> OlderBlock:
    """A block in the older shape."""
    return OlderBlock(
        height=block.height,
        hash=block.hash,
        parent_hash=block.previous,
        timestamp=block.time,
        txCount=block.records,
        tx_count=block.records,
        proposer=block.node_key,
    )


def transaction_of(transaction: LedgerTransaction) -> OlderTransaction:
    """A transaction in the older shape."""
    moved = sorted(transaction.entries, key=lambda entry: Decimal(entry.amount))
    sealed = transaction.sealed
    return OlderTransaction(
        hash=transaction.id,
        block=None if sealed is None else sealed.height,
        sender=moved[0].account if moved else "",
        receiver=moved[-1].account if moved else "",
        value=moved[-1].amount if moved else "0",
        status="pending" if sealed is None else "confirmed",
        timestamp=transaction.at,
        kind=transaction.kind,
    )


def receipt_of(line: ReceiptLine, signed: SignedReceipt) -> OlderReceipt:
    """A receipt in the older shape."""
    return OlderReceipt(
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


def pages(rows: Sequence[Any], offset: int, limit: int) -> tuple[Sequence[Any], int | None]:
    """What is asked for of rows that were read from the first on, one more than needed; and where the rest begins."""
    wanted = rows[offset : offset + limit]
    return wanted, offset + limit if len(rows) > offset + limit else None


def later() -> NotDone:
    """The refusal of what the marketplace will do."""
    return NotDone(
        "Requests, matches, agreements and settlements between agents come with the marketplace module, which is not built yet. "
        "Jobs are bought through /api/v1/ai/jobs."
    )
