"""Keep parts of outputs that are told while they are made, what was asked to finish early, and who blamed a request."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0004"
down_revision = "ai_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table and the columns; nothing that is there has any of it."""
    op.create_table(
        "parts",
        sa.Column("job", sa.Uuid(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("job", "token", "sequence", name=op.f("parts_pk")),
        schema="ai",
    )
    op.add_column("attempts", sa.Column("stop_asked_at", sa.DateTime(timezone=True), nullable=True), schema="ai")
    op.add_column(
        "attempts",
        sa.Column("blames_request", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        schema="ai",
    )
    op.create_index(
        "attempts_stopping_idx",
        "attempts",
        ["stop_asked_at", "id"],
        unique=False,
        schema="ai",
        postgresql_where=sa.text("ended IS NULL AND stop_asked_at IS NOT NULL"),
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_index(
        "attempts_stopping_idx",
        table_name="attempts",
        schema="ai",
        postgresql_where=sa.text("ended IS NULL AND stop_asked_at IS NOT NULL"),
    )
    op.drop_column("attempts", "blames_request", schema="ai")
    op.drop_column("attempts", "stop_asked_at", schema="ai")
    op.drop_table("parts", schema="ai")
