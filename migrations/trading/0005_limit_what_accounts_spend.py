"""Limit what accounts spend: budgets, what counts against them, and the holds that are counted."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import text

revision = "trading_0005"
down_revision = "trading_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of budgets, and note at accounts and holds whether there are any."""
    moment = sa.DateTime(timezone=True)
    op.add_column(
        "accounts", sa.Column("budgets", sa.Integer(), server_default=text("0"), nullable=False), schema="trading"
    )
    op.add_column("holds", sa.Column("budgets", sa.Text()), schema="trading")
    op.create_table(
        "budgets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Uuid()),
        sa.Column("model", sa.Text()),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("limit_units", sa.BigInteger(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("ended_at", moment),
        sa.CheckConstraint("limit_units >= 0", name=op.f("budgets_not_negative_check")),
        sa.CheckConstraint("period IN ('day', 'month', 'total')", name=op.f("budgets_period_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("budgets_pk")),
        schema="trading",
    )
    op.create_index(
        "budgets_account_idx", "budgets", ["account"], schema="trading", postgresql_where=text("ended_at IS NULL")
    )
    op.create_table(
        "budget_uses",
        sa.Column("budget", sa.Uuid(), nullable=False),
        sa.Column("period_start", sa.Date(), nullable=False),
        sa.Column("held_units", sa.BigInteger(), nullable=False),
        sa.Column("spent_units", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("held_units >= 0 AND spent_units >= 0", name=op.f("budget_uses_not_negative_check")),
        sa.PrimaryKeyConstraint("budget", "period_start", name=op.f("budget_uses_pk")),
        schema="trading",
    )


def downgrade() -> None:
    """Remove them; nothing limits any account then."""
    op.drop_table("budget_uses", schema="trading")
    op.drop_table("budgets", schema="trading")
    op.drop_column("holds", "budgets", schema="trading")
    op.drop_column("accounts", "budgets", schema="trading")
