"""Send canary jobs to idle miners."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0021"
down_revision = "ai_0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, and the word by which claims know which kinds are not offered."""
    op.add_column("asks", sa.Column("unproven", sa.Text(), nullable=False, server_default=""), schema="ai")
    op.create_table(
        "canaries",
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("job", sa.Uuid(), nullable=True),
        sa.Column("unproven", sa.Boolean(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('waiting', 'passed', 'failed', 'unsent')", name=op.f("canaries_state_check")),
        sa.PrimaryKeyConstraint("miner", "kind", name=op.f("canaries_pk")),
        schema="ai",
    )


def downgrade() -> None:
    """Remove both; every kind is offered again."""
    op.drop_table("canaries", schema="ai")
    op.drop_column("asks", "unproven", schema="ai")
