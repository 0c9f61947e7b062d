"""Work that was agreed on: what its jobs are asked until they are placed, and which they are.

placing ──► placed ──► ended        one that is refused ends at once
"""

from datetime import datetime, timedelta

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.marketplace.models.tables import Base, OfferRow

MOMENT = DateTime(timezone=True)
PLACED_WITHIN = timedelta(hours=1)
"""What cannot be placed for so long after it was agreed on is refused: its sides have made other plans."""
WAITS = 21_600
"""How many seconds a job of it waits for its miner."""


class AgreedWorkRow(Base):
    """The jobs of an agreement."""

    __tablename__ = "agreed_work"
    __table_args__ = (
        CheckConstraint("state IN ('placing', 'placed', 'ended')", name="state"),
        CheckConstraint("(state = 'ended') = (ended_at IS NOT NULL)", name="ended"),
        CheckConstraint("unit_price_units > 0 AND job_price_units > 0", name="price"),
        Index("agreed_work_open_idx", "agreement", postgresql_where=text("ended_at IS NULL")),
        {"info": NO_DELETE},
    )
    agreement: Mapped[str] = mapped_column(Text, primary_key=True)
    offer: Mapped[str] = mapped_column(WireId("offer"), ForeignKey(OfferRow.id))
    payer: Mapped[str] = mapped_column(WireId("acct"))
    owner: Mapped[str] = mapped_column(WireId("acct"))
    miner: Mapped[str] = mapped_column(WireId("mnr"))
    kind: Mapped[str] = mapped_column(Text)
    unit_price_units: Mapped[int] = mapped_column(BigInteger)
    job_price_units: Mapped[int] = mapped_column(BigInteger)
    """The most that one of them costs."""
    inputs: Mapped[str] = mapped_column(Text)
    """JSON: what each is asked; an empty list once they are placed."""
    jobs: Mapped[list[str]] = mapped_column(ARRAY(Text))
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    """Why not all of them were placed, or how they ended."""
    paid_units: Mapped[int] = mapped_column(BigInteger)
    signed_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)
