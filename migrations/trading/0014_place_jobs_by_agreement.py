"""Place jobs by agreement: offers of work among those of trades, the jobs that requests are for, and those placed."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "trading_0014"
down_revision = "trading_0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and an index."""
    for table, name in (("trade_offers", "work_kind"), ("trade_offers", "work_model"), ("trade_requests", "work")):
        op.add_column(table, sa.Column(name, sa.Text()), schema="trading")
    op.create_index(
        "trade_offers_work_idx",
        "trade_offers",
        ["work_kind", "price_units"],
        schema="trading",
        postgresql_where=sa.text("state = 'open' AND work_kind IS NOT NULL"),
    )
    jobs = sa.Column("jobs", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False)
    op.add_column("trade_agreements", jobs, schema="trading")


def downgrade() -> None:
    """Remove them; offers of work and agreements about it must be gone before."""
    op.drop_column("trade_agreements", "jobs", schema="trading")
    op.drop_index("trade_offers_work_idx", "trade_offers", schema="trading")
    for table, name in (("trade_requests", "work"), ("trade_offers", "work_model"), ("trade_offers", "work_kind")):
        op.drop_column(table, name, schema="trading")
