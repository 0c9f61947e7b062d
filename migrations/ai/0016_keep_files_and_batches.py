"""Keep files under names, and batches that are made of them."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0016"
down_revision = "ai_0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "batch_lines",
        sa.Column("batch", sa.Uuid(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("custom_id", sa.Text(), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("job", sa.Uuid(), nullable=True),
        sa.Column("error_status", sa.SmallInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('waiting', 'open', 'done', 'failed')", name=op.f("batch_lines_state_check")),
        sa.PrimaryKeyConstraint("batch", "line", name=op.f("batch_lines_pk")),
        schema="ai",
    )
    op.create_index("batch_lines_state_idx", "batch_lines", ["batch", "state", "line"], unique=False, schema="ai")
    op.create_table(
        "batches",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("input_file", sa.Uuid(), nullable=False),
        sa.Column("input_artifact", sa.Uuid(), nullable=False),
        sa.Column("output_file", sa.Uuid(), nullable=True),
        sa.Column("error_file", sa.Uuid(), nullable=True),
        sa.Column("output_seconds", sa.Integer(), nullable=True),
        sa.Column("labels", sa.Text(), nullable=True),
        sa.Column("errors", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("spent_units", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("in_progress_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finalizing_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancelling_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(status IN ('failed', 'completed', 'expired', 'cancelled')) = (ended_at IS NOT NULL)",
            name=op.f("batches_ended_check"),
        ),
        sa.CheckConstraint(
            "status IN ('validating', 'failed', 'in_progress', 'finalizing', 'completed', 'expired', 'cancelling', "
            "'cancelled')",
            name=op.f("batches_status_check"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("batches_pk")),
        schema="ai",
    )
    op.create_index("batches_account_idx", "batches", ["account", "id"], unique=False, schema="ai")
    op.create_index(
        "batches_input_idx",
        "batches",
        ["input_artifact"],
        unique=False,
        schema="ai",
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index(
        "batches_open_idx", "batches", ["id"], unique=False, schema="ai", postgresql_where=sa.text("ended_at IS NULL")
    )
    op.create_table(
        "files",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("artifact", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("is_own", sa.Boolean(), nullable=False),
        sa.Column("kept_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("files_pk")),
        schema="ai",
    )
    op.create_index("files_account_idx", "files", ["account", "id"], unique=False, schema="ai")
    op.create_index("files_artifact_idx", "files", ["artifact"], unique=False, schema="ai")
    op.create_index("files_expires_at_idx", "files", ["expires_at"], unique=False, schema="ai")


def downgrade() -> None:
    """Remove them; the artifacts of files stay for their retention."""
    for table in ("files", "batches", "batch_lines"):
        op.drop_table(table, schema="ai")
