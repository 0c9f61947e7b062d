"""What callers see of trades, made of their rows."""

import msgspec

from aitbc.kernel.primitives.money import render
from aitbc.modules.trading.models.trades.life import TERMS
from aitbc.modules.trading.models.trades.tables import (
    TradeAgreementRow,
    TradeEvidenceRow,
    TradeFeedbackRow,
    TradeMatchRow,
    TradeNegotiationRow,
    TradeOfferRow,
    TradePaymentRow,
    TradeRequestRow,
    TradeSettlementRow,
)
from aitbc.modules.trading.models.trades.values import METERED
from aitbc.modules.trading.models.trades.views import (
    MatchParts,
    Milestone,
    TradeAgreement,
    TradeEvidence,
    TradeFeedback,
    TradeMatch,
    TradeMatchPreview,
    TradeNegotiation,
    TradeOffer,
    TradePayment,
    TradeRequest,
    TradeSettlement,
)
from aitbc.modules.trading.models.trades.work import work_view


def offer_view(row: TradeOfferRow) -> TradeOffer:
    """An offer."""
    return TradeOffer(
        id=row.id,
        seller=row.seller,
        trade_type=row.trade_type,
        title=row.title,
        description=row.description,
        price=render(row.price_units),
        specifications=msgspec.json.decode(row.specifications),
        regions=tuple(row.regions),
        service_level=row.service_level,
        capacity=row.capacity,
        available=row.capacity - row.taken,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        state=row.state,
        created_at=row.created_at,
        valid_until=row.valid_until,
        market_offer=row.market_offer,
    )


def request_view(row: TradeRequestRow) -> TradeRequest:
    """A request."""
    return TradeRequest(
        id=row.id,
        buyer=row.buyer,
        agent=row.agent,
        trade_type=row.trade_type,
        title=row.title,
        description=row.description,
        specifications=msgspec.json.decode(row.specifications),
        budget_min=render(row.budget_min_units),
        budget_max=None if row.budget_max_units is None else render(row.budget_max_units),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        preferred_regions=tuple(row.preferred_regions),
        excluded_regions=tuple(row.excluded_regions),
        service_level=row.service_level,
        urgency=row.urgency,
        negotiable=row.negotiable,
        state=row.state,
        created_at=row.created_at,
        expires_at=row.expires_at,
        ended_at=row.ended_at,
        work=work_view(row.work),
    )


def match_view(row: TradeMatchRow) -> TradeMatch:
    """A match."""
    return TradeMatch(
        id=row.id,
        request=row.request,
        offer=row.offer,
        buyer=row.buyer,
        seller=row.seller,
        price=render(row.price_units),
        score=row.score,
        confidence=round(row.score / 100, 4),
        parts=msgspec.json.decode(row.parts, type=MatchParts),
        state=row.state,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


def preview_view(offer: TradeOfferRow, price_units: int, score: float, parts: dict[str, float]) -> TradeMatchPreview:
    """An offer that would be matched."""
    return TradeMatchPreview(
        offer=offer.id,
        seller=offer.seller,
        title=offer.title,
        price=render(price_units),
        score=score,
        parts=MatchParts(**parts),
    )


def agreement_view(row: TradeAgreementRow) -> TradeAgreement:
    """An agreement."""
    return TradeAgreement(
        id=row.id,
        request=row.request,
        match=row.match,
        negotiation=row.negotiation,
        buyer=row.buyer,
        seller=row.seller,
        trade_type=row.trade_type,
        title=row.title,
        price=render(row.price_units),
        settlement_type=row.settlement_type,
        milestones=msgspec.json.decode(row.milestones, type=tuple[Milestone, ...]),
        period_hours=row.period_hours,
        state=row.state,
        signed_at=row.signed_at,
        settle_by=row.settle_by,
        ended_at=row.ended_at,
        market_offer=row.market_offer,
        booking=row.booking,
        jobs=tuple(row.jobs or ()),
        reason=row.reason,
    )


def negotiation_view(row: TradeNegotiationRow, rounds_max: int) -> TradeNegotiation:
    """A negotiation."""
    return TradeNegotiation(
        id=row.id,
        request=row.request,
        match=row.match,
        buyer=row.buyer,
        seller=row.seller,
        strategy=row.strategy,
        settlement_type=row.settlement_type,
        state=row.state,
        round=row.round,
        rounds_max=rounds_max,
        price=render(row.price_units),
        proposed_by=row.proposed_by,
        score=row.score,
        created_at=row.created_at,
        answer_by=row.answer_by,
        ended_at=row.ended_at,
    )


def payment_view(row: TradePaymentRow) -> TradePayment:
    """A payment."""
    return TradePayment(
        number=row.position,
        name=row.name,
        amount=render(row.amount_units),
        hold=row.hold,
        state=row.state,
        paid=render(row.paid_units),
        fee=render(row.fee_units),
        delivered_at=row.delivered_at,
        due_at=row.due_at,
        ended_at=row.ended_at,
    )


def settlement_view(
    row: TradeSettlementRow, payments: list[TradePaymentRow], evidence: list[TradeEvidenceRow]
) -> TradeSettlement:
    """A settlement with its payments, and what was said about it."""
    return TradeSettlement(
        id=row.id,
        agreement=row.agreement,
        buyer=row.buyer,
        seller=row.seller,
        settlement_type=row.settlement_type,
        total=render(row.total_units),
        fee_basis_points=_fee_rate(row),
        fee=render(row.fee_units),
        net=render(row.net_units),
        refunded=render(row.refunded_units),
        payments=tuple(payment_view(payment) for payment in payments),
        state=row.state,
        disputed=row.decide_by is not None,
        disputed_by=row.disputed_by,
        dispute=row.dispute,
        evidence=tuple(TradeEvidence(account=one.account, text=one.text, at=one.created_at) for one in evidence),
        decide_by=row.decide_by,
        resolution=row.resolution,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


def _fee_rate(row: TradeSettlementRow) -> int:
    """The fee in basis points; of one that its booking paid, as it was."""
    if row.settlement_type != METERED:
        return TERMS[row.settlement_type].fee_basis_points
    paid = row.fee_units + row.net_units
    return row.fee_units * 10_000 // paid if paid else 0


def feedback_view(row: TradeFeedbackRow) -> TradeFeedback:
    """What one side says."""
    return TradeFeedback(
        agreement=row.agreement,
        reviewer=row.reviewer,
        reviewed=row.reviewed,
        role=row.role,
        rating=row.rating,
        text=row.text,
        created_at=row.created_at,
    )
