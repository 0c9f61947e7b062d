"""Let assets be exchanged: pairs, orders, trades, and the log of every book."""

import sqlalchemy as sa
from alembic import op

revision = "trading_0010"
down_revision = "trading_0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "exchange_events",
        sa.Column("pair", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("fills", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("pair", "sequence", name=op.f("exchange_events_pk")),
        schema="trading",
        info={"grants": ("SELECT", "INSERT")},
    )
    op.create_table(
        "exchange_pairs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("quote", sa.Text(), nullable=False),
        sa.Column("price_step_units", sa.BigInteger(), nullable=False),
        sa.Column("quantity_step_units", sa.BigInteger(), nullable=False),
        sa.Column("min_quantity_units", sa.BigInteger(), nullable=False),
        sa.Column("max_quantity_units", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("trades", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('open', 'halted')", name=op.f("exchange_pairs_state_check")),
        sa.CheckConstraint("base <> quote", name=op.f("exchange_pairs_two_assets_check")),
        sa.CheckConstraint(
            "min_quantity_units BETWEEN 1 AND max_quantity_units", name=op.f("exchange_pairs_quantities_check")
        ),
        sa.CheckConstraint("price_step_units > 0 AND quantity_step_units > 0", name=op.f("exchange_pairs_steps_check")),
        sa.CheckConstraint(
            "price_step_units::numeric * quantity_step_units % 100000000 = 0", name=op.f("exchange_pairs_exact_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("exchange_pairs_pk")),
        sa.UniqueConstraint("base", "quote", name=op.f("exchange_pairs_base_quote_key")),
        schema="trading",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_table(
        "exchange_trades",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("pair", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("quantity_units", sa.BigInteger(), nullable=False),
        sa.Column("cost_units", sa.BigInteger(), nullable=False),
        sa.Column("maker", sa.Uuid(), nullable=False),
        sa.Column("taker", sa.Uuid(), nullable=False),
        sa.Column("taker_side", sa.Text(), nullable=False),
        sa.Column("buyer", sa.Uuid(), nullable=False),
        sa.Column("seller", sa.Uuid(), nullable=False),
        sa.Column("buyer_fee_units", sa.BigInteger(), nullable=False),
        sa.Column("seller_fee_units", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("buyer <> seller AND maker <> taker", name=op.f("exchange_trades_two_sides_check")),
        sa.CheckConstraint(
            "buyer_fee_units BETWEEN 0 AND quantity_units AND seller_fee_units BETWEEN 0 AND cost_units",
            name=op.f("exchange_trades_fees_check"),
        ),
        sa.CheckConstraint(
            "quantity_units::numeric * price_units = cost_units::numeric * 100000000",
            name=op.f("exchange_trades_exact_check"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("exchange_trades_pk")),
        sa.UniqueConstraint("pair", "number", name=op.f("exchange_trades_pair_number_key")),
        schema="trading",
        info={"grants": ("SELECT", "INSERT")},
    )
    op.create_index("exchange_trades_at_idx", "exchange_trades", ["pair", "created_at"], unique=False, schema="trading")
    op.create_index("exchange_trades_maker_idx", "exchange_trades", ["maker"], unique=False, schema="trading")
    op.create_index("exchange_trades_taker_idx", "exchange_trades", ["taker"], unique=False, schema="trading")
    op.create_table(
        "exchange_orders",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("pair", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("lasts", sa.Text(), nullable=False),
        sa.Column("post_only", sa.Boolean(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=True),
        sa.Column("quantity_units", sa.BigInteger(), nullable=False),
        sa.Column("filled_units", sa.BigInteger(), nullable=False),
        sa.Column("cost_units", sa.BigInteger(), nullable=False),
        sa.Column("fee_basis_points", sa.Integer(), nullable=False),
        sa.Column("fee_units", sa.BigInteger(), nullable=False),
        sa.Column("held_units", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("placed_by", sa.Uuid(), nullable=True),
        sa.Column("ended_by", sa.Uuid(), nullable=True),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(kind = 'limit') = (price_units IS NOT NULL)", name=op.f("exchange_orders_price_check")),
        sa.CheckConstraint("(state = 'open') = (ended_at IS NULL)", name=op.f("exchange_orders_ended_check")),
        sa.CheckConstraint(
            "held_units = CASE WHEN state <> 'open' THEN 0 WHEN side = 'sell' THEN quantity_units - filled_units "
            "ELSE (quantity_units - filled_units)::numeric * price_units / 100000000 END",
            name=op.f("exchange_orders_held_check"),
        ),
        sa.CheckConstraint("kind IN ('limit', 'market')", name=op.f("exchange_orders_kind_check")),
        sa.CheckConstraint("lasts IN ('gtc', 'ioc', 'fok')", name=op.f("exchange_orders_lasts_check")),
        sa.CheckConstraint(
            "reason IS NULL OR reason IN "
            "('would_take', 'not_filled', 'self_trade', 'too_many', 'momentary', 'canceled')",
            name=op.f("exchange_orders_reason_check"),
        ),
        sa.CheckConstraint("side IN ('buy', 'sell')", name=op.f("exchange_orders_side_check")),
        sa.CheckConstraint("state <> 'open' OR kind = 'limit'", name=op.f("exchange_orders_rests_check")),
        sa.CheckConstraint("state IN ('open', 'filled', 'canceled')", name=op.f("exchange_orders_state_check")),
        sa.CheckConstraint(
            "filled_units BETWEEN 0 AND quantity_units AND quantity_units > 0",
            name=op.f("exchange_orders_filled_check"),
        ),
        sa.ForeignKeyConstraint(["pair"], ["trading.exchange_pairs.id"], name=op.f("exchange_orders_pair_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("exchange_orders_pk")),
        schema="trading",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index("exchange_orders_account_idx", "exchange_orders", ["account", "id"], unique=False, schema="trading")
    op.create_index(
        "exchange_orders_book_idx",
        "exchange_orders",
        ["pair", "side", "price_units", "sequence"],
        unique=False,
        schema="trading",
        postgresql_where=sa.text("state = 'open'"),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_index(
        "exchange_orders_book_idx",
        table_name="exchange_orders",
        schema="trading",
        postgresql_where=sa.text("state = 'open'"),
    )
    op.drop_index("exchange_orders_account_idx", table_name="exchange_orders", schema="trading")
    op.drop_table("exchange_orders", schema="trading")
    op.drop_index("exchange_trades_taker_idx", table_name="exchange_trades", schema="trading")
    op.drop_index("exchange_trades_maker_idx", table_name="exchange_trades", schema="trading")
    op.drop_index("exchange_trades_at_idx", table_name="exchange_trades", schema="trading")
    op.drop_table("exchange_trades", schema="trading")
    op.drop_table("exchange_pairs", schema="trading")
    op.drop_table("exchange_events", schema="trading")
