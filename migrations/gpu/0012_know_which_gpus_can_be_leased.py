"""Know which GPUs of a miner can be leased to jobs."""

import sqlalchemy as sa
from alembic import op

revision = "gpu_0012"
down_revision = "gpu_0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; it is filled when a miner next shows its GPUs, which is told by the digest of them."""
    op.add_column("profiles", sa.Column("devices", sa.Text()), schema="gpu")


def downgrade() -> None:
    """Remove it."""
    op.drop_column("profiles", "devices", schema="gpu")
