"""Renew periods of service classes, promise a first text, and take classes from a file of declarations."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import text

revision = "monitoring_0004"
down_revision = "monitoring_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; what was declared came over the API, and nothing of it renews itself."""
    op.add_column("service_classes", sa.Column("first_text_seconds", sa.Integer(), nullable=True), schema="monitoring")
    origin = sa.Column("origin", sa.Text(), server_default=text("'api'"), nullable=False)
    op.add_column("service_classes", origin, schema="monitoring")
    op.alter_column("service_classes", "created_by", nullable=True, schema="monitoring")
    for name, rule in (
        ("service_classes_first_text_check", "first_text_seconds > 0"),
        ("service_classes_origin_check", "(origin = 'api') = (created_by IS NOT NULL)"),
    ):
        op.create_check_constraint(op.f(name), "service_classes", rule, schema="monitoring")
    renews = sa.Column("renews", sa.Boolean(), server_default=sa.false(), nullable=False)
    op.add_column("class_purchases", renews, schema="monitoring")
    op.add_column("class_purchases", sa.Column("previous", sa.Uuid(), nullable=True), schema="monitoring")
    op.create_index(
        "class_purchases_renewed_idx",
        "class_purchases",
        ["ends_at", "id"],
        schema="monitoring",
        postgresql_where=text("renews"),
    )


def downgrade() -> None:
    """Remove them; classes of a file stay, as nobody's."""
    op.drop_index("class_purchases_renewed_idx", table_name="class_purchases", schema="monitoring")
    op.drop_column("class_purchases", "previous", schema="monitoring")
    op.drop_column("class_purchases", "renews", schema="monitoring")
    op.drop_constraint("service_classes_origin_check", "service_classes", schema="monitoring")
    op.drop_constraint("service_classes_first_text_check", "service_classes", schema="monitoring")
    nobody = "'00000000-0000-0000-0000-000000000000'"
    op.execute(f"UPDATE monitoring.service_classes SET created_by = {nobody} WHERE created_by IS NULL")  # noqa: S608
    op.alter_column("service_classes", "created_by", nullable=False, schema="monitoring")
    op.drop_column("service_classes", "origin", schema="monitoring")
    op.drop_column("service_classes", "first_text_seconds", schema="monitoring")
