"""Lease GPUs: know those of each miner, and which an attempt has."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0009"
down_revision = "ai_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; what is there already has no GPU of its own."""
    op.add_column("attempts", sa.Column("devices", sa.Text()), schema="ai")
    op.add_column("miners", sa.Column("devices", sa.Text()), schema="ai")


def downgrade() -> None:
    """Remove them."""
    op.drop_column("miners", "devices", schema="ai")
    op.drop_column("attempts", "devices", schema="ai")
