"""Agreements may be settled by subscription: a part of the price for each period."""

import sqlalchemy as sa
from alembic import op

revision = "trading_0004"
down_revision = "trading_0003"
branch_labels = None
depends_on = None

CHECK = "trade_agreements_settlement_type_check"


def upgrade() -> None:
    """Add the length of a period, and allow the fourth type of settlement."""
    for table in ("trade_negotiations", "trade_agreements"):
        op.add_column(table, sa.Column("period_hours", sa.SmallInteger()), schema="trading")
    op.drop_constraint(op.f(CHECK), "trade_agreements", schema="trading", type_="check")
    op.create_check_constraint(
        op.f(CHECK),
        "trade_agreements",
        "settlement_type IN ('immediate', 'escrow', 'milestone', 'subscription')",
        schema="trading",
    )
    op.create_check_constraint(
        op.f("trade_agreements_period_hours_check"),
        "trade_agreements",
        "(settlement_type = 'subscription') = (period_hours IS NOT NULL)",
        schema="trading",
    )


def downgrade() -> None:
    """Remove them; agreements by subscription must be gone before."""
    op.drop_constraint(op.f("trade_agreements_period_hours_check"), "trade_agreements", schema="trading", type_="check")
    op.drop_constraint(op.f(CHECK), "trade_agreements", schema="trading", type_="check")
    op.create_check_constraint(
        op.f(CHECK), "trade_agreements", "settlement_type IN ('immediate', 'escrow', 'milestone')", schema="trading"
    )
    for table in ("trade_agreements", "trade_negotiations"):
        op.drop_column(table, "period_hours", schema="trading")
