"""What the routes of trades take."""

from datetime import datetime
from typing import Annotated, Any, Literal

from litestar.params import QueryParameter
from msgspec import Meta, Struct

from aitbc.kernel.primitives.money import parse
from aitbc.kernel.primitives.text import Name, Text
from aitbc.modules.trading.models.trades.values import (
    Regions,
    ServiceLevel,
    SettlementType,
    Specifications,
    Strategy,
    TradeType,
    Urgency,
)
from aitbc.modules.trading.models.trades.views import Milestone
from aitbc.modules.trading.models.trades.work import WantedWork
from aitbc.modules.trading.routes.ledger import Amount
from aitbc.modules.trading.service.trades.commands import (
    PeriodsDoNotFit,
    PlaceTradeOffer,
    PlaceTradeRequest,
    TradeTerms,
)

TradeStateName = Literal["open", "matching", "negotiating", "agreed", "settling", "completed", "cancelled", "failed"]
InState = Annotated[TradeStateName | None, QueryParameter(name="state")]
Moment = Annotated[datetime, Meta(tz=True)]
Milestones = Annotated[list[Milestone], Meta(max_length=20)]


class MakeTradeOffer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something for sale."""

    trade_type: TradeType
    """What is sold. For example `compute_resources`."""
    title: Name
    """In a few words. For example `An H100 for a night`."""
    price: Amount
    """For one agreement, in AITBC; it never changes. For example `12.5`."""
    description: Text = ""
    """What else there is to say. For example `Quiet at night.`."""
    specifications: Specifications = {}
    """What it is like, by name: numbers, or lists of words."""
    regions: Regions = []
    """Where it is. For example `["eu-central"]`."""
    service_level: ServiceLevel = "standard"
    """How well it is looked after. For example `standard`."""
    capacity: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    """How many agreements it is good for. For example `4`."""
    starts_at: Moment | None = None
    """From when it can be had; left out, at any time. For example `2030-01-31T12:00:00Z`."""
    ends_at: Moment | None = None
    """Until when it can be had. For example `2030-02-01T12:00:00Z`."""
    valid_until: Moment | None = None
    """Until when it can be taken, a year from now at most; 30 days when left out."""

    def command(self) -> PlaceTradeOffer:
        """As the service takes it. Raises `InvalidAmount`."""
        return PlaceTradeOffer(
            trade_type=self.trade_type,
            title=self.title,
            description=self.description,
            price_units=parse(self.price),
            specifications=self.specifications,
            regions=self.regions,
            service_level=self.service_level,
            capacity=self.capacity,
            starts_at=self.starts_at,
            ends_at=self.ends_at,
            valid_until=self.valid_until,
        )


class MakeTradeWork(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Jobs that are placed once a price is agreed on."""

    job_kind: Name
    """The kind of work. For example `chat`."""
    model: Name | None = None
    """The model that the offer must be for; left out, offers for any. For example `llama-3-8b`."""
    units: Annotated[int, Meta(ge=1, le=1_000_000_000)]
    """How many metered units one job may have at most: what is agreed on is for so many. For example `2000`."""
    inputs: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=20)]
    """What each job is asked, 65,536 bytes in all. For example `[{"text": "Summarise this."}]`."""

    def wanted(self) -> WantedWork:
        """As the service takes it."""
        return WantedWork(
            kind=self.job_kind, model=self.model, units=self.units, inputs=tuple(self.inputs), jobs=len(self.inputs)
        )


class MakeTradeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that is wanted."""

    trade_type: TradeType
    """What is wanted. For example `compute_resources`."""
    title: Name
    """In a few words. For example `A night of training`."""
    description: Text = ""
    """What else there is to say. For example `Four epochs.`."""
    specifications: Specifications = {}
    """What it must be like, by name: numbers, or lists of words."""
    budget_min: Amount = "0"
    """The least that it may cost, in AITBC. For example `5`."""
    budget_max: Amount | None = None
    """The most that it may cost, in AITBC; left out, without a limit. For example `20`."""
    starts_at: Moment | None = None
    """From when it is wanted; left out, at any time. For example `2030-01-31T12:00:00Z`."""
    ends_at: Moment | None = None
    """Until when it is wanted. For example `2030-02-01T12:00:00Z`."""
    preferred_regions: Regions = []
    """Where it should be. For example `["eu-central"]`."""
    excluded_regions: Regions = []
    """Where it must not be. For example `["us-east"]`."""
    service_level: ServiceLevel = "standard"
    """How well it must be looked after. For example `standard`."""
    urgency: Urgency = "normal"
    """How soon, in a word, for sellers to read. For example `normal`."""
    negotiable: bool = True
    """Whether its price may be negotiated."""
    expires_at: Moment | None = None
    """Until when something may be agreed on, 90 days from now at most; 7 days when left out."""
    work: MakeTradeWork | None = None
    """Of `inference_tasks`: the jobs that are placed once something is agreed on; left out, something else."""

    def command(self) -> PlaceTradeRequest:
        """As the service takes it. Raises `InvalidAmount`."""
        return PlaceTradeRequest(
            trade_type=self.trade_type,
            title=self.title,
            description=self.description,
            specifications=self.specifications,
            budget_min_units=parse(self.budget_min, zero=True),
            budget_max_units=None if self.budget_max is None else parse(self.budget_max),
            starts_at=self.starts_at,
            ends_at=self.ends_at,
            preferred_regions=self.preferred_regions,
            excluded_regions=self.excluded_regions,
            service_level=self.service_level,
            urgency=self.urgency,
            negotiable=self.negotiable,
            expires_at=self.expires_at,
            work=None if self.work is None else self.work.wanted(),
        )


class AcceptTradeMatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the agreement will be paid."""

    settlement_type: SettlementType | None = None
    """At once (`immediate`, 1 % fee), on delivery (`escrow`, 2 %), by milestones (`milestone`, 2.5 %), by time
    (`subscription`, 1.5 %) or, of an offer of the market and of no other, by the second of its booking (`metered`);
    left out, by time or milestones where periods or some are named, by its booking, or else on delivery."""
    milestones: Milestones = []
    """For `milestone` only: what is delivered and paid one by one."""
    periods: Annotated[int, Meta(ge=2, le=20)] | None = None
    """For `subscription` only: in how many equal parts the price is paid, each at the end of its period. For example
    `12`."""
    period_hours: Annotated[int, Meta(ge=1, le=8_784)] | None = None
    """For `subscription` only: how long a period is, in hours. For example `720`."""

    def terms(self) -> TradeTerms:
        """As the service takes it. Raises `PeriodsDoNotFit` where only one of a subscription's two figures is named."""
        if (self.periods is None) != (self.period_hours is None):
            raise PeriodsDoNotFit
        if self.periods is not None and self.period_hours is not None:
            if self.milestones or self.settlement_type not in (None, "subscription"):
                raise PeriodsDoNotFit
            return TradeTerms.subscription(self.periods, self.period_hours)
        settlement_type = self.settlement_type or ("milestone" if self.milestones else None)
        return TradeTerms(settlement_type=settlement_type, milestones=tuple(self.milestones))


class BeginTradeNegotiation(AcceptTradeMatch, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first price of a match, and how the agreement would be paid."""

    price: Amount | None = None
    """In AITBC; left out, the mean of the budget's ends and the offer. For example `11.25`."""
    strategy: Strategy = "balanced"
    """How many prices may be named, and how far each side comes towards the other. For example `balanced`."""


class NameTradePrice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another price."""

    price: Amount
    """In AITBC. For example `11.75`."""
    auto_accept: bool = False
    """Whether to accept the price that stands where yours is near enough: a score of 85 or more."""


class WhichTradePayment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which payment of a settlement is meant."""

    payment: Annotated[int, Meta(ge=1, le=20)] = 1
    """Its number. For example `1`."""


class BeginTradeDispute(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a settlement is disputed."""

    reason: Annotated[Text, Meta(min_length=1)]
    """For the other side and the operator. For example `Only half of it was delivered.`."""


class AddTradeEvidence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a side has to say."""

    text: Annotated[Text, Meta(min_length=1)]
    """For the other side and the operator. For example `The logs end after an hour.`."""


class DecideTradeDispute(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a dispute is decided."""

    seller_basis_points: Annotated[int, Meta(ge=0, le=10_000)]
    """The seller's part of each payment that has not ended, in 1/10 000; the rest goes back. For example `5000`."""
    reason: Annotated[Text, Meta(min_length=1)]
    """Why, for both sides. For example `Half was delivered.`."""


class GiveTradeFeedback(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one says of the other side."""

    rating: Annotated[int, Meta(ge=1, le=5)]
    """1 to 5. For example `5`."""
    text: Text = ""
    """In words. For example `As agreed.`."""
