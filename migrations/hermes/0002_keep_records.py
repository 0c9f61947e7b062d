"""Keep what clients of the older dialect have kept."""

import sqlalchemy as sa
from alembic import op

revision = "hermes_0002"
down_revision = "hermes_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "records",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('decision', 'network', 'contribution', 'member', 'task', 'vote')", name=op.f("records_kind_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("records_pk")),
        sa.UniqueConstraint("kind", "parent", "account", "name", name=op.f("records_kind_parent_account_name_key")),
        schema="hermes",
    )
    op.create_index("records_kind_idx", "records", ["kind", "parent", "id"], unique=False, schema="hermes")


def downgrade() -> None:
    """Take it back."""
    op.drop_index("records_kind_idx", table_name="records", schema="hermes")
    op.drop_table("records", schema="hermes")
