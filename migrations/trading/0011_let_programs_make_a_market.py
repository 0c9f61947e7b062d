"""Let programs make a market: how they quote, and which orders are theirs."""

import sqlalchemy as sa
from alembic import op

revision = "trading_0011"
down_revision = "trading_0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, and the column."""
    op.create_table(
        "exchange_makers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("pair", sa.Text(), nullable=False),
        sa.Column("spread_basis_points", sa.Integer(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("size_units", sa.BigInteger(), nullable=False),
        sa.Column("base_limit_units", sa.BigInteger(), nullable=False),
        sa.Column("quote_limit_units", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "reason IS NULL OR reason IN ('no_price', 'no_funds', 'halted')", name=op.f("exchange_makers_reason_check")
        ),
        sa.CheckConstraint("state IN ('stopped', 'running')", name=op.f("exchange_makers_state_check")),
        sa.CheckConstraint("depth BETWEEN 1 AND 10", name=op.f("exchange_makers_depth_check")),
        sa.CheckConstraint(
            "size_units > 0 AND base_limit_units >= 0 AND quote_limit_units >= 0",
            name=op.f("exchange_makers_limits_check"),
        ),
        sa.CheckConstraint("spread_basis_points BETWEEN 1 AND 5000", name=op.f("exchange_makers_spread_check")),
        sa.ForeignKeyConstraint(["pair"], ["trading.exchange_pairs.id"], name=op.f("exchange_makers_pair_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("exchange_makers_pk")),
        schema="trading",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index("exchange_makers_account_idx", "exchange_makers", ["account", "id"], unique=False, schema="trading")
    op.create_index(
        "exchange_makers_running_idx",
        "exchange_makers",
        ["id"],
        unique=False,
        schema="trading",
        postgresql_where=sa.text("state = 'running'"),
    )
    op.add_column("exchange_orders", sa.Column("market_maker", sa.Uuid(), nullable=True), schema="trading")
    op.create_index(
        "exchange_orders_maker_idx",
        "exchange_orders",
        ["market_maker", "id"],
        unique=False,
        schema="trading",
        postgresql_where=sa.text("market_maker IS NOT NULL"),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_index(
        "exchange_orders_maker_idx",
        table_name="exchange_orders",
        schema="trading",
        postgresql_where=sa.text("market_maker IS NOT NULL"),
    )
    op.drop_column("exchange_orders", "market_maker", schema="trading")
    op.drop_index(
        "exchange_makers_running_idx",
        table_name="exchange_makers",
        schema="trading",
        postgresql_where=sa.text("state = 'running'"),
    )
    op.drop_index("exchange_makers_account_idx", table_name="exchange_makers", schema="trading")
    op.drop_table("exchange_makers", schema="trading")
