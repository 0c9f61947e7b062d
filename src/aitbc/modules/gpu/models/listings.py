"""GPUs that their owners list for rent, and what others say of them."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import APPEND_ONLY, NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.gpu.models.tables import MOMENT, Base


class ListedGpuRow(Base):
    """A GPU that its owner lists, with what the owner says of it."""

    __tablename__ = "listed_gpus"
    id: Mapped[str] = mapped_column(WireId("gpu"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    miner_name: Mapped[str] = mapped_column(Text)
    miner: Mapped[str | None] = mapped_column(WireId("mnr"))
    """The miner that it is in, where its owner named one by its id; else a legacy miner may have that name."""
    model: Mapped[str] = mapped_column(Text)
    words: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """The words of the model: a GPU that its miner shows must have all of them in its name."""
    memory_gb: Mapped[int | None] = mapped_column(Integer)
    cuda_cores: Mapped[int | None] = mapped_column(Integer)
    compute_capability: Mapped[str | None] = mapped_column(Text)
    region: Mapped[str | None] = mapped_column(Text)
    price_units: Mapped[int] = mapped_column(BigInteger)
    """For an hour."""
    description: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    removed_at: Mapped[datetime | None] = mapped_column(MOMENT)

    __table_args__ = (
        CheckConstraint("price_units >= 0 AND memory_gb >= 0 AND cuda_cores >= 0", name="facts"),
        Index("listed_gpus_account_idx", "account", "id", postgresql_where=text("removed_at IS NULL")),
        Index("listed_gpus_created_at_idx", "created_at", "id", postgresql_where=text("removed_at IS NULL")),
        {"info": NO_DELETE},
    )


class GpuReviewRow(Base):
    """What an account says of somebody else's GPU, once."""

    __tablename__ = "gpu_reviews"
    id: Mapped[str] = mapped_column(WireId("rev"), primary_key=True)
    gpu: Mapped[str] = mapped_column(WireId("gpu"), ForeignKey(ListedGpuRow.id))
    account: Mapped[str] = mapped_column(WireId("acct"))
    rating: Mapped[int] = mapped_column(SmallInteger)
    comment: Mapped[str] = mapped_column(Text)
    booking: Mapped[str | None] = mapped_column(WireId("book"))
    """The booking by which it is known to have used the GPU; one without counts for nothing and is not shown."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)

    __table_args__ = (
        CheckConstraint("rating BETWEEN 1 AND 5", name="rating"),
        UniqueConstraint("gpu", "account"),
        Index("gpu_reviews_gpu_idx", "gpu", "created_at", "id"),
        {"info": APPEND_ONLY},
    )
