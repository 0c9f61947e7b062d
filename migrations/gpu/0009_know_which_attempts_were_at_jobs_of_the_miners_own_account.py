"""Know which attempts were at jobs of the miner's own account: they do not count for its reputation."""

import sqlalchemy as sa
from alembic import op

revision = "gpu_0009"
down_revision = "gpu_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of attempts that are there it is not known, and they count as they did."""
    column = sa.Column("is_own_work", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    op.add_column("reputation_events", column, schema="gpu")


def downgrade() -> None:
    """Remove it: what it kept from counting is in no sum."""
    op.drop_column("reputation_events", "is_own_work", schema="gpu")
