"""What callers see of trades."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Struct

from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.text import Name
from aitbc.modules.trading.models.trades.life import PaymentState, TradeState
from aitbc.modules.trading.models.trades.values import SERVICE_LEVELS, SETTLEMENT_TYPES, TRADE_TYPES, SpecValue

TypeName = Annotated[str, one_of(TRADE_TYPES)]
LevelName = Annotated[str, one_of(SERVICE_LEVELS)]
SettlementName = Annotated[str, one_of(SETTLEMENT_TYPES)]
StateName = Annotated[str, one_of(tuple(str(state) for state in TradeState))]
PaymentStateName = Annotated[str, one_of(tuple(str(state) for state in PaymentState))]


class TradeOffer(Struct, frozen=True, kw_only=True):
    """What a seller has for sale."""

    id: str
    """The offer. For example `toff_01k0000000000000000000000a`."""
    seller: str
    """Whose it is. For example `acct_01k0000000000000000000000b`."""
    trade_type: TypeName
    """What is sold. For example `compute_resources`."""
    title: str
    """In a few words. For example `An H100 for a night`."""
    description: str
    """What else there is to say; may be empty. For example `Quiet at night.`."""
    price: str
    """For one agreement, in AITBC; of an offer of the market, for an hour or, of work, for one metered unit.
    For example `12.5`."""
    specifications: dict[str, SpecValue]
    """What it is like, by name. For example `{"vram_gb": 80}`."""
    regions: tuple[str, ...]
    """Where it is; may be empty. For example `["eu-central"]`."""
    service_level: LevelName
    """How well it is looked after. For example `standard`."""
    capacity: int
    """How many agreements it is good for. For example `4`."""
    available: int
    """How many of them are left. For example `3`."""
    starts_at: datetime | None
    """From when it can be had; null for any time."""
    ends_at: datetime | None
    """Until when it can be had; null for any time."""
    state: Annotated[str, one_of(("open", "closed"))]
    """`open` or `closed`."""
    created_at: datetime
    """When it was made."""
    valid_until: datetime
    """Until when it can be matched and taken."""
    market_offer: str | None = None
    """The offer of the market that it stands for; null for one that its seller made here.
    For example `offer_01k0000000000000000000000a`."""


class TradeWork(Struct, frozen=True, kw_only=True):
    """The jobs that a request is for."""

    job_kind: str
    """The kind of work. For example `chat`."""
    model: str | None
    """The model that an offer must be for; null for offers for any. For example `llama-3-8b`."""
    units: int
    """How many metered units one job may have at most. For example `2000`."""
    jobs: int
    """How many jobs they are. For example `3`."""


class TradeRequest(Struct, frozen=True, kw_only=True):
    """What a buyer looks for."""

    id: str
    """The request. For example `treq_01k0000000000000000000000a`."""
    buyer: str
    """Who asks. For example `acct_01k0000000000000000000000a`."""
    agent: str | None = None
    """What a client of the legacy dialect calls the one who asks. For example `agent_7`."""
    trade_type: TypeName
    """What is wanted. For example `compute_resources`."""
    title: str
    """In a few words. For example `A night of training`."""
    description: str
    """What else there is to say; may be empty. For example `Four epochs.`."""
    specifications: dict[str, SpecValue]
    """What it must be like, by name. For example `{"vram_gb": 80}`."""
    budget_min: str
    """The least that it may cost, in AITBC. For example `5`."""
    budget_max: str | None
    """The most that it may cost, in AITBC; null without a limit. For example `20`."""
    starts_at: datetime | None
    """From when it is wanted; null for any time."""
    ends_at: datetime | None
    """Until when it is wanted; null for any time."""
    preferred_regions: tuple[str, ...]
    """Where it should be. For example `["eu-central"]`."""
    excluded_regions: tuple[str, ...]
    """Where it must not be. For example `["us-east"]`."""
    service_level: LevelName
    """How well it must be looked after. For example `standard`."""
    urgency: Annotated[str, one_of(("low", "normal", "high", "urgent"))]
    """How soon, in a word. For example `normal`."""
    negotiable: bool
    """Whether its price may be negotiated."""
    state: StateName
    """Where it is. For example `matching`."""
    created_at: datetime
    """When it was made."""
    expires_at: datetime
    """Until when something may be agreed on."""
    ended_at: datetime | None
    """When it ended; null before."""
    work: TradeWork | None = None
    """The jobs that are placed once something is agreed on; null of a request for something else."""


class MatchParts(Struct, frozen=True, kw_only=True):
    """The seven sub-scores of a match, 0 to 100 each."""

    price: float
    """The nearer to the middle of the budget, the more; 0 outside of it. Weighs 25 %. For example `80`."""
    specifications: float
    """How far the offer has what is wanted. Weighs 20 %. For example `100`."""
    timing: float
    """How much of the wanted time is offered. Weighs 15 %. For example `80`."""
    reputation: float
    """What others say of the two sides. Weighs 15 %. For example `50`."""
    geography: float
    """How many of the preferred regions are covered. Weighs 10 %. For example `60`."""
    availability: float
    """How much of the offer is left. Weighs 10 %. For example `100`."""
    service_level: float
    """Whether it is looked after as well as wanted. Weighs 5 %. For example `100`."""


class TradeMatch(Struct, frozen=True, kw_only=True):
    """An offer that fits a request."""

    id: str
    """The match. For example `tmat_01k0000000000000000000000a`."""
    request: str
    """The request. For example `treq_01k0000000000000000000000a`."""
    offer: str
    """The offer. For example `toff_01k0000000000000000000000a`."""
    buyer: str
    """Who asks. For example `acct_01k0000000000000000000000a`."""
    seller: str
    """Who offers. For example `acct_01k0000000000000000000000b`."""
    price: str
    """What the offer costs, in AITBC. For example `12.5`."""
    score: float
    """How well it fits, 60 to 100. For example `84.5`."""
    confidence: float
    """The same from 0 to 1. For example `0.845`."""
    parts: MatchParts
    """What the score is made of."""
    state: StateName
    """Where it is. For example `matching`."""
    created_at: datetime
    """When it was found."""
    expires_at: datetime
    """Until when it can be accepted: 24 hours after it was found, or when the request ends."""


class TradeMatchPreview(Struct, frozen=True, kw_only=True):
    """An offer that would be matched."""

    offer: str
    """The offer. For example `toff_01k0000000000000000000000a`."""
    seller: str
    """Whose it is. For example `acct_01k0000000000000000000000b`."""
    title: str
    """What it is, in its seller's words. For example `An H100 for a night`."""
    price: str
    """What it costs, in AITBC. For example `12.5`."""
    score: float
    """How well it fits, 60 to 100. For example `81.25`."""
    parts: MatchParts
    """What the score is made of."""


class TradeMatchPreviews(Struct, frozen=True, kw_only=True):
    """What a request would be matched with now."""

    offers: int
    """How many open offers of its type there are, 1,000 at most. For example `12`."""
    fitting: int
    """How many of them fit well enough. For example `3`."""
    data: tuple[TradeMatchPreview, ...]
    """The ten best, the best first."""


class TradeMatches(Struct, frozen=True, kw_only=True):
    """The matches of a request that can be accepted now, the best first."""

    data: tuple[TradeMatch, ...]
    """Ten at most."""


class Milestone(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of what is agreed on, paid by itself."""

    name: Name
    """What is delivered. For example `first half`."""
    share: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    """Its part of the price, in proportion to the shares of the others. For example `1`."""


class TradeNegotiation(Struct, frozen=True, kw_only=True):
    """Prices that the two sides of a match name in turn."""

    id: str
    """The negotiation. For example `tneg_01k0000000000000000000000a`."""
    request: str
    """The request. For example `treq_01k0000000000000000000000a`."""
    match: str
    """The match. For example `tmat_01k0000000000000000000000a`."""
    buyer: str
    """Who buys. For example `acct_01k0000000000000000000000a`."""
    seller: str
    """Who sells. For example `acct_01k0000000000000000000000b`."""
    strategy: Annotated[str, one_of(("aggressive", "balanced", "cooperative"))]
    """How far the sides come towards each other. For example `balanced`."""
    settlement_type: SettlementName
    """How it will be paid. For example `escrow`."""
    state: Annotated[str, one_of(("active", "accepted", "rejected", "expired"))]
    """`active`, `accepted`, `rejected` or `expired`."""
    round: int
    """How many prices were named. For example `2`."""
    rounds_max: int
    """How many may be named. For example `5`."""
    price: str
    """The price that stands, in AITBC. For example `11.25`."""
    proposed_by: str
    """Who named it; the other side answers. For example `acct_01k0000000000000000000000a`."""
    score: float
    """How near the last two prices were, 0 to 100. For example `62.5`."""
    created_at: datetime
    """When it began."""
    answer_by: datetime
    """When it expires unless the other side answers."""
    ended_at: datetime | None
    """When it ended; null before."""


class TradeAgreement(Struct, frozen=True, kw_only=True):
    """What buyer and seller agreed on."""

    id: str
    """The agreement. For example `tagr_01k0000000000000000000000a`."""
    request: str
    """The request. For example `treq_01k0000000000000000000000a`."""
    match: str
    """The match. For example `tmat_01k0000000000000000000000a`."""
    negotiation: str | None
    """The negotiation that led to it; null where the offer was taken as it was.
    For example `tneg_01k0000000000000000000000a`."""
    buyer: str
    """Who pays. For example `acct_01k0000000000000000000000a`."""
    seller: str
    """Who delivers. For example `acct_01k0000000000000000000000b`."""
    trade_type: TypeName
    """What is sold. For example `compute_resources`."""
    title: str
    """As the request says. For example `A night of training`."""
    price: str
    """What the buyer pays, in AITBC. For example `12.5`."""
    settlement_type: SettlementName
    """How it is paid. For example `escrow`."""
    milestones: tuple[Milestone, ...]
    """What is paid one by one: milestones, or the periods of a subscription."""
    period_hours: int | None
    """For `subscription`: how long a period is; null otherwise. For example `720`."""
    state: StateName
    """Where it is. For example `settling`."""
    signed_at: datetime
    """When both sides had agreed."""
    settle_by: datetime
    """When it is cancelled unless the buyer began to settle it, or its booking or its jobs were placed."""
    ended_at: datetime | None
    """When it ended; null before."""
    market_offer: str | None = None
    """Of a `metered` one, the offer of the market that is booked, or whose work is done; null otherwise.
    For example `offer_01k0000000000000000000000a`."""
    booking: str | None = None
    """Its booking; null before the market has placed it. For example `book_01k0000000000000000000000a`."""
    jobs: tuple[str, ...] = ()
    """Of one about work, its jobs; empty before the market has placed them.
    For example `["job_01k0000000000000000000000a"]`."""
    reason: str | None = None
    """Why its booking or its jobs were refused, or how they ended; null before. For example `completed`."""


class TradePayment(Struct, frozen=True, kw_only=True):
    """One payment of a settlement."""

    number: int
    """Which one it is, from 1 on. For example `1`."""
    name: str
    """What it pays. For example `first half`."""
    amount: str
    """How much is set aside, in AITBC. For example `6.25`."""
    hold: str
    """The hold of that money. For example `hold_01k0000000000000000000000a`."""
    state: PaymentStateName
    """Where it is. For example `held`."""
    paid: str
    """Of the amount, what was paid, the fee included, in AITBC. For example `6.25`."""
    fee: str
    """The platform's share of what was paid, in AITBC. For example `0.15625`."""
    delivered_at: datetime | None
    """When the seller said that it is delivered."""
    due_at: datetime | None
    """Refunded then, or where it is delivered or one of a subscription, paid then; null once it ended."""
    ended_at: datetime | None
    """When it was paid or refunded."""


class TradeEvidence(Struct, frozen=True, kw_only=True):
    """What a party said in a dispute."""

    account: str
    """Who said it. For example `acct_01k0000000000000000000000a`."""
    text: str
    """What was said. For example `The logs end after an hour.`."""
    at: datetime
    """When it was said."""


class TradeSettlement(Struct, frozen=True, kw_only=True):
    """How an agreement is paid. When it has ended, fee, net amount and refund add up to the total."""

    id: str
    """The settlement. For example `tset_01k0000000000000000000000a`."""
    agreement: str
    """The agreement. For example `tagr_01k0000000000000000000000a`."""
    buyer: str
    """Who pays. For example `acct_01k0000000000000000000000a`."""
    seller: str
    """Who is paid. For example `acct_01k0000000000000000000000b`."""
    settlement_type: SettlementName
    """How it is paid. For example `escrow`."""
    total: str
    """What was agreed, in AITBC. For example `12.5`."""
    fee_basis_points: int
    """The platform's share of what is paid, in 1/10 000. For example `200`."""
    fee: str
    """That share of what was paid so far, in AITBC. For example `0.25`."""
    net: str
    """What the seller got so far, in AITBC. For example `12.25`."""
    refunded: str
    """What the buyer got back so far, in AITBC. For example `0`."""
    payments: tuple[TradePayment, ...]
    """What it is paid in."""
    state: StateName
    """`settling`, `completed`, or `failed` where nothing was paid. For example `settling`."""
    disputed: bool
    """Whether a dispute is open: nothing is paid or refunded meanwhile."""
    disputed_by: str | None
    """Who raised the dispute. For example `acct_01k0000000000000000000000a`."""
    dispute: str | None
    """Why it is disputed. For example `Only half of it was delivered.`."""
    evidence: tuple[TradeEvidence, ...]
    """What the sides said."""
    decide_by: datetime | None
    """When an open dispute is divided evenly unless the operator decides."""
    resolution: str | None
    """How the dispute was decided. For example `Half was delivered.`."""
    started_at: datetime
    """When the money was set aside."""
    ended_at: datetime | None
    """When its last payment ended."""


class TradeFeedback(Struct, frozen=True, kw_only=True):
    """What one side of a completed trade says of the other."""

    agreement: str
    """The agreement. For example `tagr_01k0000000000000000000000a`."""
    reviewer: str
    """Who says it. For example `acct_01k0000000000000000000000a`."""
    reviewed: str
    """Of whom. For example `acct_01k0000000000000000000000b`."""
    role: Annotated[str, one_of(("buyer", "seller"))]
    """Which side says it: `buyer` or `seller`."""
    rating: int
    """1 to 5. For example `5`."""
    text: str
    """In words; may be empty. For example `As agreed.`."""
    created_at: datetime
    """When it was said."""
