"""Place jobs by agreement: what they are asked until they are placed, and which they are."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "marketplace_0012"
down_revision = "marketplace_0011"
branch_labels = None
depends_on = None

moment = sa.DateTime(timezone=True)
GRANTS = {"grants": ("SELECT", "INSERT", "UPDATE")}


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "agreed_work",
        sa.Column("agreement", sa.Text(), nullable=False),
        sa.Column("offer", sa.Uuid(), nullable=False),
        sa.Column("payer", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("unit_price_units", sa.BigInteger(), nullable=False),
        sa.Column("job_price_units", sa.BigInteger(), nullable=False),
        sa.Column("inputs", sa.Text(), nullable=False),
        sa.Column("jobs", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("paid_units", sa.BigInteger(), nullable=False),
        sa.Column("signed_at", moment, nullable=False),
        sa.Column("ended_at", moment),
        sa.CheckConstraint("state IN ('placing', 'placed', 'ended')", name=op.f("agreed_work_state_check")),
        sa.CheckConstraint("(state = 'ended') = (ended_at IS NOT NULL)", name=op.f("agreed_work_ended_check")),
        sa.CheckConstraint("unit_price_units > 0 AND job_price_units > 0", name=op.f("agreed_work_price_check")),
        sa.ForeignKeyConstraint(["offer"], ["marketplace.offers.id"], name=op.f("agreed_work_offer_fkey")),
        sa.PrimaryKeyConstraint("agreement", name=op.f("agreed_work_pk")),
        schema="marketplace",
        info=GRANTS,
    )
    op.create_index(
        "agreed_work_open_idx",
        "agreed_work",
        ["agreement"],
        schema="marketplace",
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def downgrade() -> None:
    """Remove it; its jobs go on as any others."""
    op.drop_table("agreed_work", schema="marketplace")
