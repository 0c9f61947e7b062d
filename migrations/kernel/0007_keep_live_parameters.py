"""Keep what governance sets: live parameters, one row for each value that one ever had."""

import sqlalchemy as sa
from alembic import op

revision = "kernel_0007"
down_revision = "kernel_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of live parameters."""
    op.create_table(
        "parameters",
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=True),
        sa.Column("effective_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("position >= 0", name=op.f("parameters_position_check")),
        sa.PrimaryKeyConstraint("number", name=op.f("parameters_pk")),
        sa.UniqueConstraint("source", "position", name=op.f("parameters_source_position_key")),
        schema="kernel",
    )
    op.create_index("parameters_name_idx", "parameters", ["name", "number"], schema="kernel")


def downgrade() -> None:
    """Forget what governance set: the operator's values hold again."""
    op.drop_table("parameters", schema="kernel")
