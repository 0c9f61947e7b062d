"""The HTTP of trades before an agreement: offers, requests, matches and negotiations."""

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.money import InvalidAmount, parse
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.trading.models.trades.values import TradeType
from aitbc.modules.trading.models.trades.views import (
    TradeAgreement,
    TradeMatch,
    TradeMatches,
    TradeMatchPreviews,
    TradeNegotiation,
    TradeOffer,
    TradeRequest,
)
from aitbc.modules.trading.routes.positions import moment_and_name
from aitbc.modules.trading.routes.trade_bodies import (
    AcceptTradeMatch,
    BeginTradeNegotiation,
    InState,
    MakeTradeOffer,
    MakeTradeRequest,
    NameTradePrice,
)
from aitbc.modules.trading.service.trades.commands import (
    MilestonesDoNotFit,
    NotYourTurn,
    OutsideBudget,
    PeriodsDoNotFit,
    TooManyTrades,
    TradeConcessionTooSmall,
    TradeFilter,
    TradeMatchNotFound,
    TradeMatchNotOpen,
    TradeNegotiationNotFound,
    TradeNegotiationNotOpen,
    TradeOfferNotFound,
    TradeOfferNotOpen,
    TradeRequestNotFound,
    TradeRequestNotOpen,
)
from aitbc.modules.trading.service.trades.matches import TradeMatcher
from aitbc.modules.trading.service.trades.negotiations import TradeNegotiations
from aitbc.modules.trading.service.trades.offers import TradeOffers
from aitbc.modules.trading.service.trades.requests import TradeRequests

Who = NamedDependency[Principal]
Once = NamedDependency[IdempotencyKey]
LIST = {"permission": "trades:read", "errors": (InvalidCursor,)}


def changes(*errors: type[Exception]) -> dict[str, object]:
    """The options of a command on trades."""
    return {"permission": "trades:write", "idempotency": "required", "errors": errors}


def reads(*errors: type[Exception]) -> dict[str, object]:
    """The options of a look at trades."""
    return {"permission": "trades:read", "errors": errors}


def filters(name: str, state: str | None, trade_type: str | None, limit: int, cursor: str | None) -> TradeFilter:
    """What a list is asked for, one entry more than a page holds. Raises `InvalidCursor`."""
    after = moment_and_name(name, cursor, state or "", trade_type or "")
    return TradeFilter(state=state, trade_type=trade_type, after=after, limit=limit + 1)


class OfferController(Controller):
    """What sellers have for sale."""

    path = "/offers"
    tags = ("trades",)

    @post(
        "/",
        operation_id="make_trade_offer",
        summary="Offer something",
        opt=changes(InvalidAmount, AmountOverflow, TooManyTrades),
    )
    async def make(
        self, trade_offers: NamedDependency[TradeOffers], who: Who, once: Once, data: JSONBody[MakeTradeOffer]
    ) -> TradeOffer:
        """Offer something of the caller's at a price, to whoever asks for the like of it.

        Whoever takes it has an agreement without another word of the seller's.
        """
        return await trade_offers.place(who, data.command(), once)

    @get("/", operation_id="list_trade_offers", summary="List offers", opt=LIST)
    async def offers(
        self,
        trade_offers: NamedDependency[TradeOffers],
        who: Who,
        trade_type: FromQuery[TradeType | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[TradeOffer]:
        """List everybody's offers that can still be taken, from the newest on."""
        found = await trade_offers.page(filters("trade_offers", "open", trade_type, limit, cursor))
        bound = ("open", trade_type or "")
        return Page.of("trade_offers", found, limit, lambda one: (one.created_at, one.id), bound_to=bound)

    @get("/{offer:str}", operation_id="get_trade_offer", summary="Get an offer", opt=reads(TradeOfferNotFound))
    async def one(self, trade_offers: NamedDependency[TradeOffers], offer: FromPath[str]) -> TradeOffer:
        """Read an offer, whoever made it."""
        return await trade_offers.one(offer)

    @post(
        "/{offer:str}/close",
        status_code=200,
        operation_id="close_trade_offer",
        summary="Close an offer",
        opt=changes(TradeOfferNotFound),
    )
    async def close(
        self, trade_offers: NamedDependency[TradeOffers], who: Who, once: Once, offer: FromPath[str]
    ) -> TradeOffer:
        """Sell no more of an offer of the caller's. What is agreed on stays; closing it again changes nothing."""
        return await trade_offers.close(who, offer, once)


class RequestController(Controller):
    """What buyers look for."""

    path = "/requests"
    tags = ("trades",)

    @post(
        "/",
        operation_id="make_trade_request",
        summary="Ask for something",
        opt=changes(InvalidAmount, AmountOverflow, TooManyTrades),
    )
    async def make(
        self, trade_requests: NamedDependency[TradeRequests], who: Who, once: Once, data: JSONBody[MakeTradeRequest]
    ) -> TradeRequest:
        """Say what the caller looks for, within which budget. Nothing is matched yet, and no money is set aside."""
        return await trade_requests.place(who, data.command(), once)

    @post(
        "/preview",
        status_code=200,
        operation_id="preview_trade_matches",
        summary="See what a request would be matched with",
        opt=reads(InvalidAmount, AmountOverflow) | {"idempotency": "natural"},
    )
    async def preview(
        self, trade_matches: NamedDependency[TradeMatcher], who: Who, data: JSONBody[MakeTradeRequest]
    ) -> TradeMatchPreviews:
        """Score the open offers for a request without making it: nothing is kept, and nobody learns of it."""
        return await trade_matches.preview(who, data.command())

    @get("/", operation_id="list_trade_requests", summary="List requests", opt=LIST)
    async def requests(
        self,
        trade_requests: NamedDependency[TradeRequests],
        who: Who,
        in_state: InState = None,
        trade_type: FromQuery[TradeType | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[TradeRequest]:
        """List the caller's requests from the newest on."""
        found = await trade_requests.page(who, filters("trade_requests", in_state, trade_type, limit, cursor))
        bound = (in_state or "", trade_type or "")
        return Page.of("trade_requests", found, limit, lambda one: (one.created_at, one.id), bound_to=bound)

    @get(
        "/{trade_request:str}",
        operation_id="get_trade_request",
        summary="Get a request",
        opt=reads(TradeRequestNotFound),
    )
    async def one(
        self, trade_requests: NamedDependency[TradeRequests], who: Who, trade_request: FromPath[str]
    ) -> TradeRequest:
        """Read a request of the caller's."""
        return await trade_requests.one(who, trade_request)

    @post(
        "/{trade_request:str}/cancel",
        status_code=200,
        operation_id="cancel_trade_request",
        summary="Cancel a request",
        opt=changes(TradeRequestNotFound, TradeRequestNotOpen),
    )
    async def cancel(
        self, trade_requests: NamedDependency[TradeRequests], who: Who, once: Once, trade_request: FromPath[str]
    ) -> TradeRequest:
        """Look no longer: matches and negotiations end with it. Once something is agreed on, cancel the agreement."""
        return await trade_requests.cancel(who, trade_request, once)

    @post(
        "/{trade_request:str}/matches",
        status_code=200,
        operation_id="match_trade_request",
        summary="Match a request",
        opt=changes(TradeRequestNotFound, TradeRequestNotOpen),
    )
    async def match(
        self, trade_matches: NamedDependency[TradeMatcher], who: Who, once: Once, trade_request: FromPath[str]
    ) -> TradeMatches:
        """Find the ten offers that fit best, with a score of 60 or more.

        What was matched before and is still valid keeps its price. Each match is valid for 24 hours.
        """
        return await trade_matches.find(who, trade_request, once)

    @get(
        "/{trade_request:str}/matches",
        operation_id="get_trade_request_matches",
        summary="Get a request's matches",
        opt=reads(TradeRequestNotFound),
    )
    async def matches(
        self, trade_matches: NamedDependency[TradeMatcher], who: Who, trade_request: FromPath[str]
    ) -> TradeMatches:
        """Read the matches of a request of the caller's that can be accepted now, the best first."""
        return await trade_matches.valid(who, trade_request)


class MatchController(Controller):
    """Offers that fit requests."""

    path = "/matches"
    tags = ("trades",)

    @get("/", operation_id="list_trade_matches", summary="List matches", opt=LIST)
    async def matches(
        self,
        trade_matches: NamedDependency[TradeMatcher],
        who: Who,
        in_state: InState = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[TradeMatch]:
        """List the matches in which the caller buys or sells, from the newest on."""
        found = await trade_matches.page(who, filters("trade_matches", in_state, None, limit, cursor))
        bound = (in_state or "", "")
        return Page.of("trade_matches", found, limit, lambda one: (one.created_at, one.id), bound_to=bound)

    @get("/{match:str}", operation_id="get_trade_match", summary="Get a match", opt=reads(TradeMatchNotFound))
    async def one(self, trade_matches: NamedDependency[TradeMatcher], who: Who, match: FromPath[str]) -> TradeMatch:
        """Read a match in which the caller buys or sells."""
        return await trade_matches.one(who, match)

    @post(
        "/{match:str}/accept",
        operation_id="accept_trade_match",
        summary="Accept a match",
        opt=changes(
            *(TradeMatchNotFound, TradeMatchNotOpen, OutsideBudget, TradeOfferNotOpen),
            *(MilestonesDoNotFit, PeriodsDoNotFit),
        ),
    )
    async def accept(
        self,
        trade_matches: NamedDependency[TradeMatcher],
        who: Who,
        once: Once,
        match: FromPath[str],
        data: JSONBody[AcceptTradeMatch],
    ) -> TradeAgreement:
        """Take the offer of a match at its price. A request leads to one agreement at most; its other matches close."""
        return await trade_matches.accept(who, match, data.terms(), once)

    @post(
        "/{match:str}/negotiations",
        operation_id="begin_trade_negotiation",
        summary="Negotiate a match",
        opt=changes(
            InvalidAmount,
            AmountOverflow,
            TradeMatchNotFound,
            TradeMatchNotOpen,
            TradeNegotiationNotOpen,
            MilestonesDoNotFit,
            PeriodsDoNotFit,
        ),
    )
    async def negotiate(
        self,
        trade_negotiations: NamedDependency[TradeNegotiations],
        who: Who,
        once: Once,
        match: FromPath[str],
        data: JSONBody[BeginTradeNegotiation],
    ) -> TradeNegotiation:
        """Name a price for a match; the other side answers within an hour. Either side may begin."""
        price = None if data.price is None else parse(data.price)
        return await trade_negotiations.start(who, match, data.strategy, data.terms(), price, once)


class NegotiationController(Controller):
    """Prices named in turn."""

    path = "/negotiations"
    tags = ("trades",)

    @get("/", operation_id="list_trade_negotiations", summary="List negotiations", opt=LIST)
    async def negotiations(
        self,
        trade_negotiations: NamedDependency[TradeNegotiations],
        who: Who,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[TradeNegotiation]:
        """List the negotiations in which the caller buys or sells, from the newest on."""
        found = await trade_negotiations.page(who, filters("trade_negotiations", None, None, limit, cursor))
        bound = ("", "")
        return Page.of("trade_negotiations", found, limit, lambda one: (one.created_at, one.id), bound_to=bound)

    @get(
        "/{negotiation:str}",
        operation_id="get_trade_negotiation",
        summary="Get a negotiation",
        opt=reads(TradeNegotiationNotFound),
    )
    async def one(
        self, trade_negotiations: NamedDependency[TradeNegotiations], who: Who, negotiation: FromPath[str]
    ) -> TradeNegotiation:
        """Read a negotiation in which the caller buys or sells."""
        return await trade_negotiations.one(who, negotiation)

    @post(
        "/{negotiation:str}/counter",
        status_code=200,
        operation_id="counter_trade_negotiation",
        summary="Name another price",
        opt=changes(
            InvalidAmount,
            AmountOverflow,
            TradeNegotiationNotFound,
            TradeNegotiationNotOpen,
            NotYourTurn,
            TradeConcessionTooSmall,
            TradeMatchNotOpen,
            TradeOfferNotOpen,
            MilestonesDoNotFit,
            PeriodsDoNotFit,
        ),
    )
    async def counter(
        self,
        trade_negotiations: NamedDependency[TradeNegotiations],
        who: Who,
        once: Once,
        negotiation: FromPath[str],
        data: JSONBody[NameTradePrice],
    ) -> TradeNegotiation:
        """Name another price, nearer to the other side's than your last one by what the strategy says."""
        price = parse(data.price)
        return await trade_negotiations.counter(who, negotiation, price, once, auto_accept=data.auto_accept)

    @post(
        "/{negotiation:str}/accept",
        operation_id="accept_trade_negotiation",
        summary="Accept a price",
        opt=changes(
            TradeNegotiationNotFound,
            TradeNegotiationNotOpen,
            NotYourTurn,
            TradeMatchNotOpen,
            TradeOfferNotOpen,
            MilestonesDoNotFit,
            PeriodsDoNotFit,
        ),
    )
    async def accept(
        self, trade_negotiations: NamedDependency[TradeNegotiations], who: Who, once: Once, negotiation: FromPath[str]
    ) -> TradeAgreement:
        """Agree on the price that the other side named; it may lie outside of the request's budget."""
        return await trade_negotiations.accept(who, negotiation, once)

    @post(
        "/{negotiation:str}/reject",
        status_code=200,
        operation_id="reject_trade_negotiation",
        summary="End a negotiation",
        opt=changes(TradeNegotiationNotFound, TradeNegotiationNotOpen),
    )
    async def reject(
        self, trade_negotiations: NamedDependency[TradeNegotiations], who: Who, once: Once, negotiation: FromPath[str]
    ) -> TradeNegotiation:
        """End a negotiation without an agreement. Its match can still be accepted while it is valid."""
        return await trade_negotiations.reject(who, negotiation, once)
