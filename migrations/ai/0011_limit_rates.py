"""Limit how many requests and tokens an account asks in a minute, and how many requests at once."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0011"
down_revision = "ai_0010"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "rate_limits",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Uuid()),
        sa.Column("model", sa.Text()),
        sa.Column("requests_per_minute", sa.Integer()),
        sa.Column("tokens_per_minute", sa.BigInteger()),
        sa.Column("concurrency", sa.Integer()),
        sa.Column("by_operator", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.CheckConstraint(
            "requests_per_minute > 0 OR tokens_per_minute > 0 OR concurrency > 0",
            name=op.f("rate_limits_limits_something_check"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("rate_limits_pk")),
        schema="ai",
    )
    op.create_index("rate_limits_changed_at_idx", "rate_limits", ["changed_at"], schema="ai")
    op.create_index(
        "rate_limits_account_idx", "rate_limits", ["account"], schema="ai", postgresql_where=sa.text("ended_at IS NULL")
    )
    op.create_table(
        "rate_windows",
        sa.Column("rate_limit", sa.Uuid(), nullable=False),
        sa.Column("measure", sa.Text(), nullable=False),
        sa.Column("window_start", MOMENT, nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("rate_limit", "measure", name=op.f("rate_windows_pk")),
        schema="ai",
    )
    op.create_table(
        "rate_slots",
        sa.Column("rate_limit", sa.Uuid(), nullable=False),
        sa.Column("process", sa.Uuid(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("rate_limit", "process", name=op.f("rate_slots_pk")),
        schema="ai",
    )


def downgrade() -> None:
    """Remove them; nothing limits any rate then."""
    for table in ("rate_slots", "rate_windows", "rate_limits"):
        op.drop_table(table, schema="ai")
