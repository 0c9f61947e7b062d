"""Begin graphs by schedules."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0019"
down_revision = "ai_0018"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "schedules",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("missed", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("next_at", MOMENT),
        sa.Column("last_at", MOMENT),
        sa.Column("last_graph", sa.Uuid()),
        sa.Column("runs", sa.BigInteger(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.CheckConstraint("state IN ('active', 'paused', 'ended')", name=op.f("schedules_state_check")),
        sa.CheckConstraint("missed IN ('skip', 'once', 'all')", name=op.f("schedules_missed_check")),
        sa.CheckConstraint("(next_at IS NULL) = (state <> 'active')", name=op.f("schedules_next_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("schedules_pk")),
        schema="ai",
    )
    op.create_index("schedules_account_idx", "schedules", ["account", "id"], schema="ai")
    op.create_index(
        "schedules_due_idx", "schedules", ["next_at"], schema="ai", postgresql_where=sa.text("state = 'active'")
    )


def downgrade() -> None:
    """Remove it; what runs goes on."""
    op.drop_table("schedules", schema="ai")
