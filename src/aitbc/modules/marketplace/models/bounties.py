"""Bounties: what the first miner gets that serves a model which jobs wait for and nobody serves; rows, rules and views.

asked ──► open ──► paying ──► paid        one that nobody wants any more, or whose money was not there, is withdrawn
"""

from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Struct
from sqlalchemy import BigInteger, CheckConstraint, DateTime, Index, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.modules.marketplace.models.tables import Base

MOMENT = DateTime(timezone=True)
STATES = ("asked", "open", "paying", "paid", "withdrawn")
SHARES_FIRST, SHARES_A_SECOND, SHARES_MOST = 100, 3, 86_400
"""A bounty begins with so many shares, grows by so many a second, and never has more than so many."""
HELD_FOR = timedelta(days=30)
"""Longer than a job may wait and be worked on."""
JOBS_MAX = 50
"""So many jobs that wait for a model are looked after; whoever does the first of them gets the bounty."""


class BountyRow(Base):
    """A bounty for serving a model."""

    __tablename__ = "bounties"
    __table_args__ = (
        CheckConstraint(f"state IN {STATES}", name="state"),
        CheckConstraint("held_units > 0 AND share_units > 0", name="held"),
        CheckConstraint("amount_units BETWEEN 0 AND held_units", name="amount"),
        CheckConstraint("(state IN ('paying', 'paid')) = (job IS NOT NULL)", name="served"),
        CheckConstraint("(job IS NULL) = (miner IS NULL) AND (job IS NULL) = (owner IS NULL)", name="by"),
        CheckConstraint("(state IN ('paid', 'withdrawn')) = (ended_at IS NOT NULL)", name="ended"),
        Index("bounties_open_key", "kind", "model", unique=True, postgresql_where=text("ended_at IS NULL")),
        Index("bounties_open_idx", "id", postgresql_where=text("ended_at IS NULL")),
        Index("bounties_paid_idx", "ended_at", postgresql_where=text("state = 'paid'")),
        Index("bounties_model_idx", "kind", "model", "ended_at", postgresql_where=text("state = 'paid'")),
        Index("bounties_job_key", "job", unique=True, postgresql_where=text("job IS NOT NULL")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("bnty"), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    jobs: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """Jobs that wait for it, the first submitted first."""
    since: Mapped[datetime] = mapped_column(MOMENT)
    """When the first of them was submitted."""
    payer: Mapped[str] = mapped_column(WireId("acct"))
    hold: Mapped[str] = mapped_column(WireId("hold"))
    held_units: Mapped[int] = mapped_column(BigInteger)
    """The most that it can become."""
    share_units: Mapped[int] = mapped_column(BigInteger)
    """What one share of it is worth."""
    state: Mapped[str] = mapped_column(Text)
    amount_units: Mapped[int] = mapped_column(BigInteger)
    """What was paid; 0 before."""
    job: Mapped[str | None] = mapped_column(WireId("job"))
    """The job by which somebody served it first."""
    miner: Mapped[str | None] = mapped_column(WireId("mnr"))
    owner: Mapped[str | None] = mapped_column(WireId("acct"))
    transaction: Mapped[str | None] = mapped_column(WireId("txn"))
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)


class MarketBounty(Struct, frozen=True, kw_only=True):
    """What the first miner gets that serves a model which jobs wait for and nobody who is online serves."""

    id: str
    """The bounty. For example `bnty_01k0000000000000000000000a`."""
    job_kind: str
    """The kind of work. For example `chat`."""
    model: str
    """The model. For example `llama-3-8b`."""
    jobs: int
    """How many jobs wait for it, 50 at most. For example `3`."""
    since: datetime
    """Since when."""
    state: Annotated[str, one_of(STATES)]
    """`asked` while its money is being set aside, `open`, `paying`, `paid`, or `withdrawn` where nobody wants it.
    For example `open`."""
    amount: str
    """What it is worth now, in AITBC: it grows while it is open. For example `0.052`."""
    most: str
    """What it can become, in AITBC: so much is held. For example `0.864`."""
    job: str | None
    """The job by which it was served first; null before. For example `job_01k0000000000000000000000a`."""
    miner: str | None
    """The miner that served it first; null before. For example `mnr_01k0000000000000000000000a`."""
    transaction: str | None
    """The payment; null before. For example `txn_01k0000000000000000000000a`."""
    created_at: datetime
    """When it was made."""
    ended_at: datetime | None
    """When it was paid or withdrawn; null before."""


def worth(row: BountyRow, at: datetime) -> int:
    """What a bounty is worth at a time, by how long the first job has waited; never more than is held."""
    waited = max(0, (at - row.since) // timedelta(seconds=1))
    return min(row.held_units, min(SHARES_A_SECOND * waited + SHARES_FIRST, SHARES_MOST) * row.share_units)


def bounty_view(row: BountyRow, at: datetime) -> MarketBounty:
    """A bounty as everybody sees it."""
    amount = worth(row, at) if row.state in ("asked", "open") else row.amount_units
    return MarketBounty(
        id=row.id,
        job_kind=row.kind,
        model=row.model,
        jobs=len(row.jobs),
        since=row.since,
        state=row.state,
        amount=money.render(amount),
        most=money.render(row.held_units),
        job=row.job,
        miner=row.miner,
        transaction=row.transaction,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )
