"""The tables of graphs."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.ai.models.tables import Base

MOMENT = DateTime(timezone=True)


class GraphRow(Base):
    """A graph: how it was written, where it is, and what of its budget is reserved and spent."""

    __tablename__ = "graphs"
    __table_args__ = (
        CheckConstraint("state IN ('running', 'paused', 'canceling', 'succeeded', 'failed', 'canceled')", name="state"),
        CheckConstraint(
            "reserved_units >= 0 AND spent_units >= 0 AND reserved_units + spent_units <= budget_units", name="budget"
        ),
        CheckConstraint("(ended_at IS NULL) = (state IN ('running', 'paused', 'canceling'))", name="ended"),
        CheckConstraint("ended_at IS NULL OR reserved_units = 0", name="released"),
        Index("graphs_account_idx", "account", "id"),
        Index("graphs_open_idx", "account", postgresql_where=text("ended_at IS NULL")),
        Index("graphs_due_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index("graphs_kept_idx", "kept_until", postgresql_where=text("kept_until IS NOT NULL")),
        Index("graphs_schedule_idx", "schedule", "id", postgresql_where=text("schedule IS NOT NULL")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("graph"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    key: Mapped[str] = mapped_column(Text)
    """The API key that asked for it: by it budgets count what its jobs cost."""
    name: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    spec: Mapped[str | None] = mapped_column(Text)
    """As it was written, as JSON text; null after its retention."""
    schedule: Mapped[str | None] = mapped_column(WireId("sched"))
    budget_units: Mapped[int] = mapped_column(BigInteger)
    reserved_units: Mapped[int] = mapped_column(BigInteger)
    spent_units: Mapped[int] = mapped_column(BigInteger)
    parallel: Mapped[int] = mapped_column(Integer)
    version: Mapped[int] = mapped_column(BigInteger)
    """Counts its steps: each is written where it is still what it was when the step was worked out."""
    due_at: Mapped[datetime | None] = mapped_column(MOMENT)
    """When it is to be looked at though no job of it has ended."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)
    kept_until: Mapped[datetime | None] = mapped_column(MOMENT)
    """When `spec` goes; null while it is under way and once it is gone."""


class GraphNodeRow(Base):
    """A node of a graph, or an item of one: where it is, and its newest job."""

    __tablename__ = "graph_nodes"
    __table_args__ = (
        CheckConstraint(
            "state IN ('pending', 'starting', 'running', 'succeeded', 'failed', 'upstream_failed', 'skipped', 'canceled')",
            name="state",
        ),
        CheckConstraint("reserved_units >= 0 AND spent_units >= 0", name="money"),
        Index("graph_nodes_job_idx", "job", postgresql_where=text("state = 'running'")),
        {"info": NO_DELETE},
    )
    graph: Mapped[str] = mapped_column(WireId("graph"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    index: Mapped[int] = mapped_column(Integer, primary_key=True)
    """The item, from 0; -1 for the node as a whole."""
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    job: Mapped[str | None] = mapped_column(WireId("job"))
    attempt: Mapped[int] = mapped_column(Integer)
    """How many jobs were tried for it; with its names the key under which the newest is submitted."""
    earlier: Mapped[int] = mapped_column(Integer)
    """How many of them before the graph was last run again."""
    reserved_units: Mapped[int] = mapped_column(BigInteger)
    spent_units: Mapped[int] = mapped_column(BigInteger)
    output_digest: Mapped[str | None] = mapped_column(Text)
    due_at: Mapped[datetime | None] = mapped_column(MOMENT)
    """Not before then it is tried again."""
    started_at: Mapped[datetime | None] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)
    changed: Mapped[int] = mapped_column(BigInteger)
    """The version of its graph at which it last changed."""
