"""Sign browsers in: their sessions, and the links that open one."""

import sqlalchemy as sa
from alembic import op

revision = "kernel_0005"
down_revision = "kernel_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of sessions and links."""
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["kernel.keys.id"], name=op.f("sessions_key_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("sessions_pk")),
        sa.UniqueConstraint("digest", name=op.f("sessions_digest_key")),
        schema="kernel",
    )
    op.create_index("sessions_key_idx", "sessions", ["key"], schema="kernel")
    op.create_index("sessions_expires_at_idx", "sessions", ["expires_at"], schema="kernel")
    op.create_table(
        "sign_in_links",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("key", sa.Uuid(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["kernel.keys.id"], name=op.f("sign_in_links_key_fkey")),
        sa.PrimaryKeyConstraint("digest", name=op.f("sign_in_links_pk")),
        schema="kernel",
    )


def downgrade() -> None:
    """Take them away; every browser is signed out."""
    op.drop_table("sign_in_links", schema="kernel")
    op.drop_table("sessions", schema="kernel")
