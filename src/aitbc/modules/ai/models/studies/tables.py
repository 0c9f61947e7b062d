"""The tables of studies."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Float, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.ai.models.tables import Base

MOMENT = DateTime(timezone=True)


class StudyRow(Base):
    """A study: how it was written, where it is, and what of its budget is reserved and spent."""

    __tablename__ = "studies"
    __table_args__ = (
        CheckConstraint(
            "state IN ('running', 'paused', 'canceling', 'complete', 'exhausted', 'failed', 'canceled')", name="state"
        ),
        CheckConstraint(
            "reserved_units >= 0 AND spent_units >= 0 AND reserved_units + spent_units <= budget_units", name="budget"
        ),
        CheckConstraint("(ended_at IS NULL) = (state IN ('running', 'paused', 'canceling'))", name="ended"),
        CheckConstraint("ended_at IS NULL OR reserved_units = 0", name="released"),
        Index("studies_account_idx", "account", "id"),
        Index("studies_open_idx", "id", postgresql_where=text("ended_at IS NULL")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("study"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    key: Mapped[str] = mapped_column(Text)
    """The API key that asked for it: by it budgets count what its jobs cost."""
    name: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    spec: Mapped[str] = mapped_column(Text)
    """As it was written, as JSON text."""
    trial_units: Mapped[int] = mapped_column(BigInteger)
    """The most that one trial may cost."""
    budget_units: Mapped[int] = mapped_column(BigInteger)
    reserved_units: Mapped[int] = mapped_column(BigInteger)
    spent_units: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(BigInteger)
    """Counts its steps: each is written where it is still what it was when the step was worked out."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)


class TrialRow(Base):
    """A trial of a study: its parameters, its job, and what came of it."""

    __tablename__ = "trials"
    __table_args__ = (
        CheckConstraint(
            "state IN ('starting', 'running', 'stopping', 'complete', 'pruned', 'failed', 'canceled')", name="state"
        ),
        CheckConstraint("(value IS NOT NULL) = (state = 'complete')", name="value"),
        {"info": NO_DELETE},
    )
    study: Mapped[str] = mapped_column(WireId("study"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    state: Mapped[str] = mapped_column(Text)
    params: Mapped[str] = mapped_column(Text)
    """As JSON text."""
    value: Mapped[float | None] = mapped_column(Float)
    reports: Mapped[str] = mapped_column(Text)
    """The values that its job reported, each with its step, as JSON text."""
    job: Mapped[str | None] = mapped_column(WireId("job"))
    spent_units: Mapped[int] = mapped_column(BigInteger)
    message: Mapped[str] = mapped_column(Text)
    started_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)
