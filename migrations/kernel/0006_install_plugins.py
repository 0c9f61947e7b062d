"""Install plugins: what each process loads, what plugins keep, and what became of their calls."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "kernel_0006"
down_revision = "kernel_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of installed plugins."""
    op.create_table(
        "extensions",
        sa.Column("plugin", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("artifact", sa.LargeBinary(), nullable=False),
        sa.Column("grants", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('active', 'previous', 'off', 'revoked', 'failed')", name=op.f("extensions_state_check")
        ),
        sa.PrimaryKeyConstraint("plugin", "version", name=op.f("extensions_pk")),
        schema="kernel",
    )
    op.create_index(
        "extensions_active_idx",
        "extensions",
        ["plugin"],
        unique=True,
        schema="kernel",
        postgresql_where=sa.text("state = 'active'"),
    )
    op.create_table(
        "extension_values",
        sa.Column("plugin", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("plugin", "key", name=op.f("extension_values_pk")),
        schema="kernel",
    )
    op.create_table(
        "extension_calls",
        sa.Column("plugin", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("plugin", "version", "day", name=op.f("extension_calls_pk")),
        schema="kernel",
    )


def downgrade() -> None:
    """Take them away: nothing is installed any more."""
    for table in ("extension_calls", "extension_values", "extensions"):
        op.drop_table(table, schema="kernel")
