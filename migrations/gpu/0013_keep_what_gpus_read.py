"""Keep what GPUs read, by the minute and by the hour."""

import sqlalchemy as sa
from alembic import op

revision = "gpu_0013"
down_revision = "gpu_0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "readings",
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("utilization", sa.Double()),
        sa.Column("memory_used_mib", sa.BigInteger()),
        sa.Column("memory_total_mib", sa.BigInteger()),
        sa.Column("temperature_celsius", sa.Double()),
        sa.Column("power_watts", sa.Double()),
        sa.Column("brake_reasons", sa.Text()),
        sa.CheckConstraint("step IN ('minute', 'hour')", name=op.f("readings_step_check")),
        sa.ForeignKeyConstraint(["miner"], ["gpu.miners.id"], name=op.f("readings_miner_fkey")),
        sa.PrimaryKeyConstraint("miner", "uuid", "step", "at", name=op.f("readings_pk")),
        schema="gpu",
    )
    op.create_index("readings_at_idx", "readings", ["step", "at"], schema="gpu")


def downgrade() -> None:
    """Remove it."""
    op.drop_table("readings", schema="gpu")
