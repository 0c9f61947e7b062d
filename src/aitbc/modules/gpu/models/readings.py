"""The history of what GPUs read: a reading for each minute, and one for each hour that is kept longer."""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct
from sqlalchemy import BigInteger, CheckConstraint, Double, ForeignKey, Index, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import ALL
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.gpu.models.tables import MOMENT, Base, MinerRow


class Step(StrEnum):
    """How much time one reading stands for."""

    MINUTE = "minute"
    HOUR = "hour"


class ReadingRow(Base):
    """What a GPU read in one minute or hour; null is what its driver did not give."""

    __tablename__ = "readings"
    miner: Mapped[str] = mapped_column(WireId("mnr"), ForeignKey(MinerRow.id), primary_key=True)
    uuid: Mapped[str] = mapped_column(Text, primary_key=True)
    step: Mapped[str] = mapped_column(Text, primary_key=True)
    at: Mapped[datetime] = mapped_column(MOMENT, primary_key=True)
    """When it began."""
    samples: Mapped[int] = mapped_column(Integer)
    """Of how many readings it is made."""
    utilization: Mapped[float | None] = mapped_column(Double)
    memory_used_mib: Mapped[int | None] = mapped_column(BigInteger)
    memory_total_mib: Mapped[int | None] = mapped_column(BigInteger)
    temperature_celsius: Mapped[float | None] = mapped_column(Double)
    power_watts: Mapped[float | None] = mapped_column(Double)
    brake_reasons: Mapped[str | None] = mapped_column(Text)
    """Words with a blank between; empty for none."""

    __table_args__ = (
        CheckConstraint("step IN ('minute', 'hour')", name="step"),
        Index("readings_at_idx", "step", "at"),
        {"info": ALL},
    )


class Reading(Struct, frozen=True, kw_only=True):
    """What a GPU read in a minute, or on average and at most in an hour; null is what its driver did not give."""

    uuid: str
    """The GPU. For example `GPU-5b2c0c4e-8f5a-4a53-9d5b-7f1f2f6b3a10`."""
    at: datetime
    """When the minute or hour began."""
    samples: int
    """Of how many readings it is made: 1 for a minute. For example `60`."""
    utilization: float | None
    """In percent, on average. For example `93.5`."""
    memory_used_mib: int | None
    """The most that was in use, in MiB. For example `40210`."""
    memory_total_mib: int | None
    """Its memory in MiB. For example `81559`."""
    temperature_celsius: float | None
    """The highest, in degrees Celsius. For example `64.0`."""
    power_watts: float | None
    """On average, in watts. For example `512.3`."""
    brake_reasons: tuple[str, ...] | None
    """All that held its clocks back; empty for nothing. For example `["power_cap"]`."""


def reading_of(row: ReadingRow) -> Reading:
    """A stored reading as its miner's owner sees it."""
    return Reading(
        uuid=row.uuid,
        at=row.at,
        samples=row.samples,
        utilization=row.utilization,
        memory_used_mib=row.memory_used_mib,
        memory_total_mib=row.memory_total_mib,
        temperature_celsius=row.temperature_celsius,
        power_watts=row.power_watts,
        brake_reasons=None if row.brake_reasons is None else tuple(row.brake_reasons.split()),
    )
