"""Keep what governance decided about plugins."""

import sqlalchemy as sa
from alembic import op

revision = "plugins_0002"
down_revision = "plugins_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "rulings",
        sa.Column("plugin", sa.Text(), nullable=False),
        sa.Column("allowed", sa.Boolean(), nullable=False),
        sa.Column("proposal", sa.Text(), nullable=False),
        sa.Column("ruled_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("plugin", name=op.f("rulings_pk")),
        schema="plugins",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("rulings", schema="plugins")
