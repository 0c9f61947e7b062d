"""Know which request placed a booking, so that the same one, repeated, goes on with it."""

import sqlalchemy as sa
from alembic import op

revision = "gpu_0005"
down_revision = "gpu_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; bookings that were placed before have none."""
    op.add_column("bookings", sa.Column("request", sa.LargeBinary()), schema="gpu")


def downgrade() -> None:
    """Remove it."""
    op.drop_column("bookings", "request", schema="gpu")
