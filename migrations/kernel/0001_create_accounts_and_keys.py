"""Create accounts and keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from aitbc.kernel.database.standard_tables_v1 import create_common_tables

revision = "kernel_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of identity."""
    create_common_tables("kernel")
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "accounts",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.UniqueConstraint("name", name="accounts_name_key"),
        schema="kernel",
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("account", sa.Uuid(), sa.ForeignKey("kernel.accounts.id"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("subject", sa.Text()),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("revoked_at", moment),
        sa.Column("rotated", sa.Boolean(), nullable=False),
        sa.UniqueConstraint("digest", name="keys_digest_key"),
        schema="kernel",
    )
    op.create_index("keys_account_idx", "keys", ["account", "id"], schema="kernel")
    op.create_index("keys_subject_idx", "keys", ["subject"], schema="kernel")


def downgrade() -> None:
    """Remove the tables."""
    for table in ("keys", "accounts", "audit", "answers", "inbox", "outbox"):
        op.drop_table(table, schema="kernel")
