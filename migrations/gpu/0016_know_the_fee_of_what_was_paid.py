"""Remember which part of a booking's cost the platform took, so that it can go back with a dispute."""

import sqlalchemy as sa
from alembic import op

revision = "gpu_0016"
down_revision = "gpu_0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A booking knows its fee; of what was paid before it is not known."""
    op.add_column("bookings", sa.Column("fee_units", sa.BigInteger(), nullable=True), schema="gpu")


def downgrade() -> None:
    """Fees are forgotten."""
    op.drop_column("bookings", "fee_units", schema="gpu")
