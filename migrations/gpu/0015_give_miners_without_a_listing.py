"""Let miners be given to an account without a listing of theirs: other modules sell their time."""

import sqlalchemy as sa
from alembic import op

revision = "gpu_0015"
down_revision = "gpu_0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A booking may have no listing."""
    op.alter_column("bookings", "gpu", existing_type=sa.Uuid(), nullable=True, schema="gpu")


def downgrade() -> None:
    """Each booking has a listing; those without one are forgotten."""
    op.execute("DELETE FROM gpu.bookings WHERE gpu IS NULL")
    op.alter_column("bookings", "gpu", existing_type=sa.Uuid(), nullable=False, schema="gpu")
