"""The tables of files and of batches."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, SmallInteger, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import ALL, NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.ai.models.tables import MOMENT, Base

OPEN_BATCH = "ended_at IS NULL"


class FileRow(Base):
    """A file that a client of a public protocol keeps: a name and a purpose for an artifact."""

    __tablename__ = "files"
    __table_args__ = (
        Index("files_account_idx", "account", "id"),
        Index("files_artifact_idx", "artifact"),
        Index("files_expires_at_idx", "expires_at"),
        {"info": ALL},
    )
    id: Mapped[str] = mapped_column(WireId("file"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    artifact: Mapped[str] = mapped_column(WireId("art"))
    name: Mapped[str] = mapped_column(Text)
    purpose: Mapped[str] = mapped_column(Text)
    bytes: Mapped[int] = mapped_column(BigInteger)
    is_own: Mapped[bool]
    """Whether the artifact came with this file: then it goes with it."""
    kept_until: Mapped[datetime] = mapped_column(MOMENT)
    """Until when the artifact is kept for this file; one that is kept otherwise has another time."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    expires_at: Mapped[datetime] = mapped_column(MOMENT)


class BatchRow(Base):
    """A batch: requests in a file, each of which becomes a job, and the files with what came of them."""

    __tablename__ = "batches"
    __table_args__ = (
        CheckConstraint(
            "status IN ('validating', 'failed', 'in_progress', 'finalizing', 'completed', 'expired', 'cancelling', "
            "'cancelled')",
            name="status",
        ),
        CheckConstraint(
            "(status IN ('failed', 'completed', 'expired', 'cancelled')) = (ended_at IS NOT NULL)", name="ended"
        ),
        Index("batches_account_idx", "account", "id"),
        Index("batches_open_idx", "id", postgresql_where=text(OPEN_BATCH)),
        Index("batches_input_idx", "input_artifact", postgresql_where=text(OPEN_BATCH)),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("batch"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    key: Mapped[str] = mapped_column(Text)
    """The API key that made it: the jobs of its lines count against the budgets of that key."""
    fingerprint: Mapped[str] = mapped_column(Text)
    """SHA-256 of the request, by which a client's own repetition of it is known."""
    endpoint: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    input_file: Mapped[str] = mapped_column(WireId("file"))
    input_artifact: Mapped[str] = mapped_column(WireId("art"))
    output_file: Mapped[str | None] = mapped_column(WireId("file"))
    error_file: Mapped[str | None] = mapped_column(WireId("file"))
    output_seconds: Mapped[int | None] = mapped_column(Integer)
    """How long its files are kept, where that was asked for."""
    labels: Mapped[str | None] = mapped_column(Text)
    """The client's own metadata as JSON text."""
    errors: Mapped[str | None] = mapped_column(Text)
    """Why it failed as a whole, as JSON text."""
    model: Mapped[str | None] = mapped_column(Text)
    """The model of all its lines; none where they name several."""
    requests: Mapped[int] = mapped_column(Integer)
    completed: Mapped[int] = mapped_column(Integer)
    failed: Mapped[int] = mapped_column(Integer)
    spent_units: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    in_progress_at: Mapped[datetime | None] = mapped_column(MOMENT)
    finalizing_at: Mapped[datetime | None] = mapped_column(MOMENT)
    cancelling_at: Mapped[datetime | None] = mapped_column(MOMENT)
    expires_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)


class BatchLineRow(Base):
    """A line of a batch that has not ended: where it stands in the input, and what became of it."""

    __tablename__ = "batch_lines"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'open', 'done', 'failed')", name="state"),
        Index("batch_lines_state_idx", "batch", "state", "line"),
        {"info": ALL},
    )
    batch: Mapped[str] = mapped_column(WireId("batch"), primary_key=True)
    line: Mapped[int] = mapped_column(Integer, primary_key=True)
    """Its number in the file, from 1."""
    custom_id: Mapped[str | None] = mapped_column(Text)
    position: Mapped[int] = mapped_column(BigInteger)
    """Where it begins in the file, in bytes."""
    bytes: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(Text)
    job: Mapped[str | None] = mapped_column(WireId("job"))
    error_status: Mapped[int | None] = mapped_column(SmallInteger)
    error: Mapped[str | None] = mapped_column(Text)
    """The body of the refusal as JSON text, of a line that never became a job."""
