"""Know by which booking a reviewer has used the GPU: a review without one does not count."""

import sqlalchemy as sa
from alembic import op

revision = "gpu_0010"
down_revision = "gpu_0009"
branch_labels = None
depends_on = None

USED = """
UPDATE gpu.gpu_reviews r SET booking = (
    SELECT b.id FROM gpu.bookings b
    WHERE b.gpu = r.gpu AND b.account = r.account AND b.state IN ('released', 'ended')
        AND least(b.ended_at, b.ends_at) - b.starts_at - b.unreachable_us * interval '1 microsecond' >= interval '60 s'
    ORDER BY b.id DESC LIMIT 1)"""


def upgrade() -> None:
    """Add the column, and find the bookings of the reviews that are there."""
    op.add_column("gpu_reviews", sa.Column("booking", sa.Uuid()), schema="gpu")
    op.execute(USED)


def downgrade() -> None:
    """Remove it: every review counts again."""
    op.drop_column("gpu_reviews", "booking", schema="gpu")
