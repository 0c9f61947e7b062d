"""Know whose what miners ask is, so that quotes list the offers of owners who deal with the payer."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0018"
down_revision = "ai_0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; it is filled as offers change."""
    op.add_column("asks", sa.Column("account", sa.Uuid(), nullable=True), schema="ai")


def downgrade() -> None:
    """Remove it."""
    op.drop_column("asks", "account", schema="ai")
