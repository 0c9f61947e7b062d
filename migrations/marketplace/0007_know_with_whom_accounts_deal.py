"""Know with whom accounts deal: whose jobs and bookings their miners take, and whose miners their own go to."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "marketplace_0007"
down_revision = "marketplace_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "terms",
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("buyers_mode", sa.Text(), nullable=False),
        sa.Column("buyers", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("owners_mode", sa.Text(), nullable=False),
        sa.Column("owners", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "buyers_mode IN ('deny', 'allow') AND owners_mode IN ('deny', 'allow')", name=op.f("terms_modes_check")
        ),
        sa.PrimaryKeyConstraint("account", name=op.f("terms_pk")),
        schema="marketplace",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("terms", schema="marketplace")
