"""Know what the last evaluations of each miner's model measured."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0025"
down_revision = "ai_0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it; nothing was measured before."""
    op.add_column("track_records", sa.Column("recent", sa.Text(), nullable=False, server_default=""), schema="ai")


def downgrade() -> None:
    """Remove it."""
    op.drop_column("track_records", "recent", schema="ai")
