"""Add the GPU market: its orders and matches, the GPUs that are listed, and their reviews."""

import sqlalchemy as sa
from alembic import op

revision = "gpu_0003"
down_revision = "gpu_0002"
branch_labels = None
depends_on = None

moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the four tables."""
    _create_listed_gpus()
    _create_orders()
    _create_reviews()
    _create_matches()


def _create_listed_gpus() -> None:
    """GPUs that are listed."""
    op.create_table(
        "listed_gpus",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("miner_name", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("memory_gb", sa.Integer()),
        sa.Column("cuda_cores", sa.Integer()),
        sa.Column("compute_capability", sa.Text()),
        sa.Column("region", sa.Text()),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("removed_at", moment),
        sa.CheckConstraint(
            "price_units >= 0 AND memory_gb >= 0 AND cuda_cores >= 0", name=op.f("listed_gpus_facts_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("listed_gpus_pk")),
        schema="gpu",
    )
    op.create_index(
        "listed_gpus_account_idx",
        "listed_gpus",
        ["account", "id"],
        schema="gpu",
        postgresql_where=sa.text("removed_at IS NULL"),
    )
    op.create_index(
        "listed_gpus_created_at_idx",
        "listed_gpus",
        ["created_at", "id"],
        schema="gpu",
        postgresql_where=sa.text("removed_at IS NULL"),
    )


def _create_orders() -> None:
    """Offers and bids."""
    op.create_table(
        "market_orders",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("island", sa.Text()),
        sa.Column("chain", sa.Text()),
        sa.Column("gpu_count", sa.Integer(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
        sa.Column("total_units", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.Text()),
        sa.Column("region", sa.Text()),
        sa.Column("specs", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("ended_at", moment),
        sa.Column("ended_by", sa.Uuid()),
        sa.Column("ending", sa.LargeBinary()),
        sa.Column("partner", sa.Uuid()),
        sa.Column("partner_node", sa.Text()),
        sa.CheckConstraint(
            "(side = 'offer' AND state IN ('active', 'matched', 'cancelled'))"
            " OR (side = 'bid' AND state IN ('pending', 'accepted', 'matched', 'cancelled'))",
            name=op.f("market_orders_state_check"),
        ),
        sa.CheckConstraint(
            "(state IN ('accepted', 'matched')) = (partner IS NOT NULL)", name=op.f("market_orders_partner_check")
        ),
        sa.CheckConstraint(
            "(state IN ('active', 'pending')) = (ended_at IS NULL)", name=op.f("market_orders_ended_check")
        ),
        sa.CheckConstraint(
            "gpu_count BETWEEN 1 AND 100000 AND duration_ms > 0 AND price_units >= 0 AND total_units >= 0",
            name=op.f("market_orders_terms_check"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("market_orders_pk")),
        schema="gpu",
    )
    op.create_index("market_orders_created_at_idx", "market_orders", ["created_at", "id"], schema="gpu")
    op.create_index(
        "market_orders_open_idx",
        "market_orders",
        ["account"],
        schema="gpu",
        postgresql_where=sa.text("state = ANY (ARRAY['active'::text, 'pending'::text])"),
    )


def _create_reviews() -> None:
    """What is said of GPUs."""
    op.create_table(
        "gpu_reviews",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("gpu", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("rating", sa.SmallInteger(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.CheckConstraint("rating BETWEEN 1 AND 5", name=op.f("gpu_reviews_rating_check")),
        sa.ForeignKeyConstraint(["gpu"], ["gpu.listed_gpus.id"], name=op.f("gpu_reviews_gpu_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("gpu_reviews_pk")),
        sa.UniqueConstraint("gpu", "account", name=op.f("gpu_reviews_gpu_account_key")),
        schema="gpu",
    )
    op.create_index("gpu_reviews_gpu_idx", "gpu_reviews", ["gpu", "created_at", "id"], schema="gpu")


def _create_matches() -> None:
    """Offers and bids that found each other."""
    op.create_table(
        "market_matches",
        sa.Column("offer", sa.Text(), nullable=False),
        sa.Column("bid", sa.Text(), nullable=False),
        sa.Column("gpu_count", sa.Integer(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
        sa.Column("total_units", sa.BigInteger(), nullable=False),
        sa.Column("matched_by", sa.Uuid(), nullable=False),
        sa.Column("matched_at", moment, nullable=False),
        sa.ForeignKeyConstraint(["bid"], ["gpu.market_orders.id"], name=op.f("market_matches_bid_fkey")),
        sa.ForeignKeyConstraint(["offer"], ["gpu.market_orders.id"], name=op.f("market_matches_offer_fkey")),
        sa.PrimaryKeyConstraint("offer", name=op.f("market_matches_pk")),
        sa.UniqueConstraint("bid", name=op.f("market_matches_bid_key")),
        schema="gpu",
    )


def downgrade() -> None:
    """Remove them."""
    for table in ("market_matches", "gpu_reviews", "market_orders", "listed_gpus"):
        op.drop_table(table, schema="gpu")
