"""The HTTP of offers, and of the rules that make them."""

from typing import Annotated, Literal

from litestar import Controller, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.money import InvalidAmount
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.gpu.api import MinerNotFound
from aitbc.modules.marketplace.api import MarketOffer, MarketOfferNotFound
from aitbc.modules.marketplace.routes.bodies import ChangeMarketOffer, MakeMarketOffer, SetMarketRule
from aitbc.modules.marketplace.service.commands import (
    MarketOfferBooked,
    MarketOfferChanged,
    MarketOfferExists,
    MarketOfferNotOpen,
    MarketRuleNotFound,
    NotServed,
    OfferFilter,
    TooManyMarketOffers,
)
from aitbc.modules.marketplace.service.offers import Offers
from aitbc.modules.marketplace.service.rules import MarketRule, MarketSync, RuleRemoved, Rules

Who = NamedDependency[Principal]
Once = NamedDependency[IdempotencyKey]
InState = Annotated[Literal["open", "booked", "expired", "withdrawn"] | None, QueryParameter(name="state")]


def changes(*errors: type[Exception]) -> dict[str, object]:
    """The options of a command on the market."""
    return {"permission": "market:write", "idempotency": "required", "errors": errors}


def reads(*errors: type[Exception]) -> dict[str, object]:
    """The options of a look at the market."""
    return {"permission": "market:read", "errors": errors}


class MarketOfferController(Controller):
    """What is for sale."""

    path = "/offers"
    tags = ("market",)

    @post(
        "/",
        operation_id="make_market_offer",
        summary="Offer work or a GPU",
        opt=changes(InvalidAmount, AmountOverflow, MinerNotFound, NotServed, MarketOfferExists, TooManyMarketOffers),
    )
    async def make(
        self, market_offers: NamedDependency[Offers], who: Who, once: Once, data: JSONBody[MakeMarketOffer]
    ) -> MarketOffer:
        """Put something of a miner of the caller's on sale: work of a kind by the unit, or its GPUs by the hour.

        What it is like is taken from what the miner tells; nobody states it here.
        """
        return await market_offers.make(who, data.command(), once)

    @get("/", operation_id="list_market_offers", summary="List your offers", opt=reads(InvalidCursor))
    async def mine(
        self,
        market_offers: NamedDependency[Offers],
        who: Who,
        in_state: InState = None,
        miner: FromQuery[str | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[MarketOffer]:
        """List the caller's own offers from the newest on, those that ended too."""
        bound = (in_state or "", miner or "")
        after = after_id("market_offers", cursor, "offer", bound_to=bound)
        wanted = OfferFilter(account=who.account, miner=miner, state=in_state, after=after, limit=limit + 1)
        found = await market_offers.page(wanted)
        return Page.of("market_offers", found, limit, lambda one: one.id, bound_to=bound)

    @get(
        "/{market_offer:str}",
        operation_id="get_market_offer",
        summary="Get an offer",
        opt=reads(MarketOfferNotFound),
    )
    async def one(self, market_offers: NamedDependency[Offers], market_offer: FromPath[str]) -> MarketOffer:
        """Read an offer, whoever made it."""
        return await market_offers.one(market_offer)

    @post(
        "/{market_offer:str}/change",
        status_code=200,
        operation_id="change_market_offer",
        summary="Change an offer",
        opt=changes(InvalidAmount, AmountOverflow, MarketOfferNotFound, MarketOfferNotOpen, MarketOfferChanged),
    )
    async def change(
        self,
        market_offers: NamedDependency[Offers],
        who: Who,
        once: Once,
        market_offer: FromPath[str],
        data: JSONBody[ChangeMarketOffer],
    ) -> MarketOffer:
        """Change the price or the conditions of an offer of the caller's. What was taken keeps its price."""
        return await market_offers.change(who, market_offer, data.command(), once)

    @post(
        "/{market_offer:str}/withdraw",
        status_code=200,
        operation_id="withdraw_market_offer",
        summary="Withdraw an offer",
        opt=changes(MarketOfferNotFound, MarketOfferBooked, MarketOfferNotOpen),
    )
    async def withdraw(
        self, market_offers: NamedDependency[Offers], who: Who, once: Once, market_offer: FromPath[str]
    ) -> MarketOffer:
        """Take an offer of the caller's off the market; its history stays. Doing it again changes nothing."""
        return await market_offers.withdraw(who, market_offer, once)


class MarketRuleController(Controller):
    """The rule by which an account's online miners are put on sale."""

    path = "/rule"
    tags = ("market",)

    @put(
        "/",
        operation_id="set_market_rule",
        summary="Set your rule",
        opt={"permission": "market:write", "idempotency": "natural", "errors": (InvalidAmount, AmountOverflow)},
    )
    async def set(self, market_rules: NamedDependency[Rules], who: Who, data: JSONBody[SetMarketRule]) -> MarketRule:
        """Set the prices at which the caller's online miners are put on sale, in place of the rule before."""
        return await market_rules.set(who, data.command())

    @get("/", operation_id="get_market_rule", summary="Get your rule", opt=reads(MarketRuleNotFound))
    async def get(self, market_rules: NamedDependency[Rules], who: Who) -> MarketRule:
        """Read the rule of the caller's account."""
        return await market_rules.get(who)

    @delete(
        "/",
        status_code=200,
        operation_id="remove_market_rule",
        summary="Forget your rule",
        opt={"permission": "market:write", "idempotency": "natural"},
    )
    async def remove(self, market_rules: NamedDependency[Rules], who: Who) -> RuleRemoved:
        """Put no more miners on sale by a rule. The offers that it made stay."""
        return await market_rules.remove(who)

    @post(
        "/sync",
        status_code=200,
        operation_id="sync_market_offers",
        summary="Put your online miners on sale",
        opt=changes(MarketRuleNotFound),
    )
    async def sync(self, market_rules: NamedDependency[Rules], who: Who, once: Once) -> MarketSync:
        """Make what the caller's rule says and is lacking, for each of the caller's miners that is online."""
        return await market_rules.sync(who, once)
