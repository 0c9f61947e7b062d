"""Watches: accounts want to be told of what moves at an address, or is paid to a miner."""

from datetime import datetime
from typing import Annotated

from msgspec import Struct
from sqlalchemy import BigInteger, CheckConstraint, DateTime, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.money import render
from aitbc.modules.trading.models.tables import Base

SUBJECTS = ("account", "miner")


class WatchRow(Base):
    """What somebody wants to be told of, and how far it was looked at."""

    __tablename__ = "watches"
    __table_args__ = (
        CheckConstraint(f"subject IN {SUBJECTS}", name="subject"),
        CheckConstraint("above_units >= 0 AND seen >= 0", name="not_negative"),
        Index("watches_account_idx", "account", "id"),
        Index("watches_open_idx", "id", postgresql_where=text("ended_at IS NULL")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("wtch"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    """Who is told."""
    subject: Mapped[str] = mapped_column(Text)
    address: Mapped[str] = mapped_column(Text)
    """`acct_…` or `mnr_…`."""
    asset: Mapped[str] = mapped_column(Text)
    above_units: Mapped[int] = mapped_column(BigInteger)
    """What moves so much or more is told, in either direction."""
    label: Mapped[str | None] = mapped_column(Text)
    seen: Mapped[int] = mapped_column(BigInteger)
    """Of an account, the last entry of it that was looked at; of a miner, the last record of the chain."""
    told: Mapped[int] = mapped_column(BigInteger)
    """How many times it was told of something."""
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class AddressWatch(Struct, frozen=True, kw_only=True):
    """What you want to be told of."""

    id: str
    """The watch. For example `wtch_01k0000000000000000000000a`."""
    address: str
    """The account or miner that is watched. For example `acct_01k0000000000000000000000b`."""
    subject: Annotated[str, one_of(SUBJECTS)]
    """Whether that is an `account`, or a `miner`: then it is told of what is paid for its work."""
    asset: str
    """In which asset. For example `AITBC`."""
    above: str
    """How much must move for it to be told, in either direction. For example `10`."""
    label: str | None
    """What it is for, in your words. For example `treasury`."""
    told: int
    """How many times it was told of something. For example `3`."""
    created_at: datetime
    """When it was made: what moved before is not told."""
    ended_at: datetime | None
    """When it was removed; null while it watches."""


def watch_view(row: WatchRow) -> AddressWatch:
    """A watch as its account sees it."""
    return AddressWatch(
        id=row.id,
        address=row.address,
        subject=row.subject,
        asset=row.asset,
        above=render(row.above_units),
        label=row.label,
        told=row.told,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )
