"""Disputes about what was paid: money of the owner is set aside, both sides speak, and one word or time divides it.

opening ──► open ──► deciding ──► closed        opening until the money is set aside, deciding until it has moved
"""

from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import APPEND_ONLY, NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.gpu.api import DISPUTED_WITHIN
from aitbc.modules.marketplace.models.tables import Base

MOMENT = DateTime(timezone=True)
WITHIN = DISPUTED_WITHIN
"""How long after the payment, or the end of a booking, it can be disputed."""
LASTS = timedelta(days=7)
"""A dispute that nobody decided for so long ends by its default outcome."""
HELD_AFTER = timedelta(days=30)
"""How much longer than the dispute its money is held: a refund that was missed is made within this time."""
ALL, HALF, NOTHING = 10_000, 5_000, 0
"""Shares of what is disputed, in 1/10 000."""
BY = ("operator", "owner", "payer", "time")
"""Who ended a dispute: the operator decided, the owner conceded, the payer withdrew, or its time was over."""


class DisputeState(StrEnum):
    """Where a dispute is in its life."""

    OPENING = "opening"
    OPEN = "open"
    DECIDING = "deciding"
    CLOSED = "closed"


MOVES: dict[DisputeState, frozenset[DisputeState]] = {
    DisputeState.OPENING: frozenset({DisputeState.OPEN}),
    DisputeState.OPEN: frozenset({DisputeState.DECIDING}),
    DisputeState.DECIDING: frozenset({DisputeState.CLOSED}),
    DisputeState.CLOSED: frozenset(),
}


class DisputeRow(Base):
    """A dispute about a receipt or a booking; there is one of each at most."""

    __tablename__ = "disputes"
    __table_args__ = (
        CheckConstraint(f"state IN {tuple(state.value for state in DisputeState)}", name="state"),
        CheckConstraint(f"decided_by IS NULL OR decided_by IN {BY}", name="decided_by"),
        CheckConstraint("(state IN ('deciding', 'closed')) = (decided_by IS NOT NULL)", name="decided"),
        CheckConstraint("(state IN ('deciding', 'closed')) = (share_basis_points IS NOT NULL)", name="shared"),
        CheckConstraint("share_basis_points BETWEEN 0 AND 10000", name="share"),
        CheckConstraint("(state = 'closed') = (closed_at IS NOT NULL)", name="closed"),
        CheckConstraint("account <> owner", name="own"),
        CheckConstraint("claim_units > 0 AND fee_units >= 0 AND due_units > 0", name="claimed"),
        CheckConstraint("claim_units = due_units + fee_units", name="adds_up"),
        CheckConstraint("held_units BETWEEN 0 AND due_units AND owed_units BETWEEN 0 AND due_units", name="held"),
        CheckConstraint("refunded_units BETWEEN 0 AND claim_units", name="refunded"),
        Index("disputes_subject_key", "subject", unique=True),
        Index("disputes_account_idx", "account", "id"),
        Index("disputes_owner_idx", "owner", "id"),
        Index("disputes_unfinished_idx", "id", postgresql_where=text("closed_at IS NULL")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("dspt"), primary_key=True)
    subject: Mapped[str] = mapped_column(Text)
    """The receipt of a job, or the booking."""
    account: Mapped[str] = mapped_column(WireId("acct"))
    """Who paid, and disputes."""
    owner: Mapped[str] = mapped_column(WireId("acct"))
    miner: Mapped[str] = mapped_column(WireId("mnr"))
    reason: Mapped[str] = mapped_column(Text)
    claim_units: Mapped[int] = mapped_column(BigInteger)
    """How much of the price is disputed: what the owner earned of that, and the fee."""
    due_units: Mapped[int] = mapped_column(BigInteger)
    fee_units: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text)
    hold: Mapped[str] = mapped_column(WireId("hold"))
    asked_units: Mapped[int | None] = mapped_column(BigInteger)
    """What is being set aside, while nobody knows whether it is."""
    held_units: Mapped[int] = mapped_column(BigInteger)
    """What is set aside of the owner's money: all that is due, as far as the owner has it."""
    decide_by: Mapped[datetime] = mapped_column(MOMENT)
    decided_by: Mapped[str | None] = mapped_column(Text)
    share_basis_points: Mapped[int | None] = mapped_column(Integer)
    """How much of the claim its payer gets back."""
    resolution: Mapped[str | None] = mapped_column(Text)
    owed_units: Mapped[int] = mapped_column(BigInteger)
    """What goes back out of what is set aside, once it is decided."""
    refunded_units: Mapped[int] = mapped_column(BigInteger)
    """What the payer got back, with the fee of it."""
    transaction: Mapped[str | None] = mapped_column(WireId("txn"))
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    closed_at: Mapped[datetime | None] = mapped_column(MOMENT)


class DisputeEvidenceRow(Base):
    """What a side said in a dispute."""

    __tablename__ = "dispute_evidence"
    __table_args__ = (Index("dispute_evidence_dispute_idx", "dispute", "id"), {"info": APPEND_ONLY})
    id: Mapped[str] = mapped_column(WireId("devi"), primary_key=True)
    dispute: Mapped[str] = mapped_column(WireId("dspt"), ForeignKey(DisputeRow.id))
    account: Mapped[str] = mapped_column(WireId("acct"))
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)


def parts_of(claim_units: int, price_units: int, fee_units: int) -> tuple[int, int]:
    """What of a claim the owner earned, and the platform's fee of it; of the whole price, exactly what was paid."""
    fee = claim_units * fee_units // price_units
    return claim_units - fee, fee


def owed(row: DisputeRow, share_basis_points: int) -> int:
    """What goes back to the payer out of what is set aside, at this share of the claim."""
    return min(row.held_units, row.due_units * share_basis_points // ALL)


def short_of(row: DisputeRow) -> int:
    """What was decided to go back beyond what could be set aside of the owner's money."""
    return max(0, row.due_units * (row.share_basis_points or 0) // ALL - row.owed_units)


def fee_of(row: DisputeRow, owed_units: int) -> int:
    """The platform's fee that goes back with it."""
    return row.fee_units * owed_units // row.due_units


def default_share(*, owner_spoke: bool) -> int:
    """What the payer gets back where nobody decided: half of it, or all where the owner never said a word."""
    return HALF if owner_spoke else ALL
