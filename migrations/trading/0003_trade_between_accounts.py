"""Let accounts trade with each other: offers, requests, matches, negotiations, agreements and settlements."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "trading_0003"
down_revision = "trading_0002"
branch_labels = None
depends_on = None

TRADE_TYPE = (
    "trade_type IN ('ai_power', 'compute_resources', 'data_services', "
    "'model_services', 'inference_tasks', 'training_tasks')"
)


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "trade_offers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("seller", sa.Uuid(), nullable=False),
        sa.Column("trade_type", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("specifications", sa.Text(), nullable=False),
        sa.Column("regions", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("service_level", sa.Text(), nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=False),
        sa.Column("taken", sa.Integer(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "service_level IN ('basic', 'standard', 'premium')", name=op.f("trade_offers_service_level_check")
        ),
        sa.CheckConstraint("state IN ('open', 'closed')", name=op.f("trade_offers_state_check")),
        sa.CheckConstraint(
            TRADE_TYPE,
            name=op.f("trade_offers_trade_type_check"),
        ),
        sa.CheckConstraint("price_units > 0", name=op.f("trade_offers_price_check")),
        sa.CheckConstraint("taken BETWEEN 0 AND capacity", name=op.f("trade_offers_taken_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("trade_offers_pk")),
        schema="trading",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index("trade_offers_created_at_idx", "trade_offers", ["created_at", "id"], unique=False, schema="trading")
    op.create_index(
        "trade_offers_open_idx",
        "trade_offers",
        ["trade_type", "price_units"],
        unique=False,
        schema="trading",
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "trade_requests",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("buyer", sa.Uuid(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=True),
        sa.Column("trade_type", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("specifications", sa.Text(), nullable=False),
        sa.Column("budget_min_units", sa.BigInteger(), nullable=False),
        sa.Column("budget_max_units", sa.BigInteger(), nullable=True),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("preferred_regions", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("excluded_regions", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("service_level", sa.Text(), nullable=False),
        sa.Column("urgency", sa.Text(), nullable=False),
        sa.Column("negotiable", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "service_level IN ('basic', 'standard', 'premium')", name=op.f("trade_requests_service_level_check")
        ),
        sa.CheckConstraint(
            "state IN ('open', 'matching', 'negotiating', 'agreed', 'settling', 'completed', 'cancelled', 'failed')",
            name=op.f("trade_requests_state_check"),
        ),
        sa.CheckConstraint(
            TRADE_TYPE,
            name=op.f("trade_requests_trade_type_check"),
        ),
        sa.CheckConstraint(
            "budget_min_units >= 0 AND budget_max_units >= budget_min_units", name=op.f("trade_requests_budget_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("trade_requests_pk")),
        schema="trading",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index(
        "trade_requests_buyer_idx", "trade_requests", ["buyer", "created_at", "id"], unique=False, schema="trading"
    )
    op.create_index(
        "trade_requests_expires_at_idx",
        "trade_requests",
        ["expires_at"],
        unique=False,
        schema="trading",
        postgresql_where=sa.text("state IN ('open', 'matching', 'negotiating')"),
    )
    op.create_table(
        "trade_matches",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("offer", sa.Text(), nullable=False),
        sa.Column("buyer", sa.Uuid(), nullable=False),
        sa.Column("seller", sa.Uuid(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("parts", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('open', 'matching', 'negotiating', 'agreed', 'settling', 'completed', 'cancelled', 'failed')",
            name=op.f("trade_matches_state_check"),
        ),
        sa.CheckConstraint("buyer <> seller", name=op.f("trade_matches_two_parties_check")),
        sa.CheckConstraint("score BETWEEN 0 AND 100", name=op.f("trade_matches_score_check")),
        sa.ForeignKeyConstraint(["offer"], ["trading.trade_offers.id"], name=op.f("trade_matches_offer_fkey")),
        sa.ForeignKeyConstraint(["request"], ["trading.trade_requests.id"], name=op.f("trade_matches_request_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("trade_matches_pk")),
        schema="trading",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index(
        "trade_matches_buyer_idx", "trade_matches", ["buyer", "created_at", "id"], unique=False, schema="trading"
    )
    op.create_index(
        "trade_matches_expires_at_idx",
        "trade_matches",
        ["expires_at"],
        schema="trading",
        postgresql_where=sa.text("state IN ('open', 'matching', 'negotiating')"),
    )
    op.create_index(
        "trade_matches_open_key",
        "trade_matches",
        ["request", "offer"],
        unique=True,
        schema="trading",
        postgresql_where=sa.text("state IN ('open', 'matching', 'negotiating')"),
    )
    op.create_index(
        "trade_matches_seller_idx", "trade_matches", ["seller", "created_at", "id"], unique=False, schema="trading"
    )
    op.create_table(
        "trade_negotiations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("match", sa.Text(), nullable=False),
        sa.Column("buyer", sa.Uuid(), nullable=False),
        sa.Column("seller", sa.Uuid(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("settlement_type", sa.Text(), nullable=False),
        sa.Column("milestones", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("round", sa.SmallInteger(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("proposed_by", sa.Uuid(), nullable=False),
        sa.Column("buyer_units", sa.BigInteger(), nullable=True),
        sa.Column("seller_units", sa.BigInteger(), nullable=True),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answer_by", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('active', 'accepted', 'rejected', 'expired')", name=op.f("trade_negotiations_state_check")
        ),
        sa.CheckConstraint("price_units > 0", name=op.f("trade_negotiations_price_check")),
        sa.ForeignKeyConstraint(["match"], ["trading.trade_matches.id"], name=op.f("trade_negotiations_match_fkey")),
        sa.ForeignKeyConstraint(
            ["request"], ["trading.trade_requests.id"], name=op.f("trade_negotiations_request_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("trade_negotiations_pk")),
        schema="trading",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index(
        "trade_negotiations_answer_by_idx",
        "trade_negotiations",
        ["answer_by"],
        unique=False,
        schema="trading",
        postgresql_where=sa.text("state = 'active'"),
    )
    op.create_index(
        "trade_negotiations_created_at_idx", "trade_negotiations", ["created_at", "id"], unique=False, schema="trading"
    )
    op.create_index(
        "trade_negotiations_open_key",
        "trade_negotiations",
        ["match"],
        unique=True,
        schema="trading",
        postgresql_where=sa.text("state = 'active'"),
    )
    op.create_table(
        "trade_agreements",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("match", sa.Text(), nullable=False),
        sa.Column("negotiation", sa.Text(), nullable=True),
        sa.Column("offer", sa.Text(), nullable=False),
        sa.Column("buyer", sa.Uuid(), nullable=False),
        sa.Column("seller", sa.Uuid(), nullable=False),
        sa.Column("trade_type", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("settlement_type", sa.Text(), nullable=False),
        sa.Column("milestones", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settle_by", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "settlement_type IN ('immediate', 'escrow', 'milestone')",
            name=op.f("trade_agreements_settlement_type_check"),
        ),
        sa.CheckConstraint(
            "state IN ('open', 'matching', 'negotiating', 'agreed', 'settling', 'completed', 'cancelled', 'failed')",
            name=op.f("trade_agreements_state_check"),
        ),
        sa.CheckConstraint("buyer <> seller", name=op.f("trade_agreements_two_parties_check")),
        sa.CheckConstraint("price_units > 0", name=op.f("trade_agreements_price_check")),
        sa.ForeignKeyConstraint(["match"], ["trading.trade_matches.id"], name=op.f("trade_agreements_match_fkey")),
        sa.ForeignKeyConstraint(
            ["negotiation"], ["trading.trade_negotiations.id"], name=op.f("trade_agreements_negotiation_fkey")
        ),
        sa.ForeignKeyConstraint(["offer"], ["trading.trade_offers.id"], name=op.f("trade_agreements_offer_fkey")),
        sa.ForeignKeyConstraint(["request"], ["trading.trade_requests.id"], name=op.f("trade_agreements_request_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("trade_agreements_pk")),
        sa.UniqueConstraint("match", name=op.f("trade_agreements_match_key")),
        sa.UniqueConstraint("request", name=op.f("trade_agreements_request_key")),
        schema="trading",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index(
        "trade_agreements_buyer_idx", "trade_agreements", ["buyer", "signed_at", "id"], unique=False, schema="trading"
    )
    op.create_index(
        "trade_agreements_seller_idx", "trade_agreements", ["seller", "signed_at", "id"], unique=False, schema="trading"
    )
    op.create_index(
        "trade_agreements_settle_by_idx",
        "trade_agreements",
        ["settle_by"],
        unique=False,
        schema="trading",
        postgresql_where=sa.text("state = 'agreed'"),
    )
    op.create_table(
        "trade_feedback",
        sa.Column("agreement", sa.Text(), nullable=False),
        sa.Column("reviewer", sa.Uuid(), nullable=False),
        sa.Column("reviewed", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("rating", sa.SmallInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("role IN ('buyer', 'seller')", name=op.f("trade_feedback_role_check")),
        sa.CheckConstraint("rating BETWEEN 1 AND 5", name=op.f("trade_feedback_rating_check")),
        sa.ForeignKeyConstraint(
            ["agreement"], ["trading.trade_agreements.id"], name=op.f("trade_feedback_agreement_fkey")
        ),
        sa.PrimaryKeyConstraint("agreement", "reviewer", name=op.f("trade_feedback_pk")),
        schema="trading",
        info={"grants": ("SELECT", "INSERT")},
    )
    op.create_index(
        "trade_feedback_reviewed_idx",
        "trade_feedback",
        ["reviewed"],
        unique=False,
        schema="trading",
        postgresql_include=["rating"],
    )
    op.create_table(
        "trade_settlements",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("agreement", sa.Text(), nullable=False),
        sa.Column("buyer", sa.Uuid(), nullable=False),
        sa.Column("seller", sa.Uuid(), nullable=False),
        sa.Column("settlement_type", sa.Text(), nullable=False),
        sa.Column("total_units", sa.BigInteger(), nullable=False),
        sa.Column("fee_units", sa.BigInteger(), nullable=False),
        sa.Column("net_units", sa.BigInteger(), nullable=False),
        sa.Column("refunded_units", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("disputed_by", sa.Uuid(), nullable=True),
        sa.Column("dispute", sa.Text(), nullable=True),
        sa.Column("decide_by", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('settling', 'completed', 'failed')", name=op.f("trade_settlements_state_check")),
        sa.CheckConstraint("(due_at IS NULL) = (ended_at IS NOT NULL)", name=op.f("trade_settlements_due_check")),
        sa.CheckConstraint(
            "(ended_at IS NOT NULL) = (fee_units + net_units + refunded_units = total_units)",
            name=op.f("trade_settlements_adds_up_check"),
        ),
        sa.CheckConstraint(
            "fee_units + net_units + refunded_units <= total_units", name=op.f("trade_settlements_within_total_check")
        ),
        sa.CheckConstraint(
            "fee_units >= 0 AND net_units >= 0 AND refunded_units >= 0",
            name=op.f("trade_settlements_not_negative_check"),
        ),
        sa.ForeignKeyConstraint(
            ["agreement"], ["trading.trade_agreements.id"], name=op.f("trade_settlements_agreement_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["request"], ["trading.trade_requests.id"], name=op.f("trade_settlements_request_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("trade_settlements_pk")),
        sa.UniqueConstraint("agreement", name=op.f("trade_settlements_agreement_key")),
        schema="trading",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index(
        "trade_settlements_buyer_idx",
        "trade_settlements",
        ["buyer", "started_at", "id"],
        unique=False,
        schema="trading",
    )
    op.create_index(
        "trade_settlements_due_at_idx",
        "trade_settlements",
        ["due_at"],
        unique=False,
        schema="trading",
        postgresql_where=sa.text("state = 'settling'"),
    )
    op.create_index(
        "trade_settlements_seller_idx",
        "trade_settlements",
        ["seller", "started_at", "id"],
        unique=False,
        schema="trading",
    )
    op.create_table(
        "trade_evidence",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("settlement", sa.Text(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["settlement"], ["trading.trade_settlements.id"], name=op.f("trade_evidence_settlement_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("trade_evidence_pk")),
        schema="trading",
        info={"grants": ("SELECT", "INSERT")},
    )
    op.create_index(
        op.f("trade_evidence_settlement_idx"), "trade_evidence", ["settlement"], unique=False, schema="trading"
    )
    op.create_table(
        "trade_payments",
        sa.Column("settlement", sa.Text(), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("amount_units", sa.BigInteger(), nullable=False),
        sa.Column("hold", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("paid_units", sa.BigInteger(), nullable=False),
        sa.Column("fee_units", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('held', 'delivered', 'paid', 'refunded', 'divided')", name=op.f("trade_payments_state_check")
        ),
        sa.CheckConstraint(
            "amount_units > 0 AND paid_units BETWEEN 0 AND amount_units", name=op.f("trade_payments_amount_check")
        ),
        sa.CheckConstraint("fee_units BETWEEN 0 AND paid_units", name=op.f("trade_payments_fee_check")),
        sa.ForeignKeyConstraint(
            ["settlement"], ["trading.trade_settlements.id"], name=op.f("trade_payments_settlement_fkey")
        ),
        sa.PrimaryKeyConstraint("settlement", "position", name=op.f("trade_payments_pk")),
        sa.UniqueConstraint("hold", name=op.f("trade_payments_hold_key")),
        schema="trading",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )


def downgrade() -> None:
    """Remove them, with all that was traded; the ledger keeps its transactions."""
    for name in (
        "trade_feedback",
        "trade_evidence",
        "trade_payments",
        "trade_settlements",
        "trade_agreements",
        "trade_negotiations",
        "trade_matches",
        "trade_requests",
        "trade_offers",
    ):
        op.drop_table(name, schema="trading")
