"""The tables of gpu."""

from datetime import date, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aitbc.kernel.database.standard_tables import ALL, APPEND_ONLY, NO_DELETE, module_metadata
from aitbc.kernel.database.unit_of_work import WireId

MOMENT = DateTime(timezone=True)


class Base(DeclarativeBase):
    """Everything in the schema gpu."""

    metadata = module_metadata("gpu")


class EnrolmentTokenRow(Base):
    """A token that enrols one miner, once; only its digest is kept."""

    __tablename__ = "enrolment_tokens"
    id: Mapped[str] = mapped_column(WireId("tok"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    expires_at: Mapped[datetime] = mapped_column(MOMENT)
    used_at: Mapped[datetime | None] = mapped_column(MOMENT)
    miner: Mapped[str | None] = mapped_column(WireId("mnr"))
    """Whom it enrolled."""

    __table_args__ = (
        CheckConstraint("(used_at IS NULL) = (miner IS NULL)", name="used"),
        Index("enrolment_tokens_open_idx", "account", "expires_at", postgresql_where=text("used_at IS NULL")),
        {"info": NO_DELETE},
    )


class EnrolmentCodeRow(Base):
    """A machine that asks to be let in: its owner approves the code that it shows. Rows of the last day are kept."""

    __tablename__ = "enrolment_codes"
    id: Mapped[str] = mapped_column(WireId("ecod"), primary_key=True)
    code: Mapped[str] = mapped_column(Text, unique=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    """Of the token that the machine made: an approval makes an enrolment token of it."""
    name: Mapped[str] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(Text)
    """Of the machine's public key."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    expires_at: Mapped[datetime] = mapped_column(MOMENT)
    answered_at: Mapped[datetime | None] = mapped_column(MOMENT)
    account: Mapped[str | None] = mapped_column(WireId("acct"))
    """Who answered."""
    token: Mapped[str | None] = mapped_column(WireId("tok"))
    """The enrolment token that the approval made; none where it was denied."""

    __table_args__ = (
        CheckConstraint("(answered_at IS NULL) = (account IS NULL)", name="answered"),
        CheckConstraint("token IS NULL OR answered_at IS NOT NULL", name="approved"),
        Index("enrolment_codes_expiry_idx", "expires_at", "id"),
        {"info": ALL},
    )


class MinerRow(Base):
    """A miner: the narrow row that each of its heartbeats rewrites."""

    __tablename__ = "miners"
    id: Mapped[str] = mapped_column(WireId("mnr"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    name: Mapped[str] = mapped_column(Text)
    public_key: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    status_reason: Mapped[str | None] = mapped_column(Text)
    drain_message: Mapped[str | None] = mapped_column(Text)
    pause_reason: Mapped[str | None] = mapped_column(Text)
    """Why the miner itself takes no work now."""
    slots: Mapped[int] = mapped_column(SmallInteger)
    slots_busy: Mapped[int] = mapped_column(SmallInteger)
    readings: Mapped[str | None] = mapped_column(Text)
    """The inventory of the last heartbeat with telemetry, as JSON."""
    seen_at: Mapped[datetime | None] = mapped_column(MOMENT)
    version: Mapped[int] = mapped_column(BigInteger)
    """Grows with each change that matters for matching."""
    capabilities_version: Mapped[int] = mapped_column(Integer)
    booking: Mapped[str | None] = mapped_column(WireId("book"))
    """The booking that it is in, with its booker: it takes the jobs of that booking only."""
    booker: Mapped[str | None] = mapped_column(WireId("acct"))
    stopping_since: Mapped[datetime | None] = mapped_column(MOMENT)
    """When work of a booking was ended; none once a heartbeat has shown that it stopped, and it can be booked."""
    devices: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The digest of the GPUs that are recorded of it; none while none were."""
    blocked_reason: Mapped[str | None] = mapped_column(Text)
    """Why the platform gives it no work."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    changed_at: Mapped[datetime] = mapped_column(MOMENT)

    __table_args__ = (
        CheckConstraint("status IN ('enrolled', 'online', 'draining', 'offline', 'removed')", name="status"),
        CheckConstraint("slots BETWEEN 1 AND 64 AND slots_busy >= 0", name="slots"),
        CheckConstraint("(booking IS NULL) = (booker IS NULL)", name="booked"),
        # A key belongs to one miner; one that was removed may be enrolled anew.
        Index("miners_public_key_idx", "public_key", unique=True, postgresql_where=text("status <> 'removed'")),
        Index("miners_account_idx", "account", "id"),
        # No index holds what a heartbeat changes, and pages have room: its updates stay within the page.
        {"info": NO_DELETE, "postgresql_with": {"fillfactor": "70"}},
    )


class ProfileRow(Base):
    """What a miner has and can do, as it said."""

    __tablename__ = "profiles"
    __table_args__ = ({"info": NO_DELETE},)
    miner: Mapped[str] = mapped_column(WireId("mnr"), ForeignKey(MinerRow.id), primary_key=True)
    capabilities: Mapped[str] = mapped_column(Text)
    inventory: Mapped[str] = mapped_column(Text)
    shown: Mapped[str | None] = mapped_column(Text)
    """What of the offer may be believed, by the GPUs that it shows; none while none were looked at."""
    devices: Mapped[str | None] = mapped_column(Text)
    """The GPUs that can be leased to jobs, as JSON text; none where it shows none, or none were looked at."""
    machine: Mapped[str | None] = mapped_column(Text)
    """What it gives of a machine to who has it booked, as JSON; none of a miner that does not say."""
    updated_at: Mapped[datetime] = mapped_column(MOMENT)


class StatusChangeRow(Base):
    """A step in a miner's life."""

    __tablename__ = "status_changes"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    miner: Mapped[str] = mapped_column(WireId("mnr"), ForeignKey(MinerRow.id))
    at: Mapped[datetime] = mapped_column(MOMENT)
    status: Mapped[str] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (Index("status_changes_miner_idx", "miner", "id"), {"info": APPEND_ONLY})


class ReputationEventRow(Base):
    """An attempt that ended: what reputation is made of. Added once, never changed."""

    __tablename__ = "reputation_events"
    attempt: Mapped[str] = mapped_column(WireId("att"), primary_key=True)
    miner: Mapped[str] = mapped_column(WireId("mnr"))
    job: Mapped[str] = mapped_column(WireId("job"))
    job_kind: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(Text)
    fault: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    started_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime] = mapped_column(MOMENT)
    heard_at: Mapped[datetime] = mapped_column(MOMENT)
    is_own_work: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """Of a job of the miner's own account: it does not count."""

    __table_args__ = (Index("reputation_events_miner_idx", "miner", "ended_at", "attempt"), {"info": APPEND_ONLY})


class ReputationDayRow(Base):
    """How many of a miner's attempts of one day count for and against it: a sum over the events, kept for speed."""

    __tablename__ = "reputation_days"
    __table_args__ = ({"info": NO_DELETE},)
    miner: Mapped[str] = mapped_column(WireId("mnr"), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    good: Mapped[int] = mapped_column(Integer)
    bad: Mapped[int] = mapped_column(Integer)


class ReputationRow(Base):
    """What a miner's days amount to."""

    __tablename__ = "reputations"
    __table_args__ = ({"info": NO_DELETE},)
    miner: Mapped[str] = mapped_column(WireId("mnr"), primary_key=True)
    score: Mapped[float] = mapped_column(Double)
    good: Mapped[int] = mapped_column(Integer)
    bad: Mapped[int] = mapped_column(Integer)
    updated_at: Mapped[datetime] = mapped_column(MOMENT)
