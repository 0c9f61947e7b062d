"""Let accounts and operators name models."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0017"
down_revision = "ai_0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "model_aliases",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("for_all", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("model_aliases_pk")),
        schema="ai",
    )
    op.create_index("model_aliases_changed_at_idx", "model_aliases", ["changed_at"], unique=False, schema="ai")
    op.create_index(
        "model_aliases_for_all_idx",
        "model_aliases",
        ["name"],
        unique=True,
        schema="ai",
        postgresql_where=sa.text("ended_at IS NULL AND for_all"),
    )
    op.create_index(
        "model_aliases_of_account_idx",
        "model_aliases",
        ["account", "name"],
        unique=True,
        schema="ai",
        postgresql_where=sa.text("ended_at IS NULL AND NOT for_all"),
    )


def downgrade() -> None:
    """Remove it; aliases stand for nothing then."""
    op.drop_table("model_aliases", schema="ai")
