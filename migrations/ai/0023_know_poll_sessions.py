"""Keep of leases the session of polls and whether a newcomer has it, and of canaries what their answer must be."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0023"
down_revision = "ai_0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; leases that were made before belong to no session, and no newcomer."""
    op.add_column("attempts", sa.Column("session", sa.Text(), nullable=True), schema="ai")
    no = sa.text("false")
    op.add_column("attempts", sa.Column("newcomer", sa.Boolean(), nullable=False, server_default=no), schema="ai")
    op.add_column("canaries", sa.Column("expects", sa.Text(), nullable=False, server_default=""), schema="ai")


def downgrade() -> None:
    """Remove them."""
    op.drop_column("canaries", "expects", schema="ai")
    op.drop_column("attempts", "newcomer", schema="ai")
    op.drop_column("attempts", "session", schema="ai")
