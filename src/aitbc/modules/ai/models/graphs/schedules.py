"""Schedules, as everyone speaks of them, and their table."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct
from sqlalchemy import BigInteger, CheckConstraint, DateTime, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.text import Name
from aitbc.modules.ai.models.graphs.shapes import GraphNode, RunGraph
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.ai.models.tables import Base

MOMENT = DateTime(timezone=True)
MISSED = ("skip", "once", "all")
STATES = ("active", "paused", "ended")
SCHEDULED_AT = "scheduled_at"
"""The input by which a graph knows the time for which it was begun."""
ZoneName = Annotated[
    str,
    Meta(min_length=1, max_length=60, pattern=r"^[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+)*\Z"),
    Meta(extra_json_schema={"pattern": r"^[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+)*$", "examples": ["Europe/Berlin"]}),
]


class CreateSchedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something to be run again and again: a graph, or a job."""

    name: Name = "schedule"
    """What it is called. For example `Nightly report`."""
    cron: Annotated[str, Meta(max_length=100, examples=["30 2 * * *"])]
    """When: minute, hour, day of month, month, day of week."""
    time_zone: ZoneName = "UTC"
    """In which time zone, by its name."""
    missed: Literal["skip", "once", "all"] = "skip"
    """What becomes of times that passed while the platform stood still: none of them is made up for, one is for all, or
    each is. For example `once`."""
    graph: RunGraph | None = None
    """The graph; the input `scheduled_at` is the time for which it is begun, and its jobs may name that."""
    job: SubmitJob | None = None
    """Instead of a graph, one job: a graph with the node `job`, whose budget is the job's `max_price`."""


class Schedule(Struct, frozen=True, kw_only=True):
    """A schedule, and what it did last."""

    id: str
    """The schedule. For example `sched_01k0000000000000000000000a`."""
    name: str
    """What it is called. For example `Nightly report`."""
    cron: str
    """When: minute, hour, day of month, month, day of week. For example `30 2 * * *`."""
    time_zone: str
    """In which time zone. For example `Europe/Berlin`."""
    missed: Annotated[str, one_of(MISSED)]
    """What becomes of times that were missed."""
    state: Annotated[str, one_of(STATES)]
    """Whether it is at work, paused, or was removed."""
    graph: RunGraph
    """What it runs."""
    next_at: datetime | None
    """When it is due next; null unless it is active."""
    last_at: datetime | None
    """The time for which it last began something; null before."""
    last_graph: str | None
    """What it began then. For example `graph_01k0000000000000000000000a`."""
    runs: int
    """How often it has begun something. For example `41`."""
    problem: str
    """Why it could not begin anything when it was last due; empty where it could. For example `too_many_graphs`."""
    created_at: datetime
    """When it was made."""


class ScheduleRow(Base):
    """A schedule: what it runs, when, and what it did last."""

    __tablename__ = "schedules"
    __table_args__ = (
        CheckConstraint("state IN ('active', 'paused', 'ended')", name="state"),
        CheckConstraint("missed IN ('skip', 'once', 'all')", name="missed"),
        CheckConstraint("(next_at IS NULL) = (state <> 'active')", name="next"),
        Index("schedules_account_idx", "account", "id"),
        Index("schedules_due_idx", "next_at", postgresql_where=text("state = 'active'")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("sched"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    key: Mapped[str] = mapped_column(Text)
    """The API key that made it: when that ends, so does the schedule."""
    name: Mapped[str] = mapped_column(Text)
    cron: Mapped[str] = mapped_column(Text)
    time_zone: Mapped[str] = mapped_column(Text)
    missed: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    spec: Mapped[str] = mapped_column(Text)
    """The graph as JSON text."""
    next_at: Mapped[datetime | None] = mapped_column(MOMENT)
    last_at: Mapped[datetime | None] = mapped_column(MOMENT)
    last_graph: Mapped[str | None] = mapped_column(WireId("graph"))
    runs: Mapped[int] = mapped_column(BigInteger)
    problem: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)


def graph_of(job: SubmitJob) -> RunGraph:
    """A job as a graph of one node."""
    node = GraphNode(
        name="job",
        kind=job.kind,
        input=job.input,
        max_price=job.max_price,
        requirements=job.requirements,
        prefer=job.prefer,
        priority=job.priority,
        clocks=job.clocks,
        retry=job.retry,
    )
    return RunGraph(name="job", nodes=(node,), budget=job.max_price)
