"""Sell periods of service classes, and credit those that were missed."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import text

revision = "monitoring_0003"
down_revision = "monitoring_0002"
branch_labels = None
depends_on = None

STATES = "('placed', 'active', 'kept', 'missed', 'refused', 'returned')"


def upgrade() -> None:
    """Make the tables."""
    _make_classes()
    _make_purchases()


def _make_classes() -> None:
    op.create_table(
        "service_classes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("work", sa.Text(), nullable=False),
        sa.Column("start_seconds", sa.Integer(), nullable=True),
        sa.Column("finish_seconds", sa.Integer(), nullable=False),
        sa.Column("target", sa.Float(), nullable=False),
        sa.Column("period_days", sa.SmallInteger(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("credit_percent", sa.SmallInteger(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "finish_seconds > 0 AND (start_seconds IS NULL OR start_seconds > 0)",
            name=op.f("service_classes_limits_check"),
        ),
        sa.CheckConstraint(
            "price_units > 0 AND credit_percent BETWEEN 1 AND 100", name=op.f("service_classes_price_check")
        ),
        sa.CheckConstraint("target > 0 AND target < 1", name=op.f("service_classes_target_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("service_classes_pk")),
        schema="monitoring",
    )
    op.create_index(
        "service_classes_name_key",
        "service_classes",
        ["name"],
        unique=True,
        schema="monitoring",
        postgresql_where=text("removed_at IS NULL"),
    )


def _make_purchases() -> None:
    op.create_table(
        "class_purchases",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("service_class", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("good", sa.BigInteger(), server_default=text("0"), nullable=False),
        sa.Column("bad", sa.BigInteger(), server_default=text("0"), nullable=False),
        sa.Column("credit_units", sa.BigInteger(), server_default=text("0"), nullable=False),
        sa.Column("transaction", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "credit_units >= 0 AND (state = 'missed' OR credit_units = 0)", name=op.f("class_purchases_credit_check")
        ),
        sa.CheckConstraint(f"state IN {STATES}", name=op.f("class_purchases_state_check")),
        sa.CheckConstraint("ends_at > starts_at", name=op.f("class_purchases_times_check")),
        sa.ForeignKeyConstraint(
            ["service_class"],
            ["monitoring.service_classes.id"],
            name=op.f("class_purchases_service_class_fkey"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("class_purchases_pk")),
        schema="monitoring",
    )
    op.create_index("class_purchases_account_idx", "class_purchases", ["account", "id"], schema="monitoring")
    op.create_index(
        "class_purchases_due_idx",
        "class_purchases",
        ["due_at", "id"],
        schema="monitoring",
        postgresql_where=text("due_at IS NOT NULL"),
    )


def downgrade() -> None:
    """Forget what was sold; what lies in escrow for it returns at its deadline."""
    op.drop_table("class_purchases", schema="monitoring")
    op.drop_table("service_classes", schema="monitoring")
