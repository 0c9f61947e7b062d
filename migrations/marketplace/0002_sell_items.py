"""Sell the items of the older marketplace: items, and their orders."""

import sqlalchemy as sa
from alembic import op

revision = "marketplace_0002"
down_revision = "marketplace_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "items",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("item_type", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("is_hourly", sa.Boolean(), nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=False),
        sa.Column("taken", sa.Integer(), nullable=False),
        sa.Column("sla", sa.Text(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("gpu_model", sa.Text(), nullable=True),
        sa.Column("gpu_memory_gb", sa.Integer(), nullable=True),
        sa.Column("gpu_count", sa.Integer(), nullable=True),
        sa.Column("cuda_version", sa.Text(), nullable=True),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('open', 'withdrawn')", name=op.f("items_state_check")),
        sa.CheckConstraint(
            "price_units >= 0 AND capacity > 0 AND taken BETWEEN 0 AND capacity", name=op.f("items_amounts_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("items_pk")),
        schema="marketplace",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index("items_created_at_idx", "items", ["created_at", "id"], unique=False, schema="marketplace")
    op.create_table(
        "item_orders",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("item", sa.Text(), nullable=True),
        sa.Column("seller", sa.Uuid(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("transaction", sa.Text(), nullable=True),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("(state = 'paid') = (transaction IS NOT NULL)", name=op.f("item_orders_paid_check")),
        sa.CheckConstraint(
            "state IN ('pending', 'placed', 'held', 'paid', 'refused', 'cancelled')",
            name=op.f("item_orders_state_check"),
        ),
        sa.CheckConstraint("(item IS NULL) = (seller IS NULL)", name=op.f("item_orders_item_check")),
        sa.CheckConstraint("price_units > 0 AND capacity > 0", name=op.f("item_orders_amounts_check")),
        sa.ForeignKeyConstraint(["item"], ["marketplace.items.id"], name=op.f("item_orders_item_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("item_orders_pk")),
        sa.UniqueConstraint("name", name=op.f("item_orders_name_key")),
        schema="marketplace",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index(
        "item_orders_open_idx",
        "item_orders",
        ["id"],
        unique=False,
        schema="marketplace",
        postgresql_where=sa.text("state IN ('placed', 'held')"),
    )
    op.create_index(
        "item_orders_submitted_at_idx", "item_orders", ["submitted_at", "id"], unique=False, schema="marketplace"
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_index("item_orders_submitted_at_idx", table_name="item_orders", schema="marketplace")
    op.drop_index(
        "item_orders_open_idx",
        table_name="item_orders",
        schema="marketplace",
        postgresql_where=sa.text("state IN ('placed', 'held')"),
    )
    op.drop_table("item_orders", schema="marketplace")
    op.drop_index("items_created_at_idx", table_name="items", schema="marketplace")
    op.drop_table("items", schema="marketplace")
