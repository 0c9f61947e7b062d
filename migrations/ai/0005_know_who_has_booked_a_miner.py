"""Know of a miner which booking it is in, and whose that is: it takes no other jobs; and which CUDA it has."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0005"
down_revision = "ai_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; no miner was booked before, and none has told of its CUDA."""
    op.add_column("miners", sa.Column("cuda", sa.Text()), schema="ai")
    op.add_column("miners", sa.Column("booking", sa.Text()), schema="ai")
    op.add_column("miners", sa.Column("booker", sa.Text()), schema="ai")


def downgrade() -> None:
    """Remove them."""
    op.drop_column("miners", "booker", schema="ai")
    op.drop_column("miners", "booking", schema="ai")
    op.drop_column("miners", "cuda", schema="ai")
