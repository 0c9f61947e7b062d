"""Know what miners ask by the offers of their owners, and freeze it in each attempt."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0010"
down_revision = "ai_0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables and the columns."""
    op.create_table(
        "asks",
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("asks", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("miner", name=op.f("asks_pk")),
        schema="ai",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_table(
        "offers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("offers_pk")),
        schema="ai",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index(
        "offers_open_idx",
        "offers",
        ["miner", "id"],
        unique=False,
        schema="ai",
        postgresql_where=sa.text("state = 'open'"),
    )
    op.add_column("attempts", sa.Column("ask_units", sa.BigInteger(), nullable=True), schema="ai")
    op.add_column("attempts", sa.Column("offer", sa.Text(), nullable=True), schema="ai")


def downgrade() -> None:
    """Remove them."""
    op.drop_column("attempts", "offer", schema="ai")
    op.drop_column("attempts", "ask_units", schema="ai")
    op.drop_index("offers_open_idx", table_name="offers", schema="ai", postgresql_where=sa.text("state = 'open'"))
    op.drop_table("offers", schema="ai")
    op.drop_table("asks", schema="ai")
