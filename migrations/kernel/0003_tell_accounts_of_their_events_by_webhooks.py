"""Tell accounts of their events by webhooks."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "kernel_0003"
down_revision = "kernel_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of endpoints and deliveries."""
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("previous_secret", sa.LargeBinary()),
        sa.Column("previous_until", sa.DateTime(timezone=True)),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True)),
        sa.Column("disabled_reason", sa.Text()),
        sa.Column("failing_since", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["kernel.accounts.id"], name=op.f("webhook_endpoints_account_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_endpoints_pk")),
        schema="kernel",
    )
    op.create_index("webhook_endpoints_account_idx", "webhook_endpoints", ["account", "id"], schema="kernel")
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("endpoint", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("event", sa.Uuid()),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempted_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("status", sa.Integer()),
        sa.Column("error", sa.Text()),
        sa.CheckConstraint("(state = 'pending') = (ended_at IS NULL)", name=op.f("webhook_deliveries_ended_check")),
        sa.CheckConstraint("state IN ('pending', 'delivered', 'dead')", name=op.f("webhook_deliveries_state_check")),
        sa.ForeignKeyConstraint(
            ["endpoint"],
            ["kernel.webhook_endpoints.id"],
            name=op.f("webhook_deliveries_endpoint_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_deliveries_pk")),
        schema="kernel",
    )
    op.create_index("webhook_deliveries_account_idx", "webhook_deliveries", ["account", "id"], schema="kernel")
    op.create_index(
        "webhook_deliveries_dead_idx",
        "webhook_deliveries",
        ["account", "id"],
        schema="kernel",
        postgresql_where=sa.text("state = 'dead'"),
    )
    op.create_index(
        "webhook_deliveries_due_idx",
        "webhook_deliveries",
        ["endpoint", "due_at"],
        schema="kernel",
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "webhook_deliveries_ended_idx",
        "webhook_deliveries",
        ["ended_at"],
        schema="kernel",
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )
    op.create_index("webhook_deliveries_endpoint_idx", "webhook_deliveries", ["endpoint", "id"], schema="kernel")
    op.create_index(
        "webhook_deliveries_event_key", "webhook_deliveries", ["endpoint", "event"], unique=True, schema="kernel"
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_table("webhook_deliveries", schema="kernel")
    op.drop_table("webhook_endpoints", schema="kernel")
