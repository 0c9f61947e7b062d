"""Create the first tables of marketplace: miners, offers and rules."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from aitbc.kernel.database.standard_tables_v1 import create_common_tables

revision = "marketplace_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    create_common_tables("marketplace")
    op.create_table(
        "miners",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("kinds", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("models", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("gpu_models", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("vram_mib", sa.BigInteger(), nullable=False),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("source IN ('claimed', 'measured', 'attested')", name=op.f("miners_source_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("miners_pk")),
        schema="marketplace",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index("miners_account_idx", "miners", ["account", "id"], unique=False, schema="marketplace")
    op.create_table(
        "offers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("sells", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("device", sa.Integer(), nullable=True),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("floor_units", sa.BigInteger(), nullable=True),
        sa.Column("ceiling_units", sa.BigInteger(), nullable=True),
        sa.Column("capacity", sa.Integer(), nullable=False),
        sa.Column("taken", sa.Integer(), nullable=False),
        sa.Column("min_seconds", sa.Integer(), nullable=False),
        sa.Column("max_seconds", sa.Integer(), nullable=False),
        sa.Column("interruptible", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("gpu_model", sa.Text(), nullable=False),
        sa.Column("vram_mib", sa.BigInteger(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("(sells = 'work') = (kind IS NOT NULL)", name=op.f("offers_kind_check")),
        sa.CheckConstraint("(state = 'open') = (ended_at IS NULL)", name=op.f("offers_ended_check")),
        sa.CheckConstraint("sells = 'work' OR model IS NULL", name=op.f("offers_model_check")),
        sa.CheckConstraint("sells IN ('work', 'device')", name=op.f("offers_sells_check")),
        sa.CheckConstraint("source IN ('claimed', 'measured', 'attested')", name=op.f("offers_source_check")),
        sa.CheckConstraint("state IN ('open', 'expired', 'withdrawn')", name=op.f("offers_state_check")),
        sa.CheckConstraint(
            "(floor_units IS NULL) = (ceiling_units IS NULL) AND (floor_units IS NULL OR "
            "floor_units > 0 AND price_units BETWEEN floor_units AND ceiling_units)",
            name=op.f("offers_pricing_check"),
        ),
        sa.CheckConstraint("capacity > 0 AND taken BETWEEN 0 AND capacity", name=op.f("offers_capacity_check")),
        sa.CheckConstraint("min_seconds > 0 AND max_seconds >= min_seconds", name=op.f("offers_seconds_check")),
        sa.CheckConstraint("price_units > 0", name=op.f("offers_price_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("offers_pk")),
        schema="marketplace",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index("offers_account_idx", "offers", ["account", "id"], unique=False, schema="marketplace")
    op.create_index(
        "offers_by_age_idx",
        "offers",
        ["id"],
        unique=False,
        schema="marketplace",
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "offers_by_price_idx",
        "offers",
        ["price_units", "id"],
        unique=False,
        schema="marketplace",
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "offers_by_vram_idx",
        "offers",
        ["vram_mib", "id"],
        unique=False,
        schema="marketplace",
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "offers_device_idx",
        "offers",
        ["miner", sa.literal_column("coalesce(device, -1)")],
        unique=True,
        schema="marketplace",
        postgresql_where=sa.text("state = 'open' AND sells = 'device'"),
    )
    op.create_index(
        "offers_expiry_idx",
        "offers",
        ["valid_until", "id"],
        unique=False,
        schema="marketplace",
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index("offers_miner_idx", "offers", ["miner", "id"], unique=False, schema="marketplace")
    op.create_index(
        "offers_priced_idx",
        "offers",
        ["account"],
        unique=False,
        schema="marketplace",
        postgresql_where=sa.text("state = 'open' AND floor_units IS NOT NULL"),
    )
    op.create_index(
        "offers_work_idx",
        "offers",
        ["miner", "kind", sa.literal_column("coalesce(model, '')")],
        unique=True,
        schema="marketplace",
        postgresql_where=sa.text("state = 'open' AND sells = 'work'"),
    )
    op.create_table(
        "rules",
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("kinds", sa.Text(), nullable=False),
        sa.Column("price_hour_units", sa.BigInteger(), nullable=True),
        sa.Column("valid_seconds", sa.BigInteger(), nullable=False),
        sa.Column("automatic", sa.Boolean(), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("price_hour_units IS NULL OR price_hour_units > 0", name=op.f("rules_price_hour_check")),
        sa.PrimaryKeyConstraint("account", name=op.f("rules_pk")),
        schema="marketplace",
        info={"grants": ("SELECT", "INSERT", "UPDATE", "DELETE")},
    )


def downgrade() -> None:
    """Remove the tables."""
    for table in ("rules", "offers", "miners", "audit", "answers", "inbox", "outbox"):
        op.drop_table(table, schema="marketplace")
