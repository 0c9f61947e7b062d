"""The tables of trades."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import APPEND_ONLY, NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.trading.models.tables import MOMENT, Base
from aitbc.modules.trading.models.trades.life import UNDECIDED, PaymentState, TradeState
from aitbc.modules.trading.models.trades.values import SERVICE_LEVELS, SETTLEMENT_TYPES, TRADE_TYPES

ALL_STATES = tuple(str(state) for state in TradeState)
PAYMENT_STATES = tuple(str(state) for state in PaymentState)
STILL_OPEN = text(f"state IN {tuple(str(state) for state in UNDECIDED)}")


class TradeOfferRow(Base):
    """What a seller has for sale, at a price that never changes."""

    __tablename__ = "trade_offers"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    seller: Mapped[str] = mapped_column(WireId("acct"))
    trade_type: Mapped[str] = mapped_column(Text)
    title: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    price_units: Mapped[int] = mapped_column(BigInteger)
    specifications: Mapped[str] = mapped_column(Text)
    """JSON."""
    regions: Mapped[list[str]] = mapped_column(ARRAY(Text))
    service_level: Mapped[str] = mapped_column(Text)
    capacity: Mapped[int] = mapped_column(Integer)
    """How many agreements it is good for."""
    taken: Mapped[int] = mapped_column(Integer)
    starts_at: Mapped[datetime | None] = mapped_column(MOMENT)
    ends_at: Mapped[datetime | None] = mapped_column(MOMENT)
    state: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    valid_until: Mapped[datetime] = mapped_column(MOMENT)
    market_offer: Mapped[str | None] = mapped_column(WireId("offer"))
    """The offer of the market that this one tells of; its price is for an hour. None for one that its seller made."""
    market_version: Mapped[int | None] = mapped_column(BigInteger)
    """That of the event by which it was last told."""
    min_seconds: Mapped[int | None] = mapped_column(Integer)
    max_seconds: Mapped[int | None] = mapped_column(Integer)
    """Of an offer of the market: for how long it is rented, at least and at most."""
    work_kind: Mapped[str | None] = mapped_column(Text)
    """Of an offer of work on the market, its kind; its price is for one metered unit."""
    work_model: Mapped[str | None] = mapped_column(Text)
    """Its model; none for any that no other offer of its miner names."""

    __table_args__ = (
        CheckConstraint("price_units > 0", name="price"),
        CheckConstraint(
            "(market_offer IS NULL) = (market_version IS NULL) AND (market_offer IS NULL) = (min_seconds IS NULL) AND "
            "(market_offer IS NULL) = (max_seconds IS NULL)",
            name="market",
        ),
        Index(
            "trade_offers_market_key", "market_offer", unique=True, postgresql_where=text("market_offer IS NOT NULL")
        ),
        CheckConstraint("taken BETWEEN 0 AND capacity", name="taken"),
        CheckConstraint("state IN ('open', 'closed')", name="state"),
        CheckConstraint(f"trade_type IN {TRADE_TYPES}", name="trade_type"),
        CheckConstraint(f"service_level IN {SERVICE_LEVELS}", name="service_level"),
        Index("trade_offers_open_idx", "trade_type", "price_units", postgresql_where=text("state = 'open'")),
        Index("trade_offers_created_at_idx", "created_at", "id"),
        Index(
            "trade_offers_work_idx",
            "work_kind",
            "price_units",
            postgresql_where=text("state = 'open' AND work_kind IS NOT NULL"),
        ),
        {"info": NO_DELETE},
    )


class TradeRequestRow(Base):
    """What a buyer looks for. Whoever changes anything of a trade locks this row first."""

    __tablename__ = "trade_requests"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    """Ours, or in the legacy dialect its sender's."""
    buyer: Mapped[str] = mapped_column(WireId("acct"))
    agent: Mapped[str | None] = mapped_column(Text)
    """What a legacy client calls itself."""
    trade_type: Mapped[str] = mapped_column(Text)
    title: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    specifications: Mapped[str] = mapped_column(Text)
    budget_min_units: Mapped[int] = mapped_column(BigInteger)
    budget_max_units: Mapped[int | None] = mapped_column(BigInteger)
    starts_at: Mapped[datetime | None] = mapped_column(MOMENT)
    ends_at: Mapped[datetime | None] = mapped_column(MOMENT)
    preferred_regions: Mapped[list[str]] = mapped_column(ARRAY(Text))
    excluded_regions: Mapped[list[str]] = mapped_column(ARRAY(Text))
    service_level: Mapped[str] = mapped_column(Text)
    urgency: Mapped[str] = mapped_column(Text)
    negotiable: Mapped[bool] = mapped_column(Boolean)
    work: Mapped[str | None] = mapped_column(Text)
    """JSON: the jobs that it is for; their inputs are kept until something is agreed on."""
    state: Mapped[str] = mapped_column(Text)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    """A digest of who asked for what: the same under one id is a repetition."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    expires_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)

    __table_args__ = (
        CheckConstraint("budget_min_units >= 0 AND budget_max_units >= budget_min_units", name="budget"),
        CheckConstraint(f"state IN {ALL_STATES}", name="state"),
        CheckConstraint(f"trade_type IN {TRADE_TYPES}", name="trade_type"),
        CheckConstraint(f"service_level IN {SERVICE_LEVELS}", name="service_level"),
        Index("trade_requests_buyer_idx", "buyer", "created_at", "id"),
        Index("trade_requests_expires_at_idx", "expires_at", postgresql_where=STILL_OPEN),
        {"info": NO_DELETE},
    )


class TradeMatchRow(Base):
    """An offer that fits a request, at the price that it had then."""

    __tablename__ = "trade_matches"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    request: Mapped[str] = mapped_column(ForeignKey(TradeRequestRow.id))
    offer: Mapped[str] = mapped_column(ForeignKey(TradeOfferRow.id))
    buyer: Mapped[str] = mapped_column(WireId("acct"))
    seller: Mapped[str] = mapped_column(WireId("acct"))
    price_units: Mapped[int] = mapped_column(BigInteger)
    score: Mapped[float] = mapped_column(Double)
    parts: Mapped[str] = mapped_column(Text)
    """JSON: the sub-scores."""
    state: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    expires_at: Mapped[datetime] = mapped_column(MOMENT)

    __table_args__ = (
        CheckConstraint("buyer <> seller", name="two_parties"),
        CheckConstraint("score BETWEEN 0 AND 100", name="score"),
        CheckConstraint(f"state IN {ALL_STATES}", name="state"),
        Index("trade_matches_open_key", "request", "offer", unique=True, postgresql_where=STILL_OPEN),
        Index("trade_matches_expires_at_idx", "expires_at", postgresql_where=STILL_OPEN),
        Index("trade_matches_buyer_idx", "buyer", "created_at", "id"),
        Index("trade_matches_seller_idx", "seller", "created_at", "id"),
        {"info": NO_DELETE},
    )


class TradeNegotiationRow(Base):
    """Prices that the two sides of a match name in turn."""

    __tablename__ = "trade_negotiations"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    request: Mapped[str] = mapped_column(ForeignKey(TradeRequestRow.id))
    match: Mapped[str] = mapped_column(ForeignKey(TradeMatchRow.id))
    buyer: Mapped[str] = mapped_column(WireId("acct"))
    seller: Mapped[str] = mapped_column(WireId("acct"))
    strategy: Mapped[str] = mapped_column(Text)
    settlement_type: Mapped[str] = mapped_column(Text)
    milestones: Mapped[str] = mapped_column(Text)
    """JSON: names and shares, of a subscription its periods."""
    period_hours: Mapped[int | None] = mapped_column(SmallInteger)
    """For a subscription: how long one of its periods is."""
    state: Mapped[str] = mapped_column(Text)
    round: Mapped[int] = mapped_column(SmallInteger)
    price_units: Mapped[int] = mapped_column(BigInteger)
    """The price that stands."""
    proposed_by: Mapped[str] = mapped_column(WireId("acct"))
    buyer_units: Mapped[int | None] = mapped_column(BigInteger)
    seller_units: Mapped[int | None] = mapped_column(BigInteger)
    """The last price that each side named."""
    score: Mapped[float] = mapped_column(Double)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    answer_by: Mapped[datetime] = mapped_column(MOMENT)
    expires_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)

    __table_args__ = (
        CheckConstraint("state IN ('active', 'accepted', 'rejected', 'expired')", name="state"),
        CheckConstraint("price_units > 0", name="price"),
        Index("trade_negotiations_open_key", "match", unique=True, postgresql_where=text("state = 'active'")),
        Index("trade_negotiations_answer_by_idx", "answer_by", postgresql_where=text("state = 'active'")),
        Index("trade_negotiations_created_at_idx", "created_at", "id"),
        {"info": NO_DELETE},
    )


class TradeAgreementRow(Base):
    """What buyer and seller agreed on; a request has one at most."""

    __tablename__ = "trade_agreements"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    request: Mapped[str] = mapped_column(ForeignKey(TradeRequestRow.id), unique=True)
    match: Mapped[str] = mapped_column(ForeignKey(TradeMatchRow.id), unique=True)
    negotiation: Mapped[str | None] = mapped_column(ForeignKey(TradeNegotiationRow.id))
    offer: Mapped[str] = mapped_column(ForeignKey(TradeOfferRow.id))
    buyer: Mapped[str] = mapped_column(WireId("acct"))
    seller: Mapped[str] = mapped_column(WireId("acct"))
    trade_type: Mapped[str] = mapped_column(Text)
    title: Mapped[str] = mapped_column(Text)
    price_units: Mapped[int] = mapped_column(BigInteger)
    settlement_type: Mapped[str] = mapped_column(Text)
    milestones: Mapped[str] = mapped_column(Text)
    """JSON: names and shares."""
    period_hours: Mapped[int | None] = mapped_column(SmallInteger)
    """For a subscription: how long one of its periods is."""
    market_offer: Mapped[str | None] = mapped_column(WireId("offer"))
    """What is to be booked; none for what the two sides deliver and pay by themselves."""
    booking: Mapped[str | None] = mapped_column(WireId("book"))
    jobs: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """Of one about work: its jobs."""
    reason: Mapped[str | None] = mapped_column(Text)
    """Why its booking was refused, or how it ended."""
    state: Mapped[str] = mapped_column(Text)
    signed_at: Mapped[datetime] = mapped_column(MOMENT)
    settle_by: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)

    __table_args__ = (
        CheckConstraint("buyer <> seller", name="two_parties"),
        CheckConstraint("price_units > 0", name="price"),
        CheckConstraint(f"state IN {ALL_STATES}", name="state"),
        CheckConstraint(f"settlement_type IN {SETTLEMENT_TYPES}", name="settlement_type"),
        CheckConstraint("(settlement_type = 'subscription') = (period_hours IS NOT NULL)", name="period_hours"),
        CheckConstraint("(settlement_type = 'metered') = (market_offer IS NOT NULL)", name="market"),
        Index("trade_agreements_buyer_idx", "buyer", "signed_at", "id"),
        Index("trade_agreements_seller_idx", "seller", "signed_at", "id"),
        Index("trade_agreements_settle_by_idx", "settle_by", postgresql_where=text("state = 'agreed'")),
        {"info": NO_DELETE},
    )


class TradeSettlementRow(Base):
    """How an agreement is paid: its payments, added up, and a dispute about them."""

    __tablename__ = "trade_settlements"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    request: Mapped[str] = mapped_column(ForeignKey(TradeRequestRow.id))
    agreement: Mapped[str] = mapped_column(ForeignKey(TradeAgreementRow.id), unique=True)
    buyer: Mapped[str] = mapped_column(WireId("acct"))
    seller: Mapped[str] = mapped_column(WireId("acct"))
    settlement_type: Mapped[str] = mapped_column(Text)
    total_units: Mapped[int] = mapped_column(BigInteger)
    fee_units: Mapped[int] = mapped_column(BigInteger)
    net_units: Mapped[int] = mapped_column(BigInteger)
    """What the seller got."""
    refunded_units: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text)
    disputed_by: Mapped[str | None] = mapped_column(WireId("acct"))
    """Who disputes it now, or did."""
    dispute: Mapped[str | None] = mapped_column(Text)
    decide_by: Mapped[datetime | None] = mapped_column(MOMENT)
    """While a dispute is open: when it is divided evenly."""
    resolution: Mapped[str | None] = mapped_column(Text)
    started_at: Mapped[datetime] = mapped_column(MOMENT)
    due_at: Mapped[datetime | None] = mapped_column(MOMENT)
    """When the platform does something by itself: confirms a delivery, refunds, or divides."""
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)

    __table_args__ = (
        CheckConstraint("fee_units >= 0 AND net_units >= 0 AND refunded_units >= 0", name="not_negative"),
        CheckConstraint("fee_units + net_units + refunded_units <= total_units", name="within_total"),
        CheckConstraint(
            "(ended_at IS NOT NULL) = (fee_units + net_units + refunded_units = total_units)", name="adds_up"
        ),
        CheckConstraint("state IN ('settling', 'completed', 'failed')", name="state"),
        CheckConstraint("(due_at IS NULL) = (ended_at IS NOT NULL)", name="due"),
        Index("trade_settlements_buyer_idx", "buyer", "started_at", "id"),
        Index("trade_settlements_seller_idx", "seller", "started_at", "id"),
        Index("trade_settlements_due_at_idx", "due_at", postgresql_where=text("state = 'settling'")),
        {"info": NO_DELETE},
    )


class TradePaymentRow(Base):
    """One payment of a settlement, with a hold of its own."""

    __tablename__ = "trade_payments"
    settlement: Mapped[str] = mapped_column(ForeignKey(TradeSettlementRow.id), primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    amount_units: Mapped[int] = mapped_column(BigInteger)
    hold: Mapped[str] = mapped_column(WireId("hold"), unique=True)
    state: Mapped[str] = mapped_column(Text)
    paid_units: Mapped[int] = mapped_column(BigInteger)
    """Of the amount, what was paid: the fee and the seller's part."""
    fee_units: Mapped[int] = mapped_column(BigInteger)
    due_at: Mapped[datetime | None] = mapped_column(MOMENT)
    delivered_at: Mapped[datetime | None] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)

    __table_args__ = (
        CheckConstraint("amount_units > 0 AND paid_units BETWEEN 0 AND amount_units", name="amount"),
        CheckConstraint("fee_units BETWEEN 0 AND paid_units", name="fee"),
        CheckConstraint(f"state IN {PAYMENT_STATES}", name="state"),
        {"info": NO_DELETE},
    )


class TradeEvidenceRow(Base):
    """What a party said in a dispute."""

    __tablename__ = "trade_evidence"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    settlement: Mapped[str] = mapped_column(ForeignKey(TradeSettlementRow.id), index=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)

    __table_args__ = ({"info": APPEND_ONLY},)


class TradeFeedbackRow(Base):
    """What one side of a completed trade says of the other, once."""

    __tablename__ = "trade_feedback"
    agreement: Mapped[str] = mapped_column(ForeignKey(TradeAgreementRow.id), primary_key=True)
    reviewer: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    reviewed: Mapped[str] = mapped_column(WireId("acct"))
    role: Mapped[str] = mapped_column(Text)
    rating: Mapped[int] = mapped_column(SmallInteger)
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)

    __table_args__ = (
        CheckConstraint("rating BETWEEN 1 AND 5", name="rating"),
        CheckConstraint("role IN ('buyer', 'seller')", name="role"),
        Index("trade_feedback_reviewed_idx", "reviewed", postgresql_include=["rating"]),
        {"info": APPEND_ONLY},
    )
