"""The tables of monitoring."""

from datetime import date, datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Date,
    DateTime,
    Float,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aitbc.kernel.database.standard_tables import ALL, APPEND_ONLY, NO_DELETE, module_metadata
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.monitoring.models.alerting import ALERT_STATES
from aitbc.modules.monitoring.models.declarations import MONITOR_KINDS, ORIGINS, SEVERITIES, SOURCES
from aitbc.modules.monitoring.models.standing import STATES

MOMENT = DateTime(timezone=True)
EXISTS = text("removed_at IS NULL")


class Base(DeclarativeBase):
    """The tables of this module, in its own schema."""

    metadata = module_metadata("monitoring")


class MonitorRow(Base):
    """Something that is looked at again and again, and how it stands."""

    __tablename__ = "monitors"
    __table_args__ = (
        CheckConstraint(f"kind IN {MONITOR_KINDS}", name="kind"),
        CheckConstraint(f"origin IN {ORIGINS}", name="origin"),
        CheckConstraint(f"state IN {STATES}", name="state"),
        Index("monitors_name_key", "name", unique=True, postgresql_where=EXISTS),
        Index("monitors_due_idx", "due_at", postgresql_where=EXISTS),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("mon"), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    target: Mapped[str] = mapped_column(Text)
    origin: Mapped[str] = mapped_column(Text)
    interval_seconds: Mapped[float] = mapped_column(Float)
    timeout_seconds: Mapped[float] = mapped_column(Float)
    slow_seconds: Mapped[float | None] = mapped_column(Float)
    fall: Mapped[int] = mapped_column(SmallInteger)
    rise: Mapped[int] = mapped_column(SmallInteger)
    parents: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """The names of what it depends on: while one of them is down, this one is silent."""
    is_public: Mapped[bool]
    push_digest: Mapped[bytes | None] = mapped_column(LargeBinary)
    """SHA-256 of the token with which a push monitor is told that all is well."""
    pushed_at: Mapped[datetime | None] = mapped_column(MOMENT)
    pushed_works: Mapped[bool | None]
    pushed_reason: Mapped[str | None] = mapped_column(Text)
    due_at: Mapped[datetime] = mapped_column(MOMENT)
    state: Mapped[str] = mapped_column(Text)
    state_since: Mapped[datetime] = mapped_column(MOMENT)
    candidate: Mapped[str | None] = mapped_column(Text)
    streak: Mapped[int] = mapped_column(SmallInteger)
    checked_at: Mapped[datetime | None] = mapped_column(MOMENT)
    seconds: Mapped[float | None] = mapped_column(Float)
    works: Mapped[bool | None]
    reason: Mapped[str] = mapped_column(Text)
    created_by: Mapped[str | None] = mapped_column(WireId("acct"))
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    removed_at: Mapped[datetime | None] = mapped_column(MOMENT)


class RollupRow(Base):
    """The looks at one monitor in one minute, hour or day."""

    __tablename__ = "rollups"
    __table_args__ = (Index("rollups_kept_idx", "width", "start"), {"info": ALL})
    monitor: Mapped[str] = mapped_column(WireId("mon"), primary_key=True)
    width: Mapped[int] = mapped_column(Integer, primary_key=True)
    """In seconds: 60, 3600 or 86400."""
    start: Mapped[datetime] = mapped_column(MOMENT, primary_key=True)
    up: Mapped[int] = mapped_column(Integer)
    degraded: Mapped[int] = mapped_column(Integer)
    down: Mapped[int] = mapped_column(Integer)
    maintenance: Mapped[int] = mapped_column(Integer)
    measured: Mapped[int] = mapped_column(Integer)
    """How many of the looks measured how long they took."""
    seconds_sum: Mapped[float] = mapped_column(Float)
    seconds_max: Mapped[float] = mapped_column(Float)


class ChangeRow(Base):
    """A monitor came to another state."""

    __tablename__ = "changes"
    __table_args__ = (Index("changes_at_idx", "at"), {"info": {"grants": ("SELECT", "INSERT", "DELETE")}})
    id: Mapped[str] = mapped_column(WireId("mchg"), primary_key=True)
    monitor: Mapped[str] = mapped_column(WireId("mon"))
    name: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(MOMENT)
    before: Mapped[str] = mapped_column(Text)
    after: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    is_public: Mapped[bool]


class WindowRow(Base):
    """A time in which monitors are maintained: nobody is alarmed, and nothing counts as an outage."""

    __tablename__ = "windows"
    __table_args__ = (
        CheckConstraint("ends_at > starts_at", name="times"),
        Index("windows_ends_at_idx", "ends_at"),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("mwin"), primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    monitors: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """Names; empty for all."""
    origin: Mapped[str] = mapped_column(Text)
    starts_at: Mapped[datetime] = mapped_column(MOMENT)
    ends_at: Mapped[datetime] = mapped_column(MOMENT)
    created_by: Mapped[str | None] = mapped_column(WireId("acct"))
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    canceled_at: Mapped[datetime | None] = mapped_column(MOMENT)


class FigureRow(Base):
    """A figure in one minute, hour or day."""

    __tablename__ = "figures"
    __table_args__ = (Index("figures_kept_idx", "width", "start"), {"info": ALL})
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    width: Mapped[int] = mapped_column(Integer, primary_key=True)
    start: Mapped[datetime] = mapped_column(MOMENT, primary_key=True)
    count: Mapped[int] = mapped_column(Integer)
    total: Mapped[float] = mapped_column(Float)
    low: Mapped[float] = mapped_column(Float)
    high: Mapped[float] = mapped_column(Float)
    last: Mapped[float] = mapped_column(Float)


class RuleRow(Base):
    """When somebody is to be told."""

    __tablename__ = "rules"
    __table_args__ = (
        CheckConstraint(f"source IN {SOURCES}", name="source"),
        CheckConstraint(f"origin IN {ORIGINS}", name="origin"),
        CheckConstraint(f"severity IN {SEVERITIES}", name="severity"),
        Index("rules_name_key", "name", unique=True, postgresql_where=EXISTS),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("arul"), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    target: Mapped[str] = mapped_column(Text)
    direction: Mapped[str] = mapped_column(Text)
    threshold: Mapped[float] = mapped_column("fire_at", Float)
    clear_threshold: Mapped[float] = mapped_column("clear_at", Float)
    for_seconds: Mapped[float] = mapped_column(Float)
    clear_seconds: Mapped[float] = mapped_column(Float)
    severity: Mapped[str] = mapped_column(Text)
    grouping: Mapped[str] = mapped_column(Text)
    is_mailed: Mapped[bool]
    origin: Mapped[str] = mapped_column(Text)
    account: Mapped[str | None] = mapped_column(WireId("acct"))
    """Whose webhooks are told; none for the operator's."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    removed_at: Mapped[datetime | None] = mapped_column(MOMENT)


class AlertStandingRow(Base):
    """How one rule stands on one series."""

    __tablename__ = "alert_standings"
    __table_args__ = (CheckConstraint(f"state IN {ALERT_STATES}", name="state"), {"info": ALL})
    rule: Mapped[str] = mapped_column(WireId("arul"), primary_key=True)
    series: Mapped[str] = mapped_column(Text, primary_key=True)
    state: Mapped[str] = mapped_column(Text)
    bad_since: Mapped[datetime | None] = mapped_column(MOMENT)
    good_since: Mapped[datetime | None] = mapped_column(MOMENT)
    alert: Mapped[str | None] = mapped_column(WireId("alrt"))


class AlertRow(Base):
    """An alert: a rule that fired on a series, until it was cleared."""

    __tablename__ = "alerts"
    __table_args__ = (
        Index("alerts_firing_key", "rule", "series", unique=True, postgresql_where=text("cleared_at IS NULL")),
        {"info": ALL},
    )
    id: Mapped[str] = mapped_column(WireId("alrt"), primary_key=True)
    rule: Mapped[str] = mapped_column(WireId("arul"))
    rule_name: Mapped[str] = mapped_column(Text)
    series: Mapped[str] = mapped_column(Text)
    grouping: Mapped[str] = mapped_column(Text)
    severity: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    value: Mapped[float | None] = mapped_column(Float)
    fired_at: Mapped[datetime] = mapped_column(MOMENT)
    cleared_at: Mapped[datetime | None] = mapped_column(MOMENT)


class MailRow(Base):
    """A mail that waits to be sent, was sent, or was given up."""

    __tablename__ = "mails"
    __table_args__ = (
        Index("mails_due_idx", "due_at", postgresql_where=text("sent_at IS NULL AND dead_at IS NULL")),
        {"info": ALL},
    )
    id: Mapped[str] = mapped_column(WireId("mail"), primary_key=True)
    recipients: Mapped[list[str]] = mapped_column(ARRAY(Text))
    subject: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    due_at: Mapped[datetime] = mapped_column(MOMENT)
    attempts: Mapped[int] = mapped_column(SmallInteger)
    sent_at: Mapped[datetime | None] = mapped_column(MOMENT)
    dead_at: Mapped[datetime | None] = mapped_column(MOMENT)
    last_error: Mapped[str | None] = mapped_column(Text)


class UsageRow(Base):
    """What an account paid a miner, by one API key, for one kind of work on one day (UTC), and what went back then."""

    __tablename__ = "usage"
    __table_args__ = (
        CheckConstraint("price_units = fee_units + earned_units", name="adds_up"),
        CheckConstraint("refunded_fee_units BETWEEN 0 AND refunded_units", name="refunded"),
        {"info": NO_DELETE},
    )
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    miner: Mapped[str] = mapped_column(WireId("mnr"), primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    """Empty where the job named none."""
    key: Mapped[str] = mapped_column(Text, primary_key=True, server_default="")
    """Empty where the ledger does not know it."""
    miner_account: Mapped[str] = mapped_column(WireId("acct"))
    unit: Mapped[str] = mapped_column(Text)
    jobs: Mapped[int] = mapped_column(BigInteger)
    units: Mapped[int] = mapped_column(BigInteger)
    price_units: Mapped[int] = mapped_column(BigInteger)
    fee_units: Mapped[int] = mapped_column(BigInteger)
    earned_units: Mapped[int] = mapped_column(BigInteger)
    refunded_units: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """What went back to the account on this day, whenever it was paid."""
    refunded_fee_units: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """What of it came out of the platform's fees."""


class CursorRow(Base):
    """How far something was read."""

    __tablename__ = "cursors"
    __table_args__ = ({"info": NO_DELETE},)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger)


class ObjectiveRow(Base):
    """What share of looks at a monitor, or of attempts at a kind of work, is to be good over a window of days."""

    __tablename__ = "objectives"
    __table_args__ = (
        CheckConstraint(f"origin IN {ORIGINS}", name="origin"),
        CheckConstraint("target > 0 AND target < 1", name="target"),
        CheckConstraint("(monitor IS NULL) <> (work IS NULL)", name="subject"),
        Index("objectives_name_key", "name", unique=True, postgresql_where=EXISTS),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("slo"), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    monitor: Mapped[str | None] = mapped_column(Text)
    work: Mapped[str | None] = mapped_column(Text)
    """The kind of work whose attempts are to succeed."""
    target: Mapped[float] = mapped_column(Float)
    window_days: Mapped[int] = mapped_column(SmallInteger)
    counts_degraded: Mapped[bool]
    """Whether a degraded look is a bad one."""
    origin: Mapped[str] = mapped_column(Text)
    created_by: Mapped[str | None] = mapped_column(WireId("acct"))
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    removed_at: Mapped[datetime | None] = mapped_column(MOMENT)


class UpkeepRow(Base):
    """A piece of upkeep that was done, or failed."""

    __tablename__ = "upkeeps"
    __table_args__ = ({"info": APPEND_ONLY},)
    id: Mapped[str] = mapped_column(WireId("upk"), primary_key=True)
    action: Mapped[str] = mapped_column(Text)
    account: Mapped[str] = mapped_column(WireId("acct"))
    started_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime] = mapped_column(MOMENT)
    result: Mapped[str] = mapped_column(Text)
    """What was done, as JSON text."""
