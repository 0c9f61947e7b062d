"""What can be asked of trades, and what they refuse."""

from datetime import datetime

import msgspec
from msgspec import Struct

from aitbc.kernel.primitives.errors import Conflict, Forbidden, Invalid, NotFound, TooMany
from aitbc.kernel.primitives.money import split
from aitbc.modules.trading.models.trades.values import METERED, SpecValue
from aitbc.modules.trading.models.trades.views import Milestone
from aitbc.modules.trading.models.trades.work import WantedWork

ESCROW = "escrow"
PAID_IN_PARTS = ("milestone", "subscription")


class TradeOfferNotFound(NotFound):
    """There is no such offer."""

    code = "trade_offer_not_found"


class TradeOfferNotOpen(Conflict):
    """This offer is closed, has run out or has nothing left."""

    code = "trade_offer_not_open"


class TradeRequestNotFound(NotFound):
    """There is no such request, or it is not yours."""

    code = "trade_request_not_found"


class TradeRequestNotOpen(Conflict):
    """This request has ended, or something was agreed on already."""

    code = "trade_request_not_open"


class TradeIdTaken(Conflict):
    """There is one of this id with other contents; give yours another one."""

    code = "trade_id_taken"


class TooManyTrades(TooMany):
    """This account has as many open offers or requests as it may have; close some."""

    code = "too_many_trades"


class TradeMatchNotFound(NotFound):
    """There is no such match, or you are no party to it."""

    code = "trade_match_not_found"


class TradeMatchNotOpen(Conflict):
    """This match has expired, or its request is no longer open."""

    code = "trade_match_not_open"


class OutsideBudget(Conflict):
    """The price of this match lies outside of the request's budget; negotiate another."""

    code = "trade_outside_budget"


class TradeNegotiationNotFound(NotFound):
    """There is no such negotiation, or you are no party to it."""

    code = "trade_negotiation_not_found"


class TradeNegotiationNotOpen(Conflict):
    """This negotiation has ended, has expired, or may not begin."""

    code = "trade_negotiation_not_open"


class NotYourTurn(Conflict):
    """You named the price that stands; the other side answers."""

    code = "trade_not_your_turn"


class TradeConcessionTooSmall(Invalid):
    """Your next price must come farther towards the other side, as the strategy says."""

    code = "trade_concession_too_small"


class TradeAgreementNotFound(NotFound):
    """There is no such agreement, or you are no party to it."""

    code = "trade_agreement_not_found"


class TradeAgreementNotOpen(Conflict):
    """The present state of this agreement does not allow it."""

    code = "trade_agreement_not_open"


class TradeSettlementNotFound(NotFound):
    """There is no such settlement, or you are no party to it."""

    code = "trade_settlement_not_found"


class TradePaymentNotFound(NotFound):
    """This settlement has no payment of that number."""

    code = "trade_payment_not_found"


class TradePaymentNotOpen(Conflict):
    """This payment was paid or refunded before, or is not in the state that this needs."""

    code = "trade_payment_not_open"


class TradeDisputed(Conflict):
    """A dispute about this settlement is open: nothing is paid or refunded until it is decided."""

    code = "trade_disputed"


class NotDisputed(Conflict):
    """No dispute about this settlement is open."""

    code = "trade_not_disputed"


class NotYourSide(Forbidden):
    """Only the other side of this trade may do this."""

    code = "trade_not_your_side"


class MilestonesDoNotFit(Invalid):
    """A settlement by milestones names 1 to 20 of them, no name twice; each is worth something; others name none."""

    code = "trade_milestones_do_not_fit"


class SettlementDoesNotFit(Invalid):
    """An offer of the market is paid by its booking or its jobs (`metered`), and nothing else is."""

    code = "trade_settlement_does_not_fit"


class PaidByBooking(Conflict):
    """This agreement is kept and paid by its booking or its jobs: end those, or dispute those."""

    code = "trade_paid_by_booking"


class TradeOfferOfMarket(Conflict):
    """This offer stands for one of the market: withdraw that."""

    code = "trade_offer_of_market"


class PeriodsDoNotFit(Invalid):
    """A subscription names 2 to 20 periods and the hours of one, each period worth something; others name neither."""

    code = "trade_periods_do_not_fit"


class NoSubscription(Conflict):
    """Only a subscription is stopped; the payments of other settlements are delivered, confirmed or refunded."""

    code = "trade_no_subscription"


class FeedbackGiven(Conflict):
    """You said something else of this trade before."""

    code = "trade_feedback_given"


class PlaceTradeOffer(Struct, frozen=True, kw_only=True):
    """A seller's offer."""

    trade_type: str
    title: str
    description: str = ""
    price_units: int
    specifications: dict[str, SpecValue] = {}
    regions: list[str] = []
    service_level: str = "standard"
    capacity: int = 1
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    valid_until: datetime | None = None


class PlaceTradeRequest(Struct, frozen=True, kw_only=True):
    """A buyer's request."""

    id: str | None = None
    """None for one of ours."""
    agent: str | None = None
    trade_type: str
    title: str
    description: str = ""
    specifications: dict[str, SpecValue] = {}
    budget_min_units: int = 0
    budget_max_units: int | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    preferred_regions: list[str] = []
    excluded_regions: list[str] = []
    service_level: str = "standard"
    urgency: str = "normal"
    negotiable: bool = True
    expires_at: datetime | None = None
    work: WantedWork | None = None
    """The jobs that it is for; none of a request for something else."""


class TradeTerms(Struct, frozen=True, kw_only=True):
    """How an agreement is to be paid."""

    id: str | None = None
    """Of the agreement, chosen by a client of the legacy dialect; none for one of ours."""
    settlement_type: str | None = None
    """None for what fits the offer: on delivery, or of an offer of the market by the second or the unit."""
    milestones: tuple[Milestone, ...] = ()
    """What is paid one by one; the periods of a subscription."""
    period_hours: int | None = None
    """How long a period of a subscription is."""

    def fitted(self, *, to_market: bool) -> "TradeTerms":
        """These terms for an offer of the market, or for another one. Raises `SettlementDoesNotFit`."""
        if to_market != (self.settlement_type == METERED) and not (to_market and self.settlement_type is None):
            raise SettlementDoesNotFit
        return msgspec.structs.replace(self, settlement_type=self.settlement_type or (METERED if to_market else ESCROW))

    @classmethod
    def subscription(cls, periods: int, period_hours: int, name: str | None = None) -> "TradeTerms":
        """The terms of so many equal periods."""
        named = tuple(Milestone(name=f"period {number}", share=1) for number in range(1, periods + 1))
        return cls(id=name, settlement_type="subscription", milestones=named, period_hours=period_hours)

    def check(self) -> None:
        """Raises `MilestonesDoNotFit`, `PeriodsDoNotFit`."""
        is_subscription = self.settlement_type == "subscription"
        if is_subscription != (self.period_hours is not None) or (is_subscription and len(self.milestones) < 2):
            raise PeriodsDoNotFit
        names = {milestone.name for milestone in self.milestones}
        wanted = range(1, 21) if self.settlement_type in PAID_IN_PARTS else range(1)
        if len(self.milestones) not in wanted or len(names) != len(self.milestones):
            raise MilestonesDoNotFit

    def require_worth(self, price_units: int) -> None:
        """Raise unless each part of a price is worth something. Raises `MilestonesDoNotFit`, `PeriodsDoNotFit`."""
        if self.milestones and not all(split(price_units, [one.share for one in self.milestones])):
            raise MilestonesDoNotFit if self.period_hours is None else PeriodsDoNotFit


class TradeFilter(Struct, frozen=True, kw_only=True):
    """Which of a list are wanted, from the newest on."""

    state: str | None = None
    trade_type: str | None = None
    buyer: str | None = None
    seller: str | None = None
    agent: str | None = None
    request: str | None = None
    after: tuple[datetime, str] | None = None
    limit: int = 50
