"""The HTTP of trades from the agreement on: settlements, disputes, feedback and figures."""

from typing import Literal

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from aitbc.kernel.primitives.pagination import Cursor, Limit, Page
from aitbc.modules.trading.api import BudgetExceeded, InsufficientFunds
from aitbc.modules.trading.models.trades.values import TradeType
from aitbc.modules.trading.models.trades.views import TradeAgreement, TradeFeedback, TradeSettlement
from aitbc.modules.trading.routes.trade_bodies import (
    AddTradeEvidence,
    BeginTradeDispute,
    DecideTradeDispute,
    GiveTradeFeedback,
    InState,
    WhichTradePayment,
)
from aitbc.modules.trading.routes.trades import LIST, Once, Who, changes, filters, reads
from aitbc.modules.trading.service.trades.agreements import TradeAgreements
from aitbc.modules.trading.service.trades.analytics import TradeAnalytics, TradeFigures
from aitbc.modules.trading.service.trades.commands import (
    FeedbackGiven,
    NoSubscription,
    NotDisputed,
    NotYourSide,
    TradeAgreementNotFound,
    TradeAgreementNotOpen,
    TradeDisputed,
    TradePaymentNotFound,
    TradePaymentNotOpen,
    TradeSettlementNotFound,
)
from aitbc.modules.trading.service.trades.disputes import TooMuchEvidence, TradeDisputes
from aitbc.modules.trading.service.trades.feedback import TradeFeedbacks
from aitbc.modules.trading.service.trades.settlements import TradeSettlements

Settlements = NamedDependency[TradeSettlements]
ON_PAYMENT = changes(TradeSettlementNotFound, TradePaymentNotFound, TradePaymentNotOpen, TradeDisputed, NotYourSide)


class AgreementController(Controller):
    """What was agreed on, and what became of it."""

    tags = ("trades",)

    @get("/agreements", operation_id="list_trade_agreements", summary="List agreements", opt=LIST)
    async def agreements(
        self,
        trade_agreements: NamedDependency[TradeAgreements],
        who: Who,
        in_state: InState = None,
        trade_type: FromQuery[TradeType | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[TradeAgreement]:
        """List the agreements in which the caller buys or sells, from the newest on."""
        found = await trade_agreements.page(who, filters("trade_agreements", in_state, trade_type, limit, cursor))
        bound = (in_state or "", trade_type or "")
        return Page.of("trade_agreements", found, limit, lambda one: (one.signed_at, one.id), bound_to=bound)

    @get(
        "/agreements/{agreement:str}",
        operation_id="get_trade_agreement",
        summary="Get an agreement",
        opt=reads(TradeAgreementNotFound),
    )
    async def one(
        self, trade_agreements: NamedDependency[TradeAgreements], who: Who, agreement: FromPath[str]
    ) -> TradeAgreement:
        """Read an agreement in which the caller buys or sells."""
        return await trade_agreements.one(who, agreement)

    @post(
        "/agreements/{agreement:str}/cancel",
        status_code=200,
        operation_id="cancel_trade_agreement",
        summary="Cancel an agreement",
        opt=changes(TradeAgreementNotFound, TradeAgreementNotOpen),
    )
    async def cancel(
        self, trade_agreements: NamedDependency[TradeAgreements], who: Who, once: Once, agreement: FromPath[str]
    ) -> TradeAgreement:
        """End an agreement before its settlement began; either side may. Cancelling it again changes nothing."""
        return await trade_agreements.cancel(who, agreement, once)

    @post(
        "/agreements/{agreement:str}/settlement",
        operation_id="settle_trade_agreement",
        summary="Settle an agreement",
        opt=changes(TradeAgreementNotFound, TradeAgreementNotOpen, NotYourSide, InsufficientFunds, BudgetExceeded),
    )
    async def settle(
        self, trade_settlements: Settlements, who: Who, once: Once, agreement: FromPath[str]
    ) -> TradeSettlement:
        """Set the price aside, the buyer's part: an immediate one is paid at once, the others on delivery."""
        return await trade_settlements.start(who, agreement, once)

    @post(
        "/agreements/{agreement:str}/feedback",
        operation_id="give_trade_feedback",
        summary="Rate the other side",
        opt=changes(TradeAgreementNotFound, TradeAgreementNotOpen, FeedbackGiven),
    )
    async def rate(
        self,
        trade_feedback: NamedDependency[TradeFeedbacks],
        who: Who,
        once: Once,
        agreement: FromPath[str],
        data: JSONBody[GiveTradeFeedback],
    ) -> TradeFeedback:
        """Rate the other side of a completed trade, once. It counts for the matches of that side from then on."""
        return await trade_feedback.give(who, agreement, data.rating, data.text, once)

    @get(
        "/agreements/{agreement:str}/feedback",
        operation_id="get_trade_feedback",
        summary="Get what the sides said",
        opt=reads(TradeAgreementNotFound),
    )
    async def feedback(
        self, trade_feedback: NamedDependency[TradeFeedbacks], who: Who, agreement: FromPath[str]
    ) -> Page[TradeFeedback]:
        """Read what both sides of a trade of the caller's said of each other."""
        return Page(data=list(await trade_feedback.of(who, agreement)))

    @get("/analytics", operation_id="get_trade_analytics", summary="Read the figures of trades", opt=reads())
    async def analytics(
        self,
        trade_figures: NamedDependency[TradeFigures],
        period: FromQuery[Literal["daily", "weekly", "monthly"]] = "daily",
    ) -> TradeAnalytics:
        """Read what was agreed on and paid this day, week or month (UTC), computed from the trades themselves."""
        return await trade_figures.of(period)


class SettlementController(Controller):
    """How agreements are paid."""

    path = "/settlements"
    tags = ("trades",)

    @get("/", operation_id="list_trade_settlements", summary="List settlements", opt=LIST)
    async def settlements(
        self,
        trade_settlements: Settlements,
        who: Who,
        in_state: InState = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[TradeSettlement]:
        """List the settlements in which the caller pays or is paid, from the newest on."""
        found = await trade_settlements.page(who, filters("trade_settlements", in_state, None, limit, cursor))
        bound = (in_state or "", "")
        return Page.of("trade_settlements", found, limit, lambda one: (one.started_at, one.id), bound_to=bound)

    @get(
        "/{settlement:str}",
        operation_id="get_trade_settlement",
        summary="Get a settlement",
        opt=reads(TradeSettlementNotFound),
    )
    async def one(self, trade_settlements: Settlements, who: Who, settlement: FromPath[str]) -> TradeSettlement:
        """Read a settlement in which the caller pays or is paid."""
        return await trade_settlements.one(who, settlement)

    @post(
        "/{settlement:str}/deliver",
        status_code=200,
        operation_id="deliver_trade_payment",
        summary="Say that it is delivered",
        opt=ON_PAYMENT,
    )
    async def deliver(
        self,
        trade_settlements: Settlements,
        who: Who,
        once: Once,
        settlement: FromPath[str],
        data: JSONBody[WhichTradePayment],
    ) -> TradeSettlement:
        """Say that what a payment pays is delivered, the seller's part.

        It is paid 24 hours later, of a milestone 2 hours, unless the buyer confirms before or disputes it.
        """
        return await trade_settlements.deliver(who, settlement, data.payment, once)

    @post(
        "/{settlement:str}/confirm",
        status_code=200,
        operation_id="confirm_trade_payment",
        summary="Confirm a delivery",
        opt=ON_PAYMENT,
    )
    async def confirm(
        self,
        trade_settlements: Settlements,
        who: Who,
        once: Once,
        settlement: FromPath[str],
        data: JSONBody[WhichTradePayment],
    ) -> TradeSettlement:
        """Release a payment to the seller, the buyer's part. Confirming it again changes nothing."""
        return await trade_settlements.confirm(who, settlement, data.payment, once)

    @post(
        "/{settlement:str}/refund",
        status_code=200,
        operation_id="refund_trade_payment",
        summary="Give a payment back",
        opt=ON_PAYMENT,
    )
    async def refund(
        self,
        trade_settlements: Settlements,
        who: Who,
        once: Once,
        settlement: FromPath[str],
        data: JSONBody[WhichTradePayment],
    ) -> TradeSettlement:
        """Give a payment back to the buyer, the seller's part. What is not delivered within 7 days goes back anyway."""
        return await trade_settlements.refund(who, settlement, data.payment, once)

    @post(
        "/{settlement:str}/stop",
        status_code=200,
        operation_id="stop_trade_subscription",
        summary="Stop a subscription",
        opt=changes(TradeSettlementNotFound, NoSubscription, TradeDisputed),
    )
    async def stop(
        self, trade_settlements: Settlements, who: Who, once: Once, settlement: FromPath[str]
    ) -> TradeSettlement:
        """End a subscription after the period that goes on: what later ones cost goes back. Either side may."""
        return await trade_settlements.stop(who, settlement, once)

    @post(
        "/{settlement:str}/dispute",
        status_code=200,
        operation_id="dispute_trade_settlement",
        summary="Dispute a settlement",
        opt=changes(TradeSettlementNotFound, TradePaymentNotOpen, TradeDisputed),
    )
    async def dispute(
        self,
        trade_disputes: NamedDependency[TradeDisputes],
        who: Who,
        once: Once,
        settlement: FromPath[str],
        data: JSONBody[BeginTradeDispute],
    ) -> TradeSettlement:
        """Stop all payments that have not ended; either side may, once.

        The operator decides within 7 days; otherwise they are divided evenly.
        """
        return await trade_disputes.begin(who, settlement, data.reason, once)

    @post(
        "/{settlement:str}/evidence",
        status_code=200,
        operation_id="add_trade_evidence",
        summary="Add evidence to a dispute",
        opt=changes(TradeSettlementNotFound, NotDisputed, TooMuchEvidence),
    )
    async def evidence(
        self,
        trade_disputes: NamedDependency[TradeDisputes],
        who: Who,
        once: Once,
        settlement: FromPath[str],
        data: JSONBody[AddTradeEvidence],
    ) -> TradeSettlement:
        """Say something in an open dispute, as buyer or seller."""
        return await trade_disputes.say(who, settlement, data.text, once)

    @post(
        "/{settlement:str}/decision",
        status_code=200,
        operation_id="decide_trade_dispute",
        summary="Decide a dispute",
        opt={"permission": "ledger:write", "idempotency": "required", "errors": (TradeSettlementNotFound, NotDisputed)},
    )
    async def decide(
        self,
        trade_disputes: NamedDependency[TradeDisputes],
        who: Who,
        once: Once,
        settlement: FromPath[str],
        data: JSONBody[DecideTradeDispute],
    ) -> TradeSettlement:
        """Divide what has not ended between seller and buyer: for those who run the platform."""
        points = data.seller_basis_points
        return await trade_disputes.decide(who, settlement, points, data.reason, once)
