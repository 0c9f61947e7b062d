"""Give the order book away: marketplace has taken it over, before this runs."""

import sqlalchemy as sa
from alembic import op

revision = "gpu_0017"
down_revision = "gpu_0016"
branch_labels = None
depends_on = None

moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Drop the two tables."""
    op.drop_table("market_matches", schema="gpu")
    op.drop_table("market_orders", schema="gpu")


def downgrade() -> None:
    """Make them again, with nothing in them."""
    op.create_table(
        "market_orders",
        sa.Column("id", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("side", "node", "specs", "description", "state")),
        *(sa.Column(name, sa.Text()) for name in ("island", "chain", "model", "region", "partner_node")),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("gpu_count", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("price_units", "duration_ms", "total_units")),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("ended_at", moment),
        *(sa.Column(name, sa.Uuid()) for name in ("ended_by", "partner")),
        sa.Column("ending", sa.LargeBinary()),
        sa.CheckConstraint(
            "(side = 'offer' AND state IN ('active', 'matched', 'cancelled', 'expired'))"
            " OR (side = 'bid' AND state IN ('pending', 'accepted', 'matched', 'cancelled', 'expired'))",
            name=op.f("market_orders_state_check"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("market_orders_pk")),
        schema="gpu",
    )
    op.create_table(
        "market_matches",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("offer", "bid")),
        sa.Column("gpu_count", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("price_units", "duration_ms", "total_units")),
        sa.Column("matched_by", sa.Uuid(), nullable=False),
        sa.Column("matched_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("offer", name=op.f("market_matches_pk")),
        schema="gpu",
    )
