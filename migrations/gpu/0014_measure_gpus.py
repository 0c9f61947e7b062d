"""Measure GPUs: proofs of hardware, and what is known of each GPU by its last one."""

import sqlalchemy as sa
from alembic import op

revision = "gpu_0014"
down_revision = "gpu_0013"
branch_labels = None
depends_on = None

moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "proofs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("seed", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("memory_mib", sa.BigInteger(), nullable=False),
        sa.Column("asked_at", moment, nullable=False),
        sa.Column("due_at", moment, nullable=False),
        sa.Column("root", sa.Text()),
        sa.Column("picked", sa.Text()),
        sa.Column("product_ms", sa.Integer()),
        sa.Column("runtime", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("ended_at", moment),
        sa.CheckConstraint(
            "step IN ('product', 'rows', 'memory', 'reads', 'passed', 'failed')", name=op.f("proofs_step_check")
        ),
        sa.CheckConstraint("(step IN ('passed', 'failed')) = (ended_at IS NOT NULL)", name=op.f("proofs_ended_check")),
        sa.ForeignKeyConstraint(["miner"], ["gpu.miners.id"], name=op.f("proofs_miner_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("proofs_pk")),
        schema="gpu",
    )
    op.create_index("proofs_miner_idx", "proofs", ["miner", "uuid", "id"], schema="gpu")
    op.create_index("proofs_asked_at_idx", "proofs", ["asked_at"], schema="gpu")
    op.create_table(
        "device_facts",
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("proof", sa.Uuid(), nullable=False),
        sa.Column("runtime", sa.Text()),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("product_ms", sa.Integer()),
        sa.Column("memory_mib", sa.BigInteger()),
        sa.Column("as_of", moment, nullable=False),
        sa.CheckConstraint("source IN ('claimed', 'measured')", name=op.f("device_facts_source_check")),
        sa.ForeignKeyConstraint(["miner"], ["gpu.miners.id"], name=op.f("device_facts_miner_fkey")),
        sa.PrimaryKeyConstraint("miner", "uuid", name=op.f("device_facts_pk")),
        schema="gpu",
    )
    op.create_index("device_facts_as_of_idx", "device_facts", ["as_of"], schema="gpu")


def downgrade() -> None:
    """Remove them."""
    op.drop_table("device_facts", schema="gpu")
    op.drop_table("proofs", schema="gpu")
