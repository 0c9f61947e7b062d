"""Remember miners of the older dialect and their leases."""

import sqlalchemy as sa
from alembic import op

revision = "gpu_0002"
down_revision = "gpu_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the two tables."""
    op.create_table(
        "older_leases",
        sa.Column("attempt", sa.Uuid(), nullable=False),
        sa.Column("job", sa.Uuid(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("input_digest", sa.Text(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("receipt", sa.Uuid()),
        sa.Column("earned_units", sa.BigInteger()),
        sa.CheckConstraint("receipt IS NULL OR ended_at IS NOT NULL", name=op.f("older_leases_receipt_check")),
        sa.ForeignKeyConstraint(["miner"], ["gpu.miners.id"], name=op.f("older_leases_miner_fkey")),
        sa.PrimaryKeyConstraint("attempt", name=op.f("older_leases_pk")),
        schema="gpu",
    )
    op.create_index("older_leases_job_idx", "older_leases", ["job", "token"], schema="gpu")
    op.create_index("older_leases_miner_idx", "older_leases", ["miner", "taken_at"], schema="gpu")
    op.create_index(
        "older_leases_open_idx",
        "older_leases",
        ["miner"],
        schema="gpu",
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "older_miners",
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("older_id", sa.Text(), nullable=False),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=False),
        sa.Column("miner", sa.Uuid()),
        sa.Column("price_units", sa.BigInteger()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("price_units >= 0", name=op.f("older_miners_price_check")),
        sa.ForeignKeyConstraint(["miner"], ["gpu.miners.id"], name=op.f("older_miners_miner_fkey")),
        sa.PrimaryKeyConstraint("account", "older_id", name=op.f("older_miners_pk")),
        sa.UniqueConstraint("miner", name=op.f("older_miners_miner_key")),
        schema="gpu",
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_table("older_miners", schema="gpu")
    op.drop_index(
        "older_leases_open_idx", table_name="older_leases", schema="gpu", postgresql_where=sa.text("ended_at IS NULL")
    )
    op.drop_index("older_leases_miner_idx", table_name="older_leases", schema="gpu")
    op.drop_index("older_leases_job_idx", table_name="older_leases", schema="gpu")
    op.drop_table("older_leases", schema="gpu")
