"""Know with whom accounts deal: whose jobs their miners take, and whose miners their jobs go to."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0014"
down_revision = "ai_0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "terms",
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("buyers", sa.Text(), nullable=False),
        sa.Column("owners", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("terms_pk")),
        schema="ai",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index("terms_owners_idx", "terms", ["account"], schema="ai", postgresql_where=sa.text("owners <> ''"))


def downgrade() -> None:
    """Remove it."""
    op.drop_table("terms", schema="ai")
