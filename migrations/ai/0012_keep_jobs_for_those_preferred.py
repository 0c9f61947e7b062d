"""Keep a new job for the miners that its payer prefers."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0012"
down_revision = "ai_0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; jobs of before prefer nobody."""
    op.add_column("jobs", sa.Column("preferred", sa.Text(), server_default="", nullable=False), schema="ai")


def downgrade() -> None:
    """Remove it."""
    op.drop_column("jobs", "preferred", schema="ai")
