"""Bodies and answers of trades in the legacy dialect. Money is a number, unknown fields are passed over."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from aitbc.kernel.legacy.amounts import Amount, Total, amount_of, optional_units_of
from aitbc.kernel.legacy.errors import invalid
from aitbc.kernel.legacy.times import time_of
from aitbc.kernel.primitives.money import parse
from aitbc.kernel.primitives.text import Name, Text
from aitbc.modules.trading.models.trades.values import (
    Regions,
    ServiceLevel,
    SpecKey,
    SpecValue,
    TradeType,
    Urgency,
)
from aitbc.modules.trading.models.trades.views import (
    Milestone,
    TradeAgreement,
    TradeMatch,
    TradeMatchPreview,
    TradeNegotiation,
    TradeRequest,
    TradeSettlement,
)
from aitbc.modules.trading.service.trades.agents import AgentTrades
from aitbc.modules.trading.service.trades.commands import PlaceTradeRequest, TradeTerms

Score = Annotated[float, Meta(ge=0, le=100)]
Moment = Annotated[str, Meta(max_length=64)]
Settled = Literal["immediate", "escrow", "milestone", "subscription"]


MILESTONES = Annotated[tuple[Milestone, ...], Meta(max_length=20)]
SCHEDULE = (
    'Expected for `milestone` the share of each milestone by its name, as {"half": 1, "rest": 1}, '
    'for `subscription` {"periods": 12, "period_hours": 720}'
)


class Periods(Struct, frozen=True):
    """The schedule of a subscription."""

    periods: Annotated[int, Meta(ge=2, le=20)]
    period_hours: Annotated[int, Meta(ge=1, le=8_784)]


class BudgetRange(Struct, frozen=True):
    """What it may cost, in AITBC."""

    min: Amount | None = None
    max: Amount | None = None


class RequestBody(Struct, frozen=True, kw_only=True):
    """A buyer asks; what becomes of the request is not its to say."""

    request_id: Name | None = None
    buyer_agent_id: Name | None = None
    trade_type: TradeType
    title: Name
    description: Text = ""
    requirements: dict[str, Any] = {}
    specifications: dict[str, Any] = {}
    budget_range: BudgetRange = BudgetRange()
    negotiation_flexible: bool = True
    start_time: Moment | None = None
    end_time: Moment | None = None
    expires_at: Moment | None = None
    urgency_level: Urgency = "normal"
    preferred_regions: Regions = []
    excluded_regions: Regions = []
    service_level_required: ServiceLevel = "standard"

    def command(self) -> PlaceTradeRequest:
        """As the service takes it. Raises `Invalid`."""
        return PlaceTradeRequest(
            id=self.request_id,
            agent=self.buyer_agent_id,
            trade_type=self.trade_type,
            title=self.title,
            description=self.description,
            specifications=comparable(self.requirements) | comparable(self.specifications),
            budget_min_units=optional_units_of(self.budget_range.min, "/budget_range/min") or 0,
            budget_max_units=optional_units_of(self.budget_range.max, "/budget_range/max"),
            starts_at=time_of(self.start_time, "start_time"),
            ends_at=time_of(self.end_time, "end_time"),
            preferred_regions=self.preferred_regions,
            excluded_regions=self.excluded_regions,
            service_level=self.service_level_required,
            urgency=self.urgency_level,
            negotiable=self.negotiation_flexible,
            expires_at=time_of(self.expires_at, "expires_at"),
        )


class MatchBody(Struct, frozen=True, kw_only=True):
    """A request and the seller to match it with; how well they fit is reckoned here."""

    match_id: Name | None = None
    request_id: Name
    seller_agent_id: Name


class NegotiationBody(Struct, frozen=True, kw_only=True):
    """A party names the first price of a match."""

    match_id: Name
    strategy: Literal["aggressive", "balanced", "cooperative"] = "balanced"


class AgreementBody(Struct, frozen=True, kw_only=True):
    """A party agrees: with the price of a match, or with the one that the other side named."""

    agreement_id: Name | None = None
    match_id: Name | None = None
    negotiation_id: Name | None = None
    total_price: Amount | None = None
    settlement_type: Settled = "escrow"
    payment_schedule: dict[str, Any] = {}
    """The share of each milestone by its name, or `periods` and `period_hours` of a subscription."""
    currency: Literal["AITBC"] = "AITBC"

    def terms(self) -> TradeTerms:
        """How it will be paid. Raises `Invalid` for a schedule that cannot be read, or is not said."""
        try:
            if self.settlement_type == "subscription":
                periods = msgspec.convert(self.payment_schedule, Periods)
                return TradeTerms.subscription(periods.periods, periods.period_hours, self.agreement_id)
            shares = self.payment_schedule if self.settlement_type == "milestone" else {}
            named = msgspec.convert([{"name": name, "share": share} for name, share in shares.items()], MILESTONES)
        except msgspec.ValidationError as error:
            raise invalid("/payment_schedule", SCHEDULE) from error
        if self.settlement_type == "milestone" and not named:
            raise invalid("/payment_schedule", SCHEDULE)
        return TradeTerms(
            id=self.agreement_id,
            settlement_type=None if self.settlement_type == "escrow" else self.settlement_type,
            milestones=named,
        )


class SettlementBody(Struct, frozen=True, kw_only=True):
    """The buyer sets the price of an agreement aside; fees and net amount are reckoned here."""

    settlement_id: Name | None = None
    agreement_id: Name
    total_amount: Total | None = None


class RequestAction(RequestBody, frozen=True, kw_only=True, tag_field="action", tag="request"):
    """The same at `/v1/transactions`."""

    type: Literal["trading"]


class MatchAction(MatchBody, frozen=True, kw_only=True, tag_field="action", tag="match"):
    """The same at `/v1/transactions`."""

    type: Literal["trading"]


class AgreementAction(AgreementBody, frozen=True, kw_only=True, tag_field="action", tag="agreement"):
    """The same at `/v1/transactions`."""

    type: Literal["trading"]


class SettlementAction(SettlementBody, frozen=True, kw_only=True, tag_field="action", tag="settlement"):
    """The same at `/v1/transactions`."""

    type: Literal["trading"]


class TradeQuery(Struct, frozen=True, kw_only=True):
    """Which are wanted."""

    status: Name | None = None
    trade_type: Name | None = None
    buyer_agent_id: Name | None = None
    seller_agent_id: Name | None = None
    action: Literal["request", "match", "agreement", "settlement"] | None = None
    transaction_type: Name | None = None
    island_id: Name | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


class TradeDone(Struct, frozen=True, kw_only=True):
    """What a transaction made."""

    status: str
    transaction_id: str
    settlement_id: str | None = None


def comparable(found: dict[str, Any]) -> dict[str, SpecValue]:
    """Of a free object, what requests and offers are compared by: numbers, words and lists of words."""
    kept: dict[str, SpecValue] = {}
    for name, value in list(found.items())[:32]:
        try:
            key = msgspec.convert(name.lower(), SpecKey)
            kept[key] = msgspec.convert([value] if isinstance(value, str) else value, SpecValue)
        except msgspec.ValidationError:
            continue
    return kept


def number(amount: str) -> float:
    """AITBC as a number, of the decimal text of our own API."""
    return amount_of(parse(amount, zero=True))


def request_shape(found: TradeRequest) -> dict[str, Any]:
    """A request as legacy clients read it."""
    budget = {"min": number(found.budget_min)}
    if found.budget_max is not None:
        budget["max"] = number(found.budget_max)
    return {
        "request_id": found.id,
        "buyer_agent_id": found.agent or found.buyer,
        "trade_type": found.trade_type,
        "title": found.title,
        "description": found.description,
        "specifications": found.specifications,
        "budget_range": budget,
        "negotiation_flexible": found.negotiable,
        "start_time": found.starts_at,
        "end_time": found.ends_at,
        "urgency_level": found.urgency,
        "preferred_regions": found.preferred_regions,
        "excluded_regions": found.excluded_regions,
        "service_level_required": found.service_level,
        "status": found.state,
        "created_at": found.created_at,
        "expires_at": found.expires_at,
    }


def match_shape(found: TradeMatch) -> dict[str, Any]:
    """A match as legacy clients read it."""
    return {
        "match_id": found.id,
        "request_id": found.request,
        "buyer_agent_id": found.buyer,
        "seller_agent_id": found.seller,
        "match_score": found.score,
        "confidence_level": found.confidence,
        "price_compatibility": found.parts.price,
        "timing_compatibility": found.parts.timing,
        "specification_compatibility": found.parts.specifications,
        "reputation_compatibility": found.parts.reputation,
        "geographic_compatibility": found.parts.geography,
        "seller_offer": {"offer_id": found.offer, "price": number(found.price)},
        "status": found.state,
        "created_at": found.created_at,
        "expires_at": found.expires_at,
    }


def preview_shape(found: TradeMatchPreview) -> dict[str, Any]:
    """An offer that would be matched, as legacy clients read it."""
    return {
        "seller_agent_id": found.seller,
        "match_score": found.score,
        "confidence_level": round(found.score / 100, 4),
        "seller_offer": {"offer_id": found.offer, "price": number(found.price)},
    }


def negotiation_shape(found: TradeNegotiation) -> dict[str, Any]:
    """A negotiation as legacy clients read it."""
    return {
        "negotiation_id": found.id,
        "match_id": found.match,
        "buyer_agent_id": found.buyer,
        "seller_agent_id": found.seller,
        "status": found.state,
        "negotiation_round": found.round,
        "max_rounds": found.rounds_max,
        "current_terms": {"price": number(found.price), "settlement_type": found.settlement_type},
        "negotiation_strategy": found.strategy,
        "agreement_score": found.score,
        "auto_accept_threshold": 85.0,
        "created_at": found.created_at,
        "expires_at": found.answer_by,
    }


def agreement_shape(found: TradeAgreement) -> dict[str, Any]:
    """An agreement as legacy clients read it."""
    return {
        "agreement_id": found.id,
        "negotiation_id": found.negotiation,
        "match_id": found.match,
        "request_id": found.request,
        "buyer_agent_id": found.buyer,
        "seller_agent_id": found.seller,
        "trade_type": found.trade_type,
        "title": found.title,
        "total_price": number(found.price),
        "currency": "AITBC",
        "settlement_type": found.settlement_type,
        "status": found.state,
        "signed_at": found.signed_at,
        "completed_at": found.ended_at,
    }


def transaction_of(action: str, shape: dict[str, Any], at: Any) -> dict[str, Any]:
    """A line of `/v1/transactions`; nothing of ours is on an island."""
    return {"action": action, "island_id": None, "created_at": at} | shape


def settlement_shape(found: TradeSettlement) -> dict[str, Any]:
    """A settlement as legacy clients read it."""
    return {
        "settlement_id": found.id,
        "agreement_id": found.agreement,
        "buyer_agent_id": found.buyer,
        "seller_agent_id": found.seller,
        "settlement_type": found.settlement_type,
        "total_amount": number(found.total),
        "platform_fee": number(found.fee),
        "processing_fee": 0.0,
        "gas_fee": 0.0,
        "net_amount_seller": number(found.net),
        "currency": "AITBC",
        "status": found.state,
        "dispute_raised": found.disputed,
    }


def check_total(stated: float | None, agreed: str, field: str) -> None:
    """Raise `Invalid` where a client names another price than the one that was agreed on."""
    units = optional_units_of(stated, field)
    if units is not None and units != parse(agreed, zero=True):
        raise invalid(field, f"Expected the price of this trade, {agreed}")


class RecentActivity(Struct, frozen=True, kw_only=True):
    """What happened in the last 30 days."""

    requests_last_30d: int
    matches_last_30d: int
    agreements_last_30d: int


class LegacyAgentSummary(Struct, frozen=True, kw_only=True):
    """What an agent has traded."""

    agent_id: str
    trade_requests: int
    trade_matches: int
    negotiations: int
    agreements: int
    success_rate: float | None
    """Of the agreements that ended, how many were completed, 0 to 1; none where none ended."""
    average_match_score: float | None
    total_trade_volume: float
    recent_activity: RecentActivity


def summary_shape(agent: str, found: AgentTrades) -> LegacyAgentSummary:
    """What an agent has traded, in the older words."""
    return LegacyAgentSummary(
        agent_id=agent,
        trade_requests=found.requests,
        trade_matches=found.matches,
        negotiations=found.negotiations,
        agreements=found.agreements,
        success_rate=round(found.completed / found.ended, 4) if found.ended else None,
        average_match_score=found.average_score,
        total_trade_volume=amount_of(found.volume_units),
        recent_activity=RecentActivity(
            requests_last_30d=found.recent_requests,
            matches_last_30d=found.recent_matches,
            agreements_last_30d=found.recent_agreements,
        ),
    )
