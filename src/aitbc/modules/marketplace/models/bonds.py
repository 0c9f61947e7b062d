"""Bonds: money that owners lock so that those whom they harm get it, and what is taken of it, with its evidence.

bond:   locking ──► locked ──► leaving ──► ended        locking again after a part of it was taken
slash:  announced ⇄ appealed ──► paying ──► paid        or dropped
"""

from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Struct
from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.modules.marketplace.models.tables import Base

MOMENT = DateTime(timezone=True)
LEAST_UNITS = 10**8
"""The least that a bond is: one AITBC."""
APPEAL_WITHIN = timedelta(hours=72)
"""How long an owner may appeal before what was announced is taken."""
DECIDE_WITHIN = timedelta(days=7)
"""An appeal that nobody decided for so long is granted: nothing is taken without a word of the operator's."""
LEAVES_AFTER = timedelta(days=30)
"""How long a bond stays after its owner wants it back: longer than what was done before can be disputed and decided."""
HELD_FOR = timedelta(days=3_650)
BOND_STATES = ("locking", "locked", "leaving", "ended")
SLASH_STATES = ("announced", "appealed", "paying", "paid", "dropped")
OPEN = text("state <> 'ended'")


class BondRow(Base):
    """What an owner has locked; one at a time."""

    __tablename__ = "bonds"
    __table_args__ = (
        CheckConstraint(f"state IN {BOND_STATES}", name="state"),
        CheckConstraint("amount_units >= 0 AND slashed_units >= 0", name="not_negative"),
        CheckConstraint("(state = 'ended') = (ended_at IS NOT NULL)", name="ended"),
        Index("bonds_account_key", "account", unique=True, postgresql_where=OPEN),
        Index("bonds_open_idx", "id", postgresql_where=OPEN),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("bond"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    amount_units: Mapped[int] = mapped_column(BigInteger)
    slashed_units: Mapped[int] = mapped_column(BigInteger)
    hold: Mapped[str] = mapped_column(WireId("hold"))
    state: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    leaves_at: Mapped[datetime | None] = mapped_column(MOMENT)
    """When it goes back to its owner, who wants it; none while it stays."""
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)


class SlashRow(Base):
    """What a decided dispute takes of a bond, because the owner had too little to give back."""

    __tablename__ = "slashes"
    __table_args__ = (
        CheckConstraint(f"state IN {SLASH_STATES}", name="state"),
        CheckConstraint("amount_units > 0 AND fee_units >= 0", name="amounts"),
        CheckConstraint("(state IN ('paid', 'dropped')) = (ended_at IS NOT NULL)", name="ended"),
        Index("slashes_dispute_key", "dispute", unique=True),
        Index("slashes_bond_idx", "bond", "id"),
        Index("slashes_open_idx", "id", postgresql_where=text("ended_at IS NULL")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("slsh"), primary_key=True)
    bond: Mapped[str] = mapped_column(WireId("bond"), ForeignKey(BondRow.id))
    dispute: Mapped[str] = mapped_column(WireId("dspt"))
    """The evidence: a dispute that was decided against the owner."""
    owner: Mapped[str] = mapped_column(WireId("acct"))
    payer: Mapped[str] = mapped_column(WireId("acct"))
    """Who was harmed, and gets it."""
    amount_units: Mapped[int] = mapped_column(BigInteger)
    fee_units: Mapped[int] = mapped_column(BigInteger)
    """The platform's fee of it, which goes back beside it."""
    state: Mapped[str] = mapped_column(Text)
    appeal: Mapped[str | None] = mapped_column(Text)
    resolution: Mapped[str | None] = mapped_column(Text)
    due_at: Mapped[datetime] = mapped_column(MOMENT)
    """Announced: when it is taken. Appealed: when the appeal is granted unless somebody decides."""
    transaction: Mapped[str | None] = mapped_column(WireId("txn"))
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)


class MarketSlash(Struct, frozen=True, kw_only=True):
    """What is taken of a bond, for whom and why."""

    id: str
    """What is taken. For example `slsh_01k0000000000000000000000a`."""
    dispute: str
    """Its evidence: the dispute that was decided against the owner. For example `dspt_01k0000000000000000000000a`."""
    payer: str
    """Who gets it. For example `acct_01k0000000000000000000000a`."""
    amount: str
    """Out of the bond, in AITBC. For example `0.5`."""
    state: Annotated[str, one_of(SLASH_STATES)]
    """`announced` while the owner may appeal, `appealed`, `paying`, `paid`, or `dropped`: nothing was taken."""
    appeal: str | None
    """What the owner says against it; null before. For example `The miner was up.`."""
    resolution: str | None
    """What the operator says of the appeal; null before. For example `Its logs end.`."""
    due_at: datetime
    """When it is taken; of one that is appealed, when that is granted unless the operator decides."""
    transaction: str | None
    """The transaction that paid it; null before. For example `txn_01k0000000000000000000000a`."""


class MarketBond(Struct, frozen=True, kw_only=True):
    """What an owner has locked, so that those whom the owner harms get it."""

    id: str
    """The bond. For example `bond_01k0000000000000000000000a`."""
    account: str
    """Whose it is. For example `acct_01k0000000000000000000000b`."""
    amount: str
    """What is locked, in AITBC. For example `50`."""
    slashed: str
    """What was taken of it so far, in AITBC. For example `0.5`."""
    state: Annotated[str, one_of(BOND_STATES)]
    """`locking`, `locked`, `leaving` or `ended`; only a `locked` one gives the mark `bonded`."""
    created_at: datetime
    """When it was made."""
    leaves_at: datetime | None
    """When it goes back to its owner; null while it stays."""
    ended_at: datetime | None
    """When it was over."""
    slashes: tuple[MarketSlash, ...]
    """What was taken of it, or is to be, the newest first; 50 at most."""


def slash_view(row: SlashRow) -> MarketSlash:
    """A slash as both sides see it."""
    return MarketSlash(
        id=row.id,
        dispute=row.dispute,
        payer=row.payer,
        amount=money.render(row.amount_units),
        state=row.state,
        appeal=row.appeal,
        resolution=row.resolution,
        due_at=row.due_at,
        transaction=row.transaction,
    )


def bond_view(row: BondRow, slashes: list[SlashRow]) -> MarketBond:
    """A bond as everybody sees it."""
    return MarketBond(
        id=row.id,
        account=row.account,
        amount=money.render(row.amount_units),
        slashed=money.render(row.slashed_units),
        state=row.state,
        created_at=row.created_at,
        leaves_at=row.leaves_at,
        ended_at=row.ended_at,
        slashes=tuple(slash_view(one) for one in slashes),
    )
