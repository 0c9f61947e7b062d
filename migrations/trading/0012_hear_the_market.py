"""Hear the market: trade offers that stand for offers of it, and agreements that its bookings keep."""

import sqlalchemy as sa
from alembic import op

revision = "trading_0012"
down_revision = "trading_0011"
branch_labels = None
depends_on = None

SETTLEMENTS = "trade_agreements_settlement_type_check"
OLDER = "'immediate', 'escrow', 'milestone', 'subscription'"
TOLD = (
    "(market_offer IS NULL) = (market_version IS NULL) AND (market_offer IS NULL) = (min_seconds IS NULL) AND "
    "(market_offer IS NULL) = (max_seconds IS NULL)"
)


def upgrade() -> None:
    """Add the columns, their checks and their key."""
    for name, kind in (
        ("market_offer", sa.Uuid()),
        ("market_version", sa.BigInteger()),
        ("min_seconds", sa.Integer()),
        ("max_seconds", sa.Integer()),
    ):
        op.add_column("trade_offers", sa.Column(name, kind), schema="trading")
    op.create_check_constraint(op.f("trade_offers_market_check"), "trade_offers", TOLD, schema="trading")
    op.create_index(
        "trade_offers_market_key",
        "trade_offers",
        ["market_offer"],
        unique=True,
        schema="trading",
        postgresql_where=sa.text("market_offer IS NOT NULL"),
    )
    for name, kind in (("market_offer", sa.Uuid()), ("booking", sa.Uuid()), ("reason", sa.Text())):
        op.add_column("trade_agreements", sa.Column(name, kind), schema="trading")
    _allow(f"{OLDER}, 'metered'")
    op.create_check_constraint(
        op.f("trade_agreements_market_check"),
        "trade_agreements",
        "(settlement_type = 'metered') = (market_offer IS NOT NULL)",
        schema="trading",
    )


def _allow(types: str) -> None:
    op.drop_constraint(op.f(SETTLEMENTS), "trade_agreements", schema="trading", type_="check")
    op.create_check_constraint(op.f(SETTLEMENTS), "trade_agreements", f"settlement_type IN ({types})", schema="trading")


def downgrade() -> None:
    """Remove them; agreements that bookings keep must be gone before."""
    op.drop_constraint(op.f("trade_agreements_market_check"), "trade_agreements", schema="trading", type_="check")
    _allow(OLDER)
    for name in ("reason", "booking", "market_offer"):
        op.drop_column("trade_agreements", name, schema="trading")
    op.drop_index("trade_offers_market_key", "trade_offers", schema="trading")
    op.drop_constraint(op.f("trade_offers_market_check"), "trade_offers", schema="trading", type_="check")
    for name in ("max_seconds", "min_seconds", "market_version", "market_offer"):
        op.drop_column("trade_offers", name, schema="trading")
