"""The tables of hermes."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aitbc.kernel.database.standard_tables import ALL, NO_DELETE, module_metadata
from aitbc.kernel.database.unit_of_work import WireId

MOMENT = DateTime(timezone=True)


class Base(DeclarativeBase):
    """The tables of hermes, with the four that every module has."""

    metadata = module_metadata("hermes")


class AgentRow(Base):
    """An agent as its owner registered it, and what was last heard of it."""

    __tablename__ = "agents"
    __table_args__ = (
        CheckConstraint("state IN ('active', 'paused', 'retired')", name="state"),
        Index("agents_account_idx", "account", "id"),
        Index("agents_handle_idx", "account", "handle", unique=True, postgresql_where=text("state <> 'retired'")),
        Index("agents_probe_idx", "probe_due_at", postgresql_where=text("endpoint IS NOT NULL AND state <> 'retired'")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("agt"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    handle: Mapped[str | None] = mapped_column(Text)
    """The id that a client of the older dialect chose."""
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    endpoint: Mapped[str | None] = mapped_column(Text)
    interface: Mapped[str | None] = mapped_column(Text)
    """Where its JSON-RPC is, as the card at its endpoint says."""
    skills: Mapped[str] = mapped_column(Text)
    """As JSON text."""
    words: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """The ids and tags of its skills: by these it is found."""
    limits: Mapped[str] = mapped_column(Text)
    details: Mapped[str] = mapped_column(Text)
    """What a client of the older dialect says of it, as JSON text."""
    state: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(BigInteger)
    heartbeat_at: Mapped[datetime | None] = mapped_column(MOMENT)
    probe_due_at: Mapped[datetime] = mapped_column(MOMENT)
    probed_at: Mapped[datetime | None] = mapped_column(MOMENT)
    """When a look at its endpoint last found it well."""
    fault: Mapped[str] = mapped_column(Text)
    completed: Mapped[int] = mapped_column(BigInteger)
    """From here on: of its runs that were settled for other accounts."""
    failed: Mapped[int] = mapped_column(BigInteger)
    milliseconds: Mapped[int] = mapped_column(BigInteger)
    """What those that succeeded took together."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    changed_at: Mapped[datetime] = mapped_column(MOMENT)


class RunRow(Base):
    """A run: a call of an agent's skill. What it may spend and has spent covers everything below it."""

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(
            "state IN ('submitted', 'working', 'input_required', 'completed', 'failed', 'canceled', 'rejected')",
            name="state",
        ),
        CheckConstraint("verdict IN ('failed', 'canceled', 'rejected')", name="verdict"),
        CheckConstraint("payment IN ('none', 'due', 'held', 'paid', 'returned')", name="payment"),
        CheckConstraint(
            "price_units >= 0 AND reserved_units >= 0 AND spent_units >= 0 AND "
            "reserved_units + spent_units <= budget_units",
            name="budget",
        ),
        CheckConstraint("(ended_at IS NULL) = (state IN ('submitted', 'working', 'input_required'))", name="ended"),
        CheckConstraint("ended_at IS NULL OR reserved_units = 0", name="released"),
        CheckConstraint("(payment = 'paid') = (transaction IS NOT NULL)", name="paid"),
        Index("runs_message_idx", "account", "agent", "message", unique=True, postgresql_where=text("parent IS NULL")),
        Index("runs_step_idx", "parent", "parent_step", unique=True, postgresql_where=text("parent IS NOT NULL")),
        Index("runs_account_idx", "account", "id"),
        Index("runs_agent_idx", "agent", "created_at"),
        Index("runs_due_idx", "due_at", postgresql_where=text("ended_at IS NULL")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("run"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    key: Mapped[str] = mapped_column(Text)
    """The API key that asked for it."""
    agent: Mapped[str] = mapped_column(WireId("agt"), ForeignKey(AgentRow.id))
    owner: Mapped[str] = mapped_column(WireId("acct"))
    skill: Mapped[str] = mapped_column(Text)
    context: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    """The id that its caller gave the message: the same one makes no second run."""
    parent: Mapped[str | None] = mapped_column(WireId("run"))
    parent_step: Mapped[int | None] = mapped_column(Integer)
    """The number of the step of its parent that it does."""
    root: Mapped[str] = mapped_column(WireId("run"))
    path: Mapped[str] = mapped_column(Text)
    """The skills of the runs above it and its own, as JSON text: none is called within itself."""
    depth: Mapped[int] = mapped_column(Integer)
    depth_max: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(Text)
    verdict: Mapped[str | None] = mapped_column(Text)
    """How it is to end, from the moment that this is known until what is under way has stopped."""
    reason: Mapped[str] = mapped_column(Text)
    input: Mapped[str] = mapped_column(Text)
    """What was asked, as JSON text: `text` and `data`."""
    output: Mapped[str | None] = mapped_column(Text)
    price_units: Mapped[int] = mapped_column(BigInteger)
    budget_units: Mapped[int] = mapped_column(BigInteger)
    reserved_units: Mapped[int] = mapped_column(BigInteger)
    spent_units: Mapped[int] = mapped_column(BigInteger)
    payment: Mapped[str] = mapped_column(Text)
    transaction: Mapped[str | None] = mapped_column(Text)
    due_at: Mapped[datetime] = mapped_column(MOMENT)
    """When it is looked at next."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    deadline_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)


class StepRow(Base):
    """A step of a run."""

    __tablename__ = "steps"
    __table_args__ = (
        CheckConstraint("does IN ('job', 'call', 'delegate', 'approve', 'tool')", name="does"),
        CheckConstraint("state IN ('pending', 'working', 'waiting', 'done', 'failed', 'skipped')", name="state"),
        CheckConstraint("reserved_units >= 0 AND spent_units >= 0", name="amounts"),
        {"info": NO_DELETE},
    )
    run: Mapped[str] = mapped_column(WireId("run"), ForeignKey(RunRow.id), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    does: Mapped[str] = mapped_column(Text)
    plan: Mapped[str] = mapped_column(Text)
    """The step as the skill had it when the run began, as JSON text."""
    state: Mapped[str] = mapped_column(Text)
    reference: Mapped[str | None] = mapped_column(Text)
    remote: Mapped[str | None] = mapped_column(Text)
    """Of a call, the task at the agent's endpoint; of a tool, until when the process that calls it is waited for."""
    reserved_units: Mapped[int] = mapped_column(BigInteger)
    spent_units: Mapped[int] = mapped_column(BigInteger)
    output: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str] = mapped_column(Text)
    answered_by: Mapped[str | None] = mapped_column(WireId("acct"))
    """Who approved or refused; none where the deadline did."""
    looks: Mapped[int] = mapped_column(Integer)
    """How often its reference was looked at: the pauses grow with it."""
    due_at: Mapped[datetime | None] = mapped_column(MOMENT)
    started_at: Mapped[datetime | None] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)


class MessageRow(Base):
    """A message to a place outside: sent in the order of its queue until it is taken, or dead after too many tries."""

    __tablename__ = "messages"
    __table_args__ = (
        CheckConstraint("state IN ('queued', 'sent', 'dead')", name="state"),
        UniqueConstraint("queue", "sequence"),
        Index("messages_due_idx", "queue", "sequence", postgresql_where=text("state = 'queued'")),
        Index("messages_account_idx", "account", "sequence"),
        {"info": ALL},
    )
    sequence: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    id: Mapped[str] = mapped_column(Text, unique=True)
    """By which its receiver knows one that it has had before."""
    queue: Mapped[str] = mapped_column(Text)
    """What is sent in order: a conversation with an agent, or what one task's client is told."""
    account: Mapped[str] = mapped_column(WireId("acct"))
    run: Mapped[str] = mapped_column(WireId("run"))
    url: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    headers: Mapped[bytes] = mapped_column(LargeBinary)
    """Sealed: there are secrets in them."""
    state: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer)
    due_at: Mapped[datetime] = mapped_column(MOMENT)
    error: Mapped[str] = mapped_column(Text)
    answer: Mapped[str | None] = mapped_column(Text)
    keeps_answer: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)


class PushRow(Base):
    """Where a client wants to be told of a task."""

    __tablename__ = "pushes"
    __table_args__ = ({"info": ALL},)
    run: Mapped[str] = mapped_column(WireId("run"), ForeignKey(RunRow.id), primary_key=True)
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    secrets: Mapped[bytes] = mapped_column(LargeBinary)
    """Token and credentials as sealed JSON."""
    headers: Mapped[bytes] = mapped_column(LargeBinary)
    """What is sent with each message, sealed."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)


class RecordRow(Base):
    """What clients of the older dialect have kept: decisions, networks, members and tasks of swarms, votes."""

    __tablename__ = "records"
    __table_args__ = (
        CheckConstraint("kind IN ('decision', 'network', 'contribution', 'member', 'task', 'vote')", name="kind"),
        UniqueConstraint("kind", "parent", "account", "name"),
        Index("records_kind_idx", "kind", "parent", "id"),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("rec"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    kind: Mapped[str] = mapped_column(Text)
    parent: Mapped[str] = mapped_column(Text)
    """What it belongs to: a swarm, or a task; empty for what stands alone."""
    name: Mapped[str] = mapped_column(Text)
    """By which one of its account is told from another below the same parent."""
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)
