"""The tables of marketplace."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Index,
    Integer,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aitbc.kernel.database.standard_tables import ALL, NO_DELETE, module_metadata
from aitbc.kernel.database.unit_of_work import WireId

MOMENT = DateTime(timezone=True)
OPEN = text("state = 'open'")
HOUR = "(price_units::numeric * units_hour::numeric)"
"""What an hour of an offer costs, as the database writes it: of work, at the speed at which its miner was measured."""


class Base(DeclarativeBase):
    """The tables of marketplace, with the four that every module has."""

    metadata = module_metadata("marketplace")


class MinerRow(Base):
    """A miner as the events of gpu describe it: what can be offered of it."""

    __tablename__ = "miners"
    __table_args__ = (
        Index("miners_account_idx", "account", "id"),
        CheckConstraint("source IN ('claimed', 'measured', 'attested')", name="source"),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("mnr"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    version: Mapped[int] = mapped_column(BigInteger)
    """That of the event it was last told by; 0 where it was asked for before any arrived."""
    status: Mapped[str] = mapped_column(Text)
    kinds: Mapped[list[str]] = mapped_column(ARRAY(Text))
    models: Mapped[str] = mapped_column(Text)
    """Model names by kind, as JSON text."""
    device: Mapped[str] = mapped_column(Text)
    gpu_models: Mapped[list[str]] = mapped_column(ARRAY(Text))
    vram_mib: Mapped[int] = mapped_column(BigInteger)
    region: Mapped[str | None] = mapped_column(Text)
    slots: Mapped[int] = mapped_column(Integer)
    source: Mapped[str] = mapped_column(Text)
    """How its hardware is known."""
    as_of: Mapped[datetime] = mapped_column(MOMENT)
    """When it was last so."""
    stars: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """The sum of its ratings, and how many they are."""
    ratings: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class OfferRow(Base):
    """Something for sale. What is known of its miner stands in it too, so that a search reads one table."""

    __tablename__ = "offers"
    __table_args__ = (
        CheckConstraint("sells IN ('work', 'device')", name="sells"),
        CheckConstraint("(sells = 'work') = (kind IS NOT NULL)", name="kind"),
        CheckConstraint("sells = 'work' OR model IS NULL", name="model"),
        CheckConstraint("state IN ('open', 'expired', 'withdrawn')", name="state"),
        CheckConstraint("(state = 'open') = (ended_at IS NULL)", name="ended"),
        CheckConstraint("price_units > 0", name="price"),
        CheckConstraint(
            "(floor_units IS NULL) = (ceiling_units IS NULL) AND (floor_units IS NULL OR "
            "floor_units > 0 AND price_units BETWEEN floor_units AND ceiling_units)",
            name="pricing",
        ),
        CheckConstraint("capacity > 0 AND taken BETWEEN 0 AND capacity", name="capacity"),
        CheckConstraint("min_seconds > 0 AND max_seconds >= min_seconds", name="seconds"),
        CheckConstraint("source IN ('claimed', 'measured', 'attested')", name="source"),
        # One open offer for one thing: what a miner asks for it is never in doubt.
        Index(
            "offers_work_idx",
            "miner",
            "kind",
            text("coalesce(model, '')"),
            unique=True,
            postgresql_where=text("state = 'open' AND sells = 'work'"),
        ),
        Index(
            "offers_device_idx",
            "miner",
            text("coalesce(device, -1)"),
            unique=True,
            postgresql_where=text("state = 'open' AND sells = 'device'"),
        ),
        Index("offers_miner_idx", "miner", "id"),
        Index("offers_account_idx", "account", "id"),
        Index("offers_expiry_idx", "valid_until", "id", postgresql_where=OPEN),
        Index("offers_priced_idx", "account", postgresql_where=text("state = 'open' AND floor_units IS NOT NULL")),
        # The sorts of a search: keyset pages read from these, in order.
        Index("offers_by_price_idx", "price_units", "id", postgresql_where=OPEN),
        Index("offers_by_vram_idx", "vram_mib", "id", postgresql_where=OPEN),
        Index("offers_by_age_idx", "id", postgresql_where=OPEN),
        Index("offers_by_hour_idx", text(HOUR), "id", postgresql_where=OPEN),
        Index("offers_measured_idx", "kind", "model", postgresql_where=text("state = 'open' AND sells = 'work'")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("offer"), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)
    account: Mapped[str] = mapped_column(WireId("acct"))
    miner: Mapped[str] = mapped_column(WireId("mnr"))
    sells: Mapped[str] = mapped_column(Text)
    kind: Mapped[str | None] = mapped_column(Text)
    model: Mapped[str | None] = mapped_column(Text)
    device: Mapped[int | None] = mapped_column(Integer)
    price_units: Mapped[int] = mapped_column(BigInteger)
    floor_units: Mapped[int | None] = mapped_column(BigInteger)
    ceiling_units: Mapped[int | None] = mapped_column(BigInteger)
    capacity: Mapped[int] = mapped_column(Integer)
    taken: Mapped[int] = mapped_column(Integer)
    min_seconds: Mapped[int] = mapped_column(Integer)
    max_seconds: Mapped[int] = mapped_column(Integer)
    interruptible: Mapped[bool] = mapped_column(Boolean)
    note: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    origin: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    changed_at: Mapped[datetime] = mapped_column(MOMENT)
    valid_until: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)
    status: Mapped[str] = mapped_column(Text)
    """From here on: of its miner, as `miners` has it."""
    gpu_model: Mapped[str] = mapped_column(Text)
    """The names of its GPUs with a comma between; empty without one."""
    vram_mib: Mapped[int] = mapped_column(BigInteger)
    region: Mapped[str] = mapped_column(Text)
    """Empty where it says none."""
    slots: Mapped[int] = mapped_column(Integer)
    source: Mapped[str] = mapped_column(Text)
    as_of: Mapped[datetime] = mapped_column(MOMENT)
    rating_milli: Mapped[int] = mapped_column(Integer, server_default=text("3000"))
    """Thousandths of a star, shrunk to a prior."""
    ratings: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    unit: Mapped[str | None] = mapped_column(Text)
    """Of work, what is metered; none until ai was asked."""
    units_hour: Mapped[int | None] = mapped_column(BigInteger)
    """How many units an hour has: of a device 1, of work what its miner makes; none while too few jobs say it."""


class RuleRow(Base):
    """By which an owner's online miners are put on sale."""

    __tablename__ = "rules"
    __table_args__ = (
        CheckConstraint("price_hour_units IS NULL OR price_hour_units > 0", name="price_hour"),
        {"info": ALL},
    )
    account: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    kinds: Mapped[str] = mapped_column(Text)
    """Minor units for one metered unit by kind of work, as JSON text."""
    price_hour_units: Mapped[int | None] = mapped_column(BigInteger)
    valid_seconds: Mapped[int] = mapped_column(BigInteger)
    automatic: Mapped[bool] = mapped_column(Boolean)
    """Whether miners that come online later are put on sale too."""
    set_at: Mapped[datetime] = mapped_column(MOMENT)
