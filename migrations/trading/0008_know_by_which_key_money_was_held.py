"""Know by which API key money was held, and which receipts were refunded."""

import sqlalchemy as sa
from alembic import op

revision = "trading_0008"
down_revision = "trading_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, and the table of refunds; of before, nobody noted either."""
    op.add_column("holds", sa.Column("key", sa.Uuid()), schema="trading")
    op.create_table(
        "refunds",
        sa.Column("transaction_id", sa.Uuid(), nullable=False),
        sa.Column("receipt", sa.Uuid(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("fee_units", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "price_units > 0 AND fee_units BETWEEN 0 AND price_units", name=op.f("refunds_within_price_check")
        ),
        sa.PrimaryKeyConstraint("transaction_id", name=op.f("refunds_pk")),
        schema="trading",
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_table("refunds", schema="trading")
    op.drop_column("holds", "key", schema="trading")
