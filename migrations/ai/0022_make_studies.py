"""Keep studies and their trials."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0022"
down_revision = "ai_0021"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "studies",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("trial_units", sa.BigInteger(), nullable=False),
        sa.Column("budget_units", sa.BigInteger(), nullable=False),
        sa.Column("reserved_units", sa.BigInteger(), nullable=False),
        sa.Column("spent_units", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.CheckConstraint(
            "state IN ('running', 'paused', 'canceling', 'complete', 'exhausted', 'failed', 'canceled')",
            name=op.f("studies_state_check"),
        ),
        sa.CheckConstraint(
            "reserved_units >= 0 AND spent_units >= 0 AND reserved_units + spent_units <= budget_units",
            name=op.f("studies_budget_check"),
        ),
        sa.CheckConstraint(
            "(ended_at IS NULL) = (state IN ('running', 'paused', 'canceling'))", name=op.f("studies_ended_check")
        ),
        sa.CheckConstraint("ended_at IS NULL OR reserved_units = 0", name=op.f("studies_released_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("studies_pk")),
        schema="ai",
    )
    op.create_index("studies_account_idx", "studies", ["account", "id"], schema="ai")
    op.create_index("studies_open_idx", "studies", ["id"], schema="ai", postgresql_where=sa.text("ended_at IS NULL"))
    op.create_table(
        "trials",
        sa.Column("study", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("params", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("reports", sa.Text(), nullable=False),
        sa.Column("job", sa.Uuid(), nullable=True),
        sa.Column("spent_units", sa.BigInteger(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.CheckConstraint(
            "state IN ('starting', 'running', 'stopping', 'complete', 'pruned', 'failed', 'canceled')",
            name=op.f("trials_state_check"),
        ),
        sa.CheckConstraint("(value IS NOT NULL) = (state = 'complete')", name=op.f("trials_value_check")),
        sa.PrimaryKeyConstraint("study", "number", name=op.f("trials_pk")),
        schema="ai",
    )


def downgrade() -> None:
    """Remove them; jobs under way end by themselves."""
    op.drop_table("trials", schema="ai")
    op.drop_table("studies", schema="ai")
