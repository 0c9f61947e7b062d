"""Watch addresses: what accounts want to be told of."""

import sqlalchemy as sa
from alembic import op

revision = "trading_0013"
down_revision = "trading_0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "watches",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("above_units", sa.BigInteger(), nullable=False),
        sa.Column("label", sa.Text()),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("told", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("subject IN ('account', 'miner')", name=op.f("watches_subject_check")),
        sa.CheckConstraint("above_units >= 0 AND seen >= 0", name=op.f("watches_not_negative_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("watches_pk")),
        schema="trading",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index("watches_account_idx", "watches", ["account", "id"], schema="trading")
    op.create_index(
        "watches_open_idx", "watches", ["id"], schema="trading", postgresql_where=sa.text("ended_at IS NULL")
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("watches", schema="trading")
