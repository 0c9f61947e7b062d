"""Rate miners by what was paid for their work and their time."""

import sqlalchemy as sa
from alembic import op

revision = "marketplace_0004"
down_revision = "marketplace_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, and what miners and their offers carry of it."""
    op.create_table(
        "ratings",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("stars", sa.SmallInteger(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("rated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("account <> owner", name=op.f("ratings_own_check")),
        sa.CheckConstraint("stars BETWEEN 1 AND 5", name=op.f("ratings_stars_check")),
        sa.PrimaryKeyConstraint("subject", name=op.f("ratings_pk")),
        schema="marketplace",
        info={"grants": ("SELECT", "INSERT")},
    )
    op.create_index("ratings_miner_idx", "ratings", ["miner", "rated_at", "subject"], schema="marketplace")
    op.create_index("ratings_rated_at_idx", "ratings", ["rated_at", "subject"], schema="marketplace")
    for table, column in (("miners", "stars"), ("miners", "ratings"), ("offers", "ratings")):
        op.add_column(
            table, sa.Column(column, sa.BigInteger(), server_default=sa.text("0"), nullable=False), schema="marketplace"
        )
    op.add_column(
        "offers",
        sa.Column("rating_milli", sa.Integer(), server_default=sa.text("3000"), nullable=False),
        schema="marketplace",
    )


def downgrade() -> None:
    """Remove them."""
    for table, column in (
        ("offers", "rating_milli"),
        ("offers", "ratings"),
        ("miners", "ratings"),
        ("miners", "stars"),
    ):
        op.drop_column(table, column, schema="marketplace")
    op.drop_table("ratings", schema="marketplace")
