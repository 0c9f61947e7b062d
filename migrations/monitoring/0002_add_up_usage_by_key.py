"""Add usage up by API key, and what went back beside what was paid."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import text

revision = "monitoring_0002"
down_revision = "monitoring_0001"
branch_labels = None
depends_on = None

BEFORE = ("day", "account", "miner", "kind", "model")
SUMS = ("jobs", "units", "price_units", "fee_units", "earned_units")


def upgrade() -> None:
    """Add the columns; what was added up before has no key."""
    op.add_column("usage", sa.Column("key", sa.Text(), server_default="", nullable=False), schema="monitoring")
    for name in ("refunded_units", "refunded_fee_units"):
        column = sa.Column(name, sa.BigInteger(), server_default=text("0"), nullable=False)
        op.add_column("usage", column, schema="monitoring")
    op.create_check_constraint(
        op.f("usage_refunded_check"), "usage", "refunded_fee_units BETWEEN 0 AND refunded_units", schema="monitoring"
    )
    op.drop_constraint("usage_pk", "usage", schema="monitoring")
    op.create_primary_key("usage_pk", "usage", [*BEFORE, "key"], schema="monitoring")


def downgrade() -> None:
    """Add what has the same day, account, miner, kind and model up without its keys, and forget what went back."""
    op.execute("CREATE TEMPORARY TABLE usage_before AS TABLE monitoring.usage")
    op.execute("DELETE FROM monitoring.usage")
    op.drop_constraint("usage_pk", "usage", schema="monitoring")
    for name in ("key", "refunded_units", "refunded_fee_units"):
        op.drop_column("usage", name, schema="monitoring")
    op.create_primary_key("usage_pk", "usage", [*BEFORE], schema="monitoring")
    # min() is not for uuids: an account owns a miner for good.
    op.execute(f"""
        INSERT INTO monitoring.usage ({", ".join(BEFORE)}, miner_account, unit, {", ".join(SUMS)})
        SELECT {", ".join(BEFORE)}, (array_agg(miner_account))[1], min(unit), {", ".join(f"sum({n})" for n in SUMS)}
        FROM usage_before WHERE jobs > 0 GROUP BY {", ".join(BEFORE)}""")  # noqa: S608 - constant columns
    op.execute("DROP TABLE usage_before")
