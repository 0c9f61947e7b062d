"""Know since when a miner may still work for a booking that is over."""

import sqlalchemy as sa
from alembic import op

revision = "gpu_0008"
down_revision = "gpu_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("miners", sa.Column("stopping_since", sa.DateTime(timezone=True)), schema="gpu")


def downgrade() -> None:
    """Remove it."""
    op.drop_column("miners", "stopping_since", schema="gpu")
