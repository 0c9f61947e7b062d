"""Keep why a miner is in its status, for those whose jobs wait for it."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0003"
down_revision = "ai_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what was known before has no reason."""
    op.add_column("miners", sa.Column("status_reason", sa.Text()), schema="ai")


def downgrade() -> None:
    """Remove it."""
    op.drop_column("miners", "status_reason", schema="ai")
