"""The tables of legacy miners, which know names and jobs only.

The miner that a name means, and the lease that a job has.
"""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, LargeBinary, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.gpu.models.tables import MOMENT, Base, MinerRow


class LegacyMinerRow(Base):
    """A miner that has no key of its own: it calls itself by a name, and the server signs for it."""

    __tablename__ = "older_miners"
    account: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    legacy_id: Mapped[str] = mapped_column("older_id", Text, primary_key=True)
    """The name that the miner chose; one that was removed and registers again keeps it."""
    sealed_key: Mapped[bytes] = mapped_column(LargeBinary)
    """The seed of its Ed25519 key, sealed."""
    miner: Mapped[str | None] = mapped_column(WireId("mnr"), ForeignKey(MinerRow.id), unique=True)
    """Who it is now; none while its first registration is not through."""
    price_units: Mapped[int | None] = mapped_column(BigInteger)
    """What it says that an hour of it costs, in minor units."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)

    __table_args__ = (
        CheckConstraint("price_units >= 0", name="price"),
        {"info": NO_DELETE},
    )


class LegacyLeaseRow(Base):
    """A lease of a legacy miner, which knows no leases: what it takes to deliver under it, and its end."""

    __tablename__ = "older_leases"
    attempt: Mapped[str] = mapped_column(WireId("att"), primary_key=True)
    job: Mapped[str] = mapped_column(WireId("job"))
    token: Mapped[int] = mapped_column(Integer)
    miner: Mapped[str] = mapped_column(WireId("mnr"), ForeignKey(MinerRow.id))
    kind: Mapped[str] = mapped_column(Text)
    input_digest: Mapped[str] = mapped_column(Text)
    taken_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)
    receipt: Mapped[str | None] = mapped_column(WireId("rcpt"))
    earned_units: Mapped[int | None] = mapped_column(BigInteger)
    """What the miner was paid, after fees; none before that, or where the ledger settled later."""

    __table_args__ = (
        CheckConstraint("receipt IS NULL OR ended_at IS NOT NULL", name="receipt"),
        Index("older_leases_job_idx", "job", "token"),
        Index("older_leases_miner_idx", "miner", "taken_at"),
        Index("older_leases_open_idx", "miner", postgresql_where=text("ended_at IS NULL")),
        {"info": NO_DELETE},
    )
