"""Know what models take: how many tokens, pictures or not, as far as their miners say."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0024"
down_revision = "ai_0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it; of miners that are there already nothing is known until their next event."""
    op.add_column("miners", sa.Column("model_facts", sa.Text(), nullable=True), schema="ai")


def downgrade() -> None:
    """Remove it."""
    op.drop_column("miners", "model_facts", schema="ai")
