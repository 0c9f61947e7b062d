"""Know what an hour of work costs: what an offer is metered in, and how fast its miner is."""

import sqlalchemy as sa
from alembic import op

revision = "marketplace_0014"
down_revision = "marketplace_0013"
branch_labels = None
depends_on = None

HOUR = "(price_units::numeric * units_hour::numeric)"


def upgrade() -> None:
    """Add the columns, and the sort by them."""
    op.add_column("offers", sa.Column("unit", sa.Text()), schema="marketplace")
    op.add_column("offers", sa.Column("units_hour", sa.BigInteger()), schema="marketplace")
    op.execute("UPDATE marketplace.offers SET units_hour = 1 WHERE sells = 'device'")
    op.create_index(
        "offers_by_hour_idx",
        "offers",
        [sa.text(HOUR), "id"],
        schema="marketplace",
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "offers_measured_idx",
        "offers",
        ["kind", "model"],
        schema="marketplace",
        postgresql_where=sa.text("state = 'open' AND sells = 'work'"),
    )


def downgrade() -> None:
    """Remove them."""
    for name in ("offers_measured_idx", "offers_by_hour_idx"):
        op.drop_index(name, "offers", schema="marketplace")
    for name in ("units_hour", "unit"):
        op.drop_column("offers", name, schema="marketplace")
