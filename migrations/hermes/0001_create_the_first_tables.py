"""Create the first tables of hermes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from aitbc.kernel.database.standard_tables_v1 import create_common_tables

revision = "hermes_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    create_common_tables("hermes")
    op.create_table(
        "agents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("handle", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=True),
        sa.Column("interface", sa.Text(), nullable=True),
        sa.Column("skills", sa.Text(), nullable=False),
        sa.Column("words", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("probe_due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("probed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fault", sa.Text(), nullable=False),
        sa.Column("completed", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("milliseconds", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('active', 'paused', 'retired')", name=op.f("agents_state_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("agents_pk")),
        schema="hermes",
    )
    op.create_index("agents_account_idx", "agents", ["account", "id"], unique=False, schema="hermes")
    op.create_index(
        "agents_handle_idx",
        "agents",
        ["account", "handle"],
        unique=True,
        schema="hermes",
        postgresql_where=sa.text("state <> 'retired'"),
    )
    op.create_index(
        "agents_probe_idx",
        "agents",
        ["probe_due_at"],
        unique=False,
        schema="hermes",
        postgresql_where=sa.text("endpoint IS NOT NULL AND state <> 'retired'"),
    )
    op.create_table(
        "messages",
        sa.Column("sequence", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("run", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("headers", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("keeps_answer", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('queued', 'sent', 'dead')", name=op.f("messages_state_check")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("messages_pk")),
        sa.UniqueConstraint("id", name=op.f("messages_id_key")),
        sa.UniqueConstraint("queue", "sequence", name=op.f("messages_queue_sequence_key")),
        schema="hermes",
    )
    op.create_index("messages_account_idx", "messages", ["account", "sequence"], unique=False, schema="hermes")
    op.create_index(
        "messages_due_idx",
        "messages",
        ["queue", "sequence"],
        unique=False,
        schema="hermes",
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("agent", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("skill", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("parent", sa.Uuid(), nullable=True),
        sa.Column("parent_step", sa.Integer(), nullable=True),
        sa.Column("root", sa.Uuid(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("depth_max", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("budget_units", sa.BigInteger(), nullable=False),
        sa.Column("reserved_units", sa.BigInteger(), nullable=False),
        sa.Column("spent_units", sa.BigInteger(), nullable=False),
        sa.Column("payment", sa.Text(), nullable=False),
        sa.Column("transaction", sa.Text(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(ended_at IS NULL) = (state IN ('submitted', 'working', 'input_required'))", name=op.f("runs_ended_check")
        ),
        sa.CheckConstraint("(payment = 'paid') = (transaction IS NOT NULL)", name=op.f("runs_paid_check")),
        sa.CheckConstraint("payment IN ('none', 'due', 'held', 'paid', 'returned')", name=op.f("runs_payment_check")),
        sa.CheckConstraint(
            "state IN ('submitted', 'working', 'input_required', 'completed', 'failed', 'canceled', 'rejected')",
            name=op.f("runs_state_check"),
        ),
        sa.CheckConstraint("verdict IN ('failed', 'canceled', 'rejected')", name=op.f("runs_verdict_check")),
        sa.CheckConstraint("ended_at IS NULL OR reserved_units = 0", name=op.f("runs_released_check")),
        sa.CheckConstraint(
            "price_units >= 0 AND reserved_units >= 0 AND spent_units >= 0 AND reserved_units + spent_units <= budget_units",
            name=op.f("runs_budget_check"),
        ),
        sa.ForeignKeyConstraint(["agent"], ["hermes.agents.id"], name=op.f("runs_agent_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("runs_pk")),
        schema="hermes",
    )
    op.create_index("runs_account_idx", "runs", ["account", "id"], unique=False, schema="hermes")
    op.create_index("runs_agent_idx", "runs", ["agent", "created_at"], unique=False, schema="hermes")
    op.create_index(
        "runs_due_idx", "runs", ["due_at"], unique=False, schema="hermes", postgresql_where=sa.text("ended_at IS NULL")
    )
    op.create_index(
        "runs_message_idx",
        "runs",
        ["account", "agent", "message"],
        unique=True,
        schema="hermes",
        postgresql_where=sa.text("parent IS NULL"),
    )
    op.create_index(
        "runs_step_idx",
        "runs",
        ["parent", "parent_step"],
        unique=True,
        schema="hermes",
        postgresql_where=sa.text("parent IS NOT NULL"),
    )
    op.create_table(
        "pushes",
        sa.Column("run", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secrets", sa.LargeBinary(), nullable=False),
        sa.Column("headers", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["hermes.runs.id"], name=op.f("pushes_run_fkey")),
        sa.PrimaryKeyConstraint("run", "id", name=op.f("pushes_pk")),
        schema="hermes",
    )
    op.create_table(
        "steps",
        sa.Column("run", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("does", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("remote", sa.Text(), nullable=True),
        sa.Column("reserved_units", sa.BigInteger(), nullable=False),
        sa.Column("spent_units", sa.BigInteger(), nullable=False),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("answered_by", sa.Uuid(), nullable=True),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("does IN ('job', 'call', 'delegate', 'approve')", name=op.f("steps_does_check")),
        sa.CheckConstraint(
            "state IN ('pending', 'working', 'waiting', 'done', 'failed', 'skipped')", name=op.f("steps_state_check")
        ),
        sa.CheckConstraint("reserved_units >= 0 AND spent_units >= 0", name=op.f("steps_amounts_check")),
        sa.ForeignKeyConstraint(["run"], ["hermes.runs.id"], name=op.f("steps_run_fkey")),
        sa.PrimaryKeyConstraint("run", "number", name=op.f("steps_pk")),
        schema="hermes",
    )


def downgrade() -> None:
    """Remove the tables."""
    for table in ("pushes", "messages", "steps", "runs", "agents", "audit", "answers", "inbox", "outbox"):
        op.drop_table(table, schema="hermes")
