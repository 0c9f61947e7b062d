"""Place bookings by agreement: which agreement each was placed by."""

import sqlalchemy as sa
from alembic import op

revision = "marketplace_0010"
down_revision = "marketplace_0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and its key."""
    op.add_column("bookings", sa.Column("agreement", sa.Text()), schema="marketplace")
    op.create_index(
        "bookings_agreement_key",
        "bookings",
        ["agreement"],
        unique=True,
        schema="marketplace",
        postgresql_where=sa.text("agreement IS NOT NULL"),
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_index("bookings_agreement_key", "bookings", schema="marketplace")
    op.drop_column("bookings", "agreement", schema="marketplace")
