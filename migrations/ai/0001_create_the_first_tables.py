"""Create the tables of ai: jobs, attempts, logs, flows, artifacts and the picture of the fleet."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from aitbc.kernel.database.standard_tables_v1 import create_common_tables

revision = "ai_0001"
down_revision = None
branch_labels = None
depends_on = None

moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    create_common_tables("ai")
    _create_jobs()
    _create_attempts()
    _create_logs()
    _create_flows()
    _create_artifacts()
    _create_miners()


def _create_jobs() -> None:
    """Jobs."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("lane", sa.Uuid(), nullable=False),
        sa.Column("needs", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("rank", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("fault", sa.Text(), nullable=False),
        sa.Column("input", sa.Text()),
        sa.Column("input_digest", sa.Text(), nullable=False),
        sa.Column("files", sa.Text()),
        sa.Column("max_price_units", sa.BigInteger(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("unit_price_units", sa.BigInteger(), nullable=False),
        sa.Column("input_units", sa.BigInteger(), nullable=False),
        sa.Column("units_max", sa.BigInteger(), nullable=False),
        sa.Column("expects", sa.Text(), nullable=False),
        sa.Column("queue_seconds", sa.Integer(), nullable=False),
        sa.Column("start_seconds", sa.Integer(), nullable=False),
        sa.Column("run_seconds", sa.Integer(), nullable=False),
        sa.Column("retention_seconds", sa.Integer(), nullable=False),
        sa.Column("attempts_max", sa.SmallInteger(), nullable=False),
        sa.Column("retry_requester", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Uuid()),
        sa.Column("avoided", sa.Text(), nullable=False),
        sa.Column("due_at", moment, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("deadline_at", moment, nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("started_at", moment),
        sa.Column("completed_at", moment),
        sa.Column("kept_until", moment),
        sa.Column("output", sa.Text()),
        sa.Column("output_digest", sa.Text()),
        sa.Column("units", sa.BigInteger()),
        sa.Column("price_units", sa.BigInteger()),
        sa.Column("request_id", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="jobs_pk"),
        sa.CheckConstraint(
            "state IN ('queued', 'leased', 'running', 'succeeded', 'failed', 'canceled', 'expired')",
            name=op.f("jobs_state_check"),
        ),
        sa.CheckConstraint("started_at >= created_at AND completed_at >= created_at", name=op.f("jobs_times_check")),
        sa.CheckConstraint(
            "max_price_units > 0 AND (price_units IS NULL OR price_units <= max_price_units)",
            name=op.f("jobs_price_check"),
        ),
        sa.CheckConstraint("(state IN ('leased', 'running')) = (attempt IS NOT NULL)", name=op.f("jobs_attempt_check")),
        schema="ai",
    )
    op.create_index("jobs_account_idx", "jobs", ["account", "id"], schema="ai")
    op.create_index(
        "jobs_kept_idx", "jobs", ["kept_until", "id"], schema="ai", postgresql_where=sa.text("kept_until IS NOT NULL")
    )
    op.create_index(
        "jobs_queue_idx", "jobs", ["lane", "rank", "id"], schema="ai", postgresql_where=sa.text("state = 'queued'")
    )
    op.create_index(
        "jobs_waiting_idx", "jobs", ["expires_at", "id"], schema="ai", postgresql_where=sa.text("state = 'queued'")
    )


def _create_attempts() -> None:
    """Leases."""
    op.create_table(
        "attempts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("miner_account", sa.Uuid(), nullable=False),
        sa.Column("started_at", moment, nullable=False),
        sa.Column("running_at", moment),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("run_until", moment, nullable=False),
        sa.Column("progress", sa.Float()),
        sa.Column("ended", sa.Text()),
        sa.Column("ended_at", moment),
        sa.Column("fault", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("usage", sa.Text()),
        sa.Column("note", sa.Text()),
        sa.Column("output_digest", sa.Text()),
        sa.Column("miner_key", sa.Text()),
        sa.Column("signature", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="attempts_pk"),
        schema="ai",
    )
    op.create_index("attempts_job_idx", "attempts", ["job", "token"], schema="ai")
    op.create_index(
        "attempts_live_idx", "attempts", ["miner", "id"], schema="ai", postgresql_where=sa.text("ended IS NULL")
    )


def _create_logs() -> None:
    """Log lines."""
    op.create_table(
        "logs",
        sa.Column("job", sa.Uuid(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job", "token", "sequence", name="logs_pk"),
        schema="ai",
    )


def _create_flows() -> None:
    """The fair order's tags."""
    op.create_table(
        "flows",
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("lane", sa.Uuid(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("tag", sa.BigInteger(), nullable=False),
        sa.Column("used_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("account", "lane", "priority", name="flows_pk"),
        schema="ai",
    )
    op.create_index("flows_used_at_idx", "flows", ["used_at"], schema="ai")


def _create_artifacts() -> None:
    """Files that inputs and outputs refer to."""
    op.create_table(
        "artifacts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Uuid()),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="artifacts_pk"),
        schema="ai",
    )
    op.create_index("artifacts_account_idx", "artifacts", ["account", "id"], schema="ai")
    op.create_index(
        "artifacts_attempt_idx", "artifacts", ["attempt"], schema="ai", postgresql_where=sa.text("attempt IS NOT NULL")
    )
    op.create_index("artifacts_digest_idx", "artifacts", ["digest"], schema="ai")
    op.create_index("artifacts_expires_at_idx", "artifacts", ["expires_at"], schema="ai")


def _create_miners() -> None:
    """The picture of the fleet."""
    op.create_table(
        "miners",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("kinds", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("models", sa.Text(), nullable=False),
        sa.Column("programs", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("gpu_models", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("vram_mib", sa.Integer(), nullable=False),
        sa.Column("region", sa.Text()),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("changed_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="miners_pk"),
        schema="ai",
    )


def downgrade() -> None:
    """Remove the tables."""
    for table in ("miners", "artifacts", "flows", "logs", "attempts", "jobs", "audit", "answers", "inbox", "outbox"):
        op.drop_table(table, schema="ai")
