"""The HTTP of bids for the time of miners, and of requests that owners answer."""

from datetime import timedelta
from typing import Annotated, Literal

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.money import InvalidAmount, parse
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.kernel.primitives.text import Name, Text
from aitbc.modules.marketplace.api import MarketOfferNotFound
from aitbc.modules.marketplace.models.bid_views import MarketBid
from aitbc.modules.marketplace.models.bids import QUANTITY_MAX
from aitbc.modules.marketplace.models.search.values import SearchInvalid
from aitbc.modules.marketplace.routes.bodies import Amount, Moment, OfferId, Seconds
from aitbc.modules.marketplace.service.bids.bids import (
    AskNotFitting,
    BidsFilter,
    LimitBidNotFound,
    LimitBidNotOpen,
    MarketBids,
    PlaceBid,
    TooManyLimitBids,
)
from aitbc.modules.marketplace.service.commands import MarketOfferNotOpen
from aitbc.modules.trading.api import InsufficientFunds

Who = NamedDependency[Principal]
Once = NamedDependency[IdempotencyKey]
StateName = Literal["placing", "open", "filled", "canceled", "expired"]
InState = Annotated[StateName | None, QueryParameter(name="state")]
Quantity = Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]
PAGES, BOOK = "market_bids", "market_book"
RESTS = timedelta(days=7)
"""How long a bid rests that does not say."""
PLACES: dict[str, object] = {
    "permission": "market:write",
    "idempotency": "required",
    "errors": (InvalidAmount, AmountOverflow, SearchInvalid, TooManyLimitBids, InsufficientFunds),
}


class PlaceMarketBid(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What you would give for the time of miners that fit."""

    filter: Text = ""
    """What the miners must be like, in the words of a search. For example `gpu = H100 and verified = true`."""
    duration_seconds: Seconds
    """For how long each is wanted, in seconds. For example `10800`."""
    price_hour: Amount
    """The most for an hour of one miner. For example `0.9`."""
    quantity: Quantity = 1
    """For how many miners it is. For example `2`."""
    lasts: Literal["gtc", "ioc", "fok"] = "gtc"
    """`gtc`: what is left rests; `ioc`: what is left is canceled at once; `fok`: all of it at once, or nothing."""
    post_only: bool = False
    """Refuse it where it would take an offer at once."""
    valid_until: Moment | None = None
    """Until when it rests, up to 30 days; left out, for 7."""
    label: Name | None = None
    """What it is for, in your words. For example `evaluation`."""

    def command(self) -> PlaceBid:
        """As the service takes it. Raises `InvalidAmount`."""
        return PlaceBid(
            filter=self.filter,
            seconds=self.duration_seconds,
            limit_units=parse(self.price_hour),
            quantity=self.quantity,
            lasts=self.lasts,
            post_only=self.post_only,
            valid_until=self.valid_until or now() + RESTS,
            label=self.label,
        )


class RequestMarketAsks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What you ask owners of miners for, until when."""

    filter: Text = ""
    """What the miners must be like, in the words of a search. For example `gpu = H100 and verified = true`."""
    duration_seconds: Seconds
    """For how long each is wanted, in seconds. For example `10800`."""
    price_hour: Amount
    """The most for an hour of one miner. For example `0.9`."""
    quantity: Quantity = 1
    """For how many miners it is. For example `1`."""
    deadline: Moment
    """When the cheapest is taken, within 30 days."""
    label: Name | None = None
    """What it is for, in your words. For example `evaluation`."""

    def command(self) -> PlaceBid:
        """As the service takes it. Raises `InvalidAmount`."""
        return PlaceBid(
            filter=self.filter,
            seconds=self.duration_seconds,
            limit_units=parse(self.price_hour),
            quantity=self.quantity,
            valid_until=self.deadline,
            label=self.label,
            is_request=True,
        )


class AskForRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What you ask for a request."""

    offer: OfferId
    """An offer of a device of yours that fits. For example `offer_01k0000000000000000000000a`."""
    price_hour: Amount
    """For an hour, whatever the offer itself asks. For example `0.7`."""


def placed(made: MarketBid) -> Response[MarketBid]:
    """The answer to a bid that was placed."""
    return Response(made, status_code=201, headers={"location": f"/api/v1/marketplace/bids/{made.id}"})


class MarketBidController(Controller):
    """What people would give for the time of miners."""

    path = "/bids"
    tags = ("market",)

    @post("/", operation_id="place_market_bid", summary="Bid for the time of miners", opt=PLACES)
    async def place(
        self, limit_bids: NamedDependency[MarketBids], who: Who, once: Once, data: JSONBody[PlaceMarketBid]
    ) -> Response[MarketBid]:
        """Take the cheapest offers that fit, each at its own price, up to a limit; what is left may rest.

        The first slice of each miner is held at the limit. A resting bid gets an offer that comes later at the price
        that the bid names: those that name more come first, of equal ones the older. What it gets are bookings.
        """
        return placed(await limit_bids.place(who, data.command(), once))

    @get(
        "/",
        operation_id="list_market_bids",
        summary="List your bids",
        opt={"permission": "market:read", "errors": (InvalidCursor,)},
    )
    async def mine(
        self,
        limit_bids: NamedDependency[MarketBids],
        who: Who,
        in_state: InState = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[MarketBid]:
        """List the caller's own bids and requests from the newest on, those that are over too."""
        bound = (in_state or "",)
        wanted = BidsFilter(
            account=who.account, state=in_state, after=after_id(PAGES, cursor, "mbid", bound_to=bound), limit=limit + 1
        )
        found = await limit_bids.page(who, wanted)
        return Page.of(PAGES, found, limit, lambda one: one.id, bound_to=bound)

    @get(
        "/{market_bid:str}",
        operation_id="get_market_bid",
        summary="Get a bid",
        opt={"permission": "market:read", "errors": (LimitBidNotFound,)},
    )
    async def one(self, limit_bids: NamedDependency[MarketBids], who: Who, market_bid: FromPath[str]) -> MarketBid:
        """Read a bid of the caller's, or one that rests: of others' nobody sees whose it is."""
        return await limit_bids.get(who, market_bid)

    @post(
        "/{market_bid:str}/cancel",
        status_code=200,
        operation_id="cancel_market_bid",
        summary="Cancel a bid",
        opt={"permission": "market:write", "idempotency": "natural", "errors": (LimitBidNotFound,)},
    )
    async def cancel(self, limit_bids: NamedDependency[MarketBids], who: Who, market_bid: FromPath[str]) -> MarketBid:
        """Take back what is left of a bid of the caller's: what is held for it returns. One that is over stays."""
        return await limit_bids.cancel(who, market_bid)

    @post(
        "/{market_bid:str}/ask",
        status_code=200,
        operation_id="ask_for_market_request",
        summary="Answer a request",
        opt={
            "permission": "market:write",
            "idempotency": "natural",
            "errors": (
                *(InvalidAmount, AmountOverflow, LimitBidNotFound, LimitBidNotOpen),
                *(MarketOfferNotFound, MarketOfferNotOpen, AskNotFitting),
            ),
        },
    )
    async def ask(
        self,
        limit_bids: NamedDependency[MarketBids],
        who: Who,
        market_bid: FromPath[str],
        data: JSONBody[AskForRequest],
    ) -> MarketBid:
        """Ask a price for a request of somebody's, with an offer of the caller's; of one offer the newest holds.

        At the deadline the cheapest that can still be had are taken, of equal ones the older, each at what it asks.
        """
        return await limit_bids.ask(who, market_bid, data.offer, parse(data.price_hour))


class MarketRequestController(Controller):
    """What people ask owners of miners for."""

    path = "/requests"
    tags = ("market",)

    @post("/", operation_id="request_market_asks", summary="Request asks of owners", opt=PLACES)
    async def request(
        self, limit_bids: NamedDependency[MarketBids], who: Who, once: Once, data: JSONBody[RequestMarketAsks]
    ) -> Response[MarketBid]:
        """Ask owners for prices until a deadline; then the cheapest is booked. Its money is held as a bid's is."""
        return placed(await limit_bids.place(who, data.command(), once))


class MarketBookController(Controller):
    """What rests."""

    path = "/book"
    tags = ("market",)

    @get(
        "/",
        operation_id="list_market_book",
        summary="List what people bid",
        opt={"permission": "market:read", "errors": (InvalidCursor,)},
    )
    async def book(
        self,
        limit_bids: NamedDependency[MarketBids],
        who: Who,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[MarketBid]:
        """List everybody's bids and requests that rest, from the newest on: of others' nobody sees whose they are."""
        wanted = BidsFilter(state="open", after=after_id(BOOK, cursor, "mbid"), limit=limit + 1)
        found = await limit_bids.page(who, wanted)
        return Page.of(BOOK, found, limit, lambda one: one.id)
