"""Know when the first piece of an output came, for promises about it; pieces themselves are removed with their job."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0026"
down_revision = "ai_0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it; of attempts of before it is not known."""
    op.add_column("attempts", sa.Column("first_text_at", sa.DateTime(timezone=True), nullable=True), schema="ai")


def downgrade() -> None:
    """Remove it."""
    op.drop_column("attempts", "first_text_at", schema="ai")
