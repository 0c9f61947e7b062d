"""With whom accounts deal: whose jobs and bookings their miners take, and whose miners their own go to."""

from datetime import datetime
from typing import Annotated

from msgspec import Struct
from sqlalchemy import BigInteger, CheckConstraint, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.modules.marketplace.models.tables import MOMENT, Base

MODES = ("deny", "allow")
"""`deny` those who are named, or `allow` nobody else."""
ACCOUNTS_MAX = 200
"""How many accounts a list may name."""


class TermsRow(Base):
    """With whom an account deals; one that has none deals with everybody."""

    __tablename__ = "terms"
    __table_args__ = (
        CheckConstraint(f"buyers_mode IN {MODES} AND owners_mode IN {MODES}", name="modes"),
        {"info": NO_DELETE},
    )
    account: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)
    buyers_mode: Mapped[str] = mapped_column(Text)
    buyers: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """Whose jobs, bookings and bids its miners take."""
    owners_mode: Mapped[str] = mapped_column(Text)
    owners: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """Whose miners its own go to."""
    set_at: Mapped[datetime] = mapped_column(MOMENT)


class MarketList(Struct, frozen=True, kw_only=True):
    """Those who are denied, or those who alone are allowed."""

    mode: Annotated[str, one_of(MODES)] = "deny"
    """`deny` those who are named, or `allow` nobody else."""
    accounts: tuple[str, ...] = ()
    """Who is named. For example `["acct_01k0000000000000000000000b"]`."""

    def admits(self, account: str) -> bool:
        """Whether this list lets an account in."""
        return (self.mode == "allow") == (account in self.accounts)


class MarketTerms(Struct, frozen=True, kw_only=True):
    """With whom an account deals."""

    account: str
    """Whose terms they are. For example `acct_01k0000000000000000000000a`."""
    buyers: MarketList
    """Whose jobs and bookings its miners take."""
    owners: MarketList
    """Whose miners its own jobs and bookings go to."""
    set_at: datetime | None
    """When they were set; null where they never were, and it deals with everybody."""


def terms_view(account: str, row: TermsRow | None) -> MarketTerms:
    """The terms of an account."""
    if row is None:
        return MarketTerms(account=account, buyers=MarketList(), owners=MarketList(), set_at=None)
    return MarketTerms(
        account=account,
        buyers=MarketList(mode=row.buyers_mode, accounts=tuple(row.buyers)),
        owners=MarketList(mode=row.owners_mode, accounts=tuple(row.owners)),
        set_at=row.set_at,
    )
