"""Know of which trace the event of a webhook was, so that each attempt to deliver it belongs to it."""

import sqlalchemy as sa
from alembic import op

revision = "kernel_0008"
down_revision = "kernel_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the trace's id; deliveries of before have none."""
    op.add_column("webhook_deliveries", sa.Column("trace_id", sa.Text(), nullable=True), schema="kernel")


def downgrade() -> None:
    """Forget it."""
    op.drop_column("webhook_deliveries", "trace_id", schema="kernel")
