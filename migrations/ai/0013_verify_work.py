"""Verify work: tiers of jobs, answers until their verdict, track records, and trusted miners."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0013"
down_revision = "ai_0012"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add columns and tables; jobs of before are not verified, and no miner is trusted."""
    op.add_column("jobs", sa.Column("verification", sa.Text(), server_default="none", nullable=False), schema="ai")
    op.add_column("jobs", sa.Column("copies", sa.SmallInteger(), server_default="1", nullable=False), schema="ai")
    op.add_column("jobs", sa.Column("barred", sa.Text(), server_default="", nullable=False), schema="ai")
    op.add_column(
        "jobs", sa.Column("trusted_only", sa.Boolean(), server_default=sa.false(), nullable=False), schema="ai"
    )
    op.add_column("jobs", sa.Column("verdict", sa.Text()), schema="ai")
    op.add_column("asks", sa.Column("trusted", sa.Boolean(), server_default=sa.false(), nullable=False), schema="ai")
    op.create_table(
        "deliveries",
        sa.Column("attempt", sa.Uuid(), nullable=False),
        sa.Column("job", sa.Uuid(), nullable=False),
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("is_trusted", sa.Boolean(), nullable=False),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("agrees_with", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("delivered_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("attempt", name=op.f("deliveries_pk")),
        schema="ai",
    )
    op.create_index("deliveries_job_idx", "deliveries", ["job"], schema="ai")
    op.create_index("deliveries_miner_idx", "deliveries", ["miner"], schema="ai")
    op.create_table(
        "track_records",
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("valid_in_row", sa.Integer(), nullable=False),
        sa.Column("checked", sa.BigInteger(), nullable=False),
        sa.Column("wrong", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("miner", "kind", "model", name=op.f("track_records_pk")),
        schema="ai",
    )


def downgrade() -> None:
    """Remove them; what waits for its verdict is then a job like any other."""
    op.drop_table("track_records", schema="ai")
    op.drop_table("deliveries", schema="ai")
    op.drop_column("asks", "trusted", schema="ai")
    for column in ("verdict", "trusted_only", "barred", "copies", "verification"):
        op.drop_column("jobs", column, schema="ai")
