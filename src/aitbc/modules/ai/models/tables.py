"""The tables of ai."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Float,
    Index,
    Integer,
    SmallInteger,
    Text,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aitbc.kernel.database.standard_tables import ALL, NO_DELETE, module_metadata
from aitbc.kernel.database.unit_of_work import WireId

MOMENT = DateTime(timezone=True)


class Base(DeclarativeBase):
    """The tables of this module, in its own schema."""

    metadata = module_metadata("ai")


OPEN_AND_BOOKED = (
    "state IN ('queued', 'leased', 'running') AND strpos(needs, '\"booking\":\"book_') > 0"  # as `needs_text` writes it
)
"""Which jobs are open and name a booking: only in these very words does a query find the index of them."""


class JobRow(Base):
    """A job: what is asked, by whom, for how much, where it is, and what came of it."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(
            "state IN ('queued', 'leased', 'running', 'succeeded', 'failed', 'canceled', 'expired')", name="state"
        ),
        CheckConstraint(
            "max_price_units > 0 AND (price_units IS NULL OR price_units <= max_price_units)", name="price"
        ),
        CheckConstraint("started_at >= created_at AND completed_at >= created_at", name="times"),
        CheckConstraint("(state IN ('leased', 'running')) = (attempt IS NOT NULL)", name="attempt"),
        Index("jobs_queue_idx", "lane", "rank", "id", postgresql_where=text("state = 'queued'")),
        Index("jobs_waiting_idx", "expires_at", "id", postgresql_where=text("state = 'queued'")),
        Index("jobs_own_idx", "account", "lane", "rank", "id", postgresql_where=text("state = 'queued'")),
        Index("jobs_account_idx", "account", "id"),
        Index("jobs_booked_idx", "account", "id", postgresql_where=text(OPEN_AND_BOOKED)),
        Index("jobs_kept_idx", "kept_until", "id", postgresql_where=text("kept_until IS NOT NULL")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("job"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    kind: Mapped[str] = mapped_column(Text)
    lane: Mapped[UUID]
    needs: Mapped[str] = mapped_column(Text)
    """The needs as JSON text, by which miners are matched."""
    priority: Mapped[int] = mapped_column(SmallInteger)
    rank: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    fault: Mapped[str] = mapped_column(Text)
    input: Mapped[str | None] = mapped_column(Text)
    """JSON text exactly as it was digested (JSONB would rewrite numbers); null after its retention."""
    input_digest: Mapped[str] = mapped_column(Text)
    files: Mapped[str | None] = mapped_column(Text)
    """The artifacts that the input refers to, as JSON text."""
    max_price_units: Mapped[int] = mapped_column(BigInteger)
    unit: Mapped[str] = mapped_column(Text)
    unit_price_units: Mapped[int] = mapped_column(BigInteger)
    input_units: Mapped[int] = mapped_column(BigInteger)
    """What the platform metered of the input at submission."""
    units_max: Mapped[int] = mapped_column(BigInteger)
    """The most that input and output together may be metered at."""
    expects: Mapped[str] = mapped_column(Text)
    """Numbers that the output is held against, as JSON text."""
    queue_seconds: Mapped[int] = mapped_column(Integer)
    start_seconds: Mapped[int] = mapped_column(Integer)
    run_seconds: Mapped[int] = mapped_column(Integer)
    retention_seconds: Mapped[int] = mapped_column(Integer)
    attempts_max: Mapped[int] = mapped_column(SmallInteger)
    retry_requester: Mapped[bool]
    attempts: Mapped[int] = mapped_column(SmallInteger)
    """Attempts that count; leases given back and faults of the platform do not."""
    token: Mapped[int] = mapped_column(Integer)
    """The fencing token: how often the job was leased."""
    attempt: Mapped[str | None] = mapped_column(WireId("att"))
    avoided: Mapped[str] = mapped_column(Text)
    """The miners whose fault it was, or who blamed the request, as ids with a blank between."""
    preferred: Mapped[str] = mapped_column(Text, server_default="")
    """The miners that it is kept for at first, as ids with a blank between; empty where nobody is preferred."""
    due_at: Mapped[datetime] = mapped_column(MOMENT)
    expires_at: Mapped[datetime] = mapped_column(MOMENT)
    deadline_at: Mapped[datetime] = mapped_column(MOMENT)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    started_at: Mapped[datetime | None] = mapped_column(MOMENT)
    completed_at: Mapped[datetime | None] = mapped_column(MOMENT)
    kept_until: Mapped[datetime | None] = mapped_column(MOMENT)
    """When input and output go; null while the job is open and once they are removed."""
    hold_expires_at: Mapped[datetime] = mapped_column(MOMENT)
    """Until when its money is held for certain: the deadline of its hold, or an earlier moment."""
    output: Mapped[str | None] = mapped_column(Text)
    output_digest: Mapped[str | None] = mapped_column(Text)
    units: Mapped[int | None] = mapped_column(BigInteger)
    price_units: Mapped[int | None] = mapped_column(BigInteger)
    request_id: Mapped[str | None] = mapped_column(Text)
    verification: Mapped[str] = mapped_column(Text, server_default="none")
    """The tier by which it is verified."""
    copies: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    """How many answers are paid at most: so many holds of equal size there are."""
    barred: Mapped[str] = mapped_column(Text, server_default="")
    """Whose miners may not answer: the owners of those who did, and of a quorum who pays. Ids with a blank between."""
    trusted_only: Mapped[bool] = mapped_column(server_default=false())
    """Whether only a trusted miner may take it: the first answer is there, and is to be checked."""
    verdict: Mapped[str | None] = mapped_column(Text)
    """What verification found, with its evidence, as JSON text."""


class DeliveryRow(Base):
    """An answer to a job that is verified, until the verdict."""

    __tablename__ = "deliveries"
    __table_args__ = (Index("deliveries_job_idx", "job"), Index("deliveries_miner_idx", "miner"), {"info": ALL})
    attempt: Mapped[str] = mapped_column(WireId("att"), primary_key=True)
    job: Mapped[str] = mapped_column(WireId("job"))
    miner: Mapped[str] = mapped_column(WireId("mnr"))
    is_trusted: Mapped[bool]
    output: Mapped[str] = mapped_column(Text)
    units: Mapped[int] = mapped_column(BigInteger)
    price_units: Mapped[int] = mapped_column(BigInteger)
    agrees_with: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """The attempts before it whose answers agree with its own."""
    delivered_at: Mapped[datetime] = mapped_column(MOMENT)


class TrackRecordRow(Base):
    """How the checked answers of a miner's model went."""

    __tablename__ = "track_records"
    __table_args__ = ({"info": NO_DELETE},)
    miner: Mapped[str] = mapped_column(WireId("mnr"), primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    """Empty where no model is named."""
    valid_in_row: Mapped[int] = mapped_column(Integer)
    checked: Mapped[int] = mapped_column(BigInteger)
    wrong: Mapped[int] = mapped_column(BigInteger)
    recent: Mapped[str] = mapped_column(Text, server_default="")
    """What the last evaluations measured, the newest first: `positions:mean`, with a blank between."""
    changed_at: Mapped[datetime] = mapped_column(MOMENT)


class AttemptRow(Base):
    """One lease of a job: who had it, until when, and how it ended."""

    __tablename__ = "attempts"
    __table_args__ = (
        Index("attempts_job_idx", "job", "token"),
        Index("attempts_live_idx", "miner", "id", postgresql_where=text("ended IS NULL")),
        Index(
            "attempts_stopping_idx",
            "stop_asked_at",
            "id",
            postgresql_where=text("ended IS NULL AND stop_asked_at IS NOT NULL"),
        ),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("att"), primary_key=True)
    job: Mapped[str] = mapped_column(WireId("job"))
    kind: Mapped[str] = mapped_column(Text)
    token: Mapped[int] = mapped_column(Integer)
    miner: Mapped[str] = mapped_column(WireId("mnr"))
    miner_account: Mapped[str] = mapped_column(WireId("acct"))
    started_at: Mapped[datetime] = mapped_column(MOMENT)
    running_at: Mapped[datetime | None] = mapped_column(MOMENT)
    expires_at: Mapped[datetime] = mapped_column(MOMENT)
    run_until: Mapped[datetime] = mapped_column(MOMENT)
    progress: Mapped[float | None] = mapped_column(Float)
    ended: Mapped[str | None] = mapped_column(Text)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)
    fault: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    usage: Mapped[str | None] = mapped_column(Text)
    """What the miner counted, as JSON text: evidence."""
    note: Mapped[str | None] = mapped_column(Text)
    """Where the miner's count and the platform's differ."""
    output_digest: Mapped[str | None] = mapped_column(Text)
    miner_key: Mapped[str | None] = mapped_column(Text)
    signature: Mapped[str | None] = mapped_column(Text)
    devices: Mapped[str | None] = mapped_column(Text)
    """The GPUs that are reserved for it while it lasts, as JSON text; null for none."""
    stop_asked_at: Mapped[datetime | None] = mapped_column(MOMENT)
    """When its owner asked to finish early: what was delivered until then is the result."""
    ask_units: Mapped[int | None] = mapped_column(BigInteger)
    """What its miner asked for one unit when it took the job; none where the job's own price holds."""
    offer: Mapped[str | None] = mapped_column(Text)
    """By which offer of its miner's owner."""
    blames_request: Mapped[bool] = mapped_column(server_default=false())
    """Whether its miner said that the request itself cannot be done; another miner's word decides."""
    first_text_at: Mapped[datetime | None] = mapped_column(MOMENT)
    """When the first piece of its output came; none where all of it came at once."""
    newcomer: Mapped[bool] = mapped_column(server_default=false())
    """Whether its miner had no history yet when it took the job: by these the newcomers' share is measured."""
    session: Mapped[str | None] = mapped_column(Text)
    """The session of its miner's polls that it was made for: one that never arrived is given to the next of them."""


class PartRow(Base):
    """A piece of an output, streamed while the work goes on."""

    __tablename__ = "parts"
    __table_args__ = ({"info": ALL},)
    job: Mapped[str] = mapped_column(WireId("job"), primary_key=True)
    token: Mapped[int] = mapped_column(Integer, primary_key=True)
    """The attempt it belongs to."""
    sequence: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[datetime] = mapped_column(MOMENT)
    text: Mapped[str] = mapped_column(Text)
    bytes: Mapped[int] = mapped_column(Integer)
    """What all parts of the attempt weigh together, up to and with this one."""


class LogRow(Base):
    """A line of a job's log."""

    __tablename__ = "logs"
    __table_args__ = ({"info": ALL},)
    job: Mapped[str] = mapped_column(WireId("job"), primary_key=True)
    token: Mapped[int] = mapped_column(Integer, primary_key=True)
    """The attempt it belongs to."""
    sequence: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[datetime] = mapped_column(MOMENT)
    text: Mapped[str] = mapped_column(Text)


class FlowRow(Base):
    """Where an account's next job of a priority stands in a lane."""

    __tablename__ = "flows"
    __table_args__ = (Index("flows_used_at_idx", "used_at"), {"info": ALL})
    account: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    lane: Mapped[UUID] = mapped_column(primary_key=True)
    priority: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    tag: Mapped[int] = mapped_column(BigInteger)
    used_at: Mapped[datetime] = mapped_column(MOMENT)


class JobCountRow(Base):
    """How many jobs of an account were written so far, and in a row of its own how many of them have ended.

    Two rows, so that submissions and results never wait for each other; the difference is what is open.
    """

    __tablename__ = "job_counts"
    __table_args__ = ({"info": NO_DELETE},)
    account: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    ended: Mapped[bool] = mapped_column(primary_key=True)
    jobs: Mapped[int] = mapped_column(BigInteger)


UPLOADING = "uploading"
"""The digest of an artifact whose content is on its way: its row reserves the room."""


class ArtifactRow(Base):
    """A file that an input or an output refers to; the bytes lie under their digest."""

    __tablename__ = "artifacts"
    __table_args__ = (
        Index("artifacts_account_idx", "account", "id"),
        Index("artifacts_digest_idx", "digest"),
        Index("artifacts_expires_at_idx", "expires_at"),
        Index("artifacts_attempt_idx", "attempt", postgresql_where=text("attempt IS NOT NULL")),
        {"info": ALL},
    )
    id: Mapped[str] = mapped_column(WireId("art"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    attempt: Mapped[str | None] = mapped_column(WireId("att"))
    """The lease under which a miner delivered it."""
    digest: Mapped[str] = mapped_column(Text)
    """Where the content lies, or `UPLOADING`."""
    bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    expires_at: Mapped[datetime] = mapped_column(MOMENT)


class MinerRow(Base):
    """The read model of the fleet, kept by the events of gpu."""

    __tablename__ = "miners"
    __table_args__ = ({"info": ALL},)
    id: Mapped[str] = mapped_column(WireId("mnr"), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(Text)
    status_reason: Mapped[str | None] = mapped_column(Text)
    kinds: Mapped[list[str]] = mapped_column(ARRAY(Text))
    models: Mapped[str] = mapped_column(Text)
    """Model names by kind, as JSON text."""
    model_facts: Mapped[str | None] = mapped_column(Text)
    """What is known of some of these, by name, as JSON text; null for nothing."""
    programs: Mapped[list[str]] = mapped_column(ARRAY(Text))
    device: Mapped[str] = mapped_column(Text)
    gpu_models: Mapped[list[str]] = mapped_column(ARRAY(Text))
    vram_mib: Mapped[int] = mapped_column(Integer)
    region: Mapped[str | None] = mapped_column(Text)
    cuda: Mapped[str | None] = mapped_column(Text)
    slots: Mapped[int] = mapped_column(Integer)
    devices: Mapped[str | None] = mapped_column(Text)
    """The GPUs that it names, as JSON text: claims lock the row before they reserve any of them. Null for none."""
    booking: Mapped[str | None] = mapped_column(Text)
    """The booking that it is in, and who booked it."""
    booker: Mapped[str | None] = mapped_column(Text)
    changed_at: Mapped[datetime] = mapped_column(MOMENT)
    account: Mapped[str | None] = mapped_column(WireId("acct"))
    """Whose it is; null until its next event where it was there before that was kept."""


class BookingRow(Base):
    """A booking as the events of gpu describe it: jobs may name it while it lasts, if they are its booker's."""

    __tablename__ = "bookings"
    __table_args__ = ({"info": NO_DELETE},)
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account: Mapped[str] = mapped_column(Text)
    ends_at: Mapped[datetime | None] = mapped_column(MOMENT)
    """Unknown of one that began before bookings were kept here, or whose end was heard of before its start."""
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)
    """Never null again: whatever is heard of it later, it is over."""


class OfferRow(Base):
    """An offer of work as the events of marketplace describe it."""

    __tablename__ = "offers"
    __table_args__ = (
        Index("offers_open_idx", "miner", "id", postgresql_where=text("state = 'open'")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("offer"), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)
    miner: Mapped[str] = mapped_column(WireId("mnr"))
    kind: Mapped[str] = mapped_column(Text)
    model: Mapped[str | None] = mapped_column(Text)
    price_units: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text)
    valid_until: Mapped[datetime] = mapped_column(MOMENT)


class AskRow(Base):
    """All that a miner asks, in one row that its claims read."""

    __tablename__ = "asks"
    __table_args__ = ({"info": NO_DELETE},)
    miner: Mapped[str] = mapped_column(WireId("mnr"), primary_key=True)
    asks: Mapped[str] = mapped_column(Text)
    """The asks of its open offers, as JSON text."""
    trusted: Mapped[bool] = mapped_column(server_default=false())
    """Whether an operator trusts it to check the work of others."""
    account: Mapped[str | None] = mapped_column(WireId("acct"))
    """Whose it is; null while nothing was heard of its offers since this is kept."""
    unproven: Mapped[str] = mapped_column(Text, server_default="")
    """The kinds that are not offered on it until a canary job passes, with a blank between."""


class CanaryRow(Base):
    """The last canary job of a miner's kind, and how it went."""

    __tablename__ = "canaries"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'passed', 'failed', 'unsent')", name="state"),
        {"info": NO_DELETE},
    )
    miner: Mapped[str] = mapped_column(WireId("mnr"), primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    number: Mapped[int] = mapped_column(Integer)
    """How many were begun: part of the key under which the job is submitted."""
    state: Mapped[str] = mapped_column(Text)
    step: Mapped[str | None] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    job: Mapped[str | None] = mapped_column(WireId("job"))
    unproven: Mapped[bool]
    """Whether the last one that said something failed: the kind is not offered until one passes."""
    expects: Mapped[str] = mapped_column(Text, server_default="")
    """What must stand in its answer; empty where its kind has a rule of its own."""
    at: Mapped[datetime] = mapped_column(MOMENT)
    next_at: Mapped[datetime] = mapped_column(MOMENT)


class TermsRow(Base):
    """With whom an account deals, in one row that claims read: as text, see `models/terms.py`."""

    __tablename__ = "terms"
    __table_args__ = (
        Index("terms_owners_idx", "account", postgresql_where=text("owners <> ''")),
        {"info": NO_DELETE},
    )
    account: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)
    buyers: Mapped[str] = mapped_column(Text)
    """Whose jobs its miners take."""
    owners: Mapped[str] = mapped_column(Text)
    """Whose miners its jobs go to."""


class RateLimitRow(Base):
    """A limit on how much an account asks at a time, until it is removed."""

    __tablename__ = "rate_limits"
    __table_args__ = (
        CheckConstraint("requests_per_minute > 0 OR tokens_per_minute > 0 OR concurrency > 0", name="limits_something"),
        Index("rate_limits_changed_at_idx", "changed_at"),
        Index("rate_limits_account_idx", "account", postgresql_where=text("ended_at IS NULL")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("rlim"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    key: Mapped[str | None] = mapped_column(WireId("key"))
    model: Mapped[str | None] = mapped_column(Text)
    requests_per_minute: Mapped[int | None] = mapped_column(Integer)
    tokens_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    concurrency: Mapped[int | None] = mapped_column(Integer)
    by_operator: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    changed_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)


class RateWindowRow(Base):
    """How much of a limit the processes have taken in the minute that goes on."""

    __tablename__ = "rate_windows"
    __table_args__ = ({"info": NO_DELETE},)
    rate_limit: Mapped[str] = mapped_column(WireId("rlim"), primary_key=True)
    measure: Mapped[str] = mapped_column(Text, primary_key=True)
    """`requests` or `tokens`."""
    window_start: Mapped[datetime] = mapped_column(MOMENT)
    granted: Mapped[int] = mapped_column(BigInteger)


class RateSlotRow(Base):
    """How many requests at once a process may have under a limit."""

    __tablename__ = "rate_slots"
    __table_args__ = ({"info": ALL},)
    rate_limit: Mapped[str] = mapped_column(WireId("rlim"), primary_key=True)
    process: Mapped[UUID] = mapped_column(primary_key=True)
    slots: Mapped[int] = mapped_column(Integer)
    seen_at: Mapped[datetime] = mapped_column(MOMENT)
    """When the process said so last: it is forgotten 30 s later."""
