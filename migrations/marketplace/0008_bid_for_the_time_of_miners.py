"""Bid for the time of miners, and keep a log of the book."""

import sqlalchemy as sa
from alembic import op

revision = "marketplace_0008"
down_revision = "marketplace_0007"
branch_labels = None
depends_on = None

REASONS = ("would_take", "not_filled", "no_funds", "not_placed", "canceled", "expired", "closed", "momentary")


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "bids",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column("limit_units", sa.BigInteger(), nullable=False),
        sa.Column("quantity", sa.SmallInteger(), nullable=False),
        sa.Column("filled", sa.SmallInteger(), nullable=False),
        sa.Column("lasts", sa.Text(), nullable=False),
        sa.Column("post_only", sa.Boolean(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(state IN ('placing', 'open')) = (ended_at IS NULL)", name=op.f("bids_ended_check")),
        sa.CheckConstraint("kind IN ('bid', 'request')", name=op.f("bids_kind_check")),
        sa.CheckConstraint("lasts IN ('gtc', 'ioc', 'fok')", name=op.f("bids_lasts_check")),
        sa.CheckConstraint(
            f"reason IS NULL OR reason IN {REASONS}",
            name=op.f("bids_reason_check"),
        ),
        sa.CheckConstraint(
            "state IN ('placing', 'open', 'filled', 'canceled', 'expired')", name=op.f("bids_state_check")
        ),
        sa.CheckConstraint("filled BETWEEN 0 AND quantity", name=op.f("bids_filled_check")),
        sa.CheckConstraint("limit_units > 0 AND seconds > 0 AND quantity > 0", name=op.f("bids_wanted_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("bids_pk")),
        schema="marketplace",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index("bids_account_idx", "bids", ["account", "id"], unique=False, schema="marketplace")
    op.create_index(
        "bids_unfinished_idx",
        "bids",
        ["id"],
        unique=False,
        schema="marketplace",
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "book_events",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("trades", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("book_events_pk")),
        schema="marketplace",
        info={"grants": ("SELECT", "INSERT")},
    )
    op.create_table(
        "bid_asks",
        sa.Column("bid", sa.Uuid(), nullable=False),
        sa.Column("offer", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("price_units > 0", name=op.f("bid_asks_price_check")),
        sa.ForeignKeyConstraint(["bid"], ["marketplace.bids.id"], name=op.f("bid_asks_bid_fkey")),
        sa.ForeignKeyConstraint(["offer"], ["marketplace.offers.id"], name=op.f("bid_asks_offer_fkey")),
        sa.PrimaryKeyConstraint("bid", "offer", name=op.f("bid_asks_pk")),
        schema="marketplace",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_table(
        "bid_parts",
        sa.Column("bid", sa.Uuid(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("hold", sa.Uuid(), nullable=False),
        sa.Column("booking", sa.Uuid(), nullable=False),
        sa.Column("amount_units", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("offer", sa.Uuid(), nullable=True),
        sa.Column("price_units", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(state = 'traded') = (offer IS NOT NULL AND price_units IS NOT NULL)", name=op.f("bid_parts_traded_check")
        ),
        sa.CheckConstraint(
            "state IN ('asked', 'held', 'traded', 'returning', 'returned')", name=op.f("bid_parts_state_check")
        ),
        sa.CheckConstraint("amount_units > 0", name=op.f("bid_parts_amount_check")),
        sa.ForeignKeyConstraint(["bid"], ["marketplace.bids.id"], name=op.f("bid_parts_bid_fkey")),
        sa.ForeignKeyConstraint(["offer"], ["marketplace.offers.id"], name=op.f("bid_parts_offer_fkey")),
        sa.PrimaryKeyConstraint("bid", "number", name=op.f("bid_parts_pk")),
        schema="marketplace",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index(
        "bid_parts_unfinished_idx",
        "bid_parts",
        ["bid"],
        unique=False,
        schema="marketplace",
        postgresql_where=sa.text("state IN ('asked', 'returning')"),
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_index(
        "bid_parts_unfinished_idx",
        table_name="bid_parts",
        schema="marketplace",
        postgresql_where=sa.text("state IN ('asked', 'returning')"),
    )
    op.drop_table("bid_parts", schema="marketplace")
    op.drop_table("bid_asks", schema="marketplace")
    op.drop_table("book_events", schema="marketplace")
    op.drop_index(
        "bids_unfinished_idx", table_name="bids", schema="marketplace", postgresql_where=sa.text("ended_at IS NULL")
    )
    op.drop_index("bids_account_idx", table_name="bids", schema="marketplace")
    op.drop_table("bids", schema="marketplace")
