"""Offers, bids, orders and analytics at `/v1/marketplace`."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from litestar import Controller, Request, delete, get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.legacy.amounts import amount_of
from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.legacy.paging import Limit, Word
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.marketplace.legacy.caller import READ, WALLET, WRITE, WRITE_ONCE, Marketplace
from aitbc.modules.marketplace.legacy.shapes import (
    STATUS_OF,
    BidBody,
    BookBody,
    LegacyAnalytics,
    LegacyBid,
    LegacyBooked,
    LegacyOffer,
    LegacyOrders,
    OfferBody,
    bid_view,
    booked_view,
    item_view,
    market_view,
)
from aitbc.modules.marketplace.service import MarketplaceService
from aitbc.modules.marketplace.service.commands import OfferFilter
from aitbc.modules.marketplace.service.items import ItemFilter

PERIODS = {
    "daily": timedelta(days=1),
    "weekly": timedelta(days=7),
    "monthly": timedelta(days=30),
    **{f"{days}d": timedelta(days=days) for days in (1, 7, 30)},
    **{f"{hours}h": timedelta(hours=hours) for hours in (1, 24)},
}
OfferStatus = Annotated[Literal["open", "active", "booked", "reserved", "closed"] | None, QueryParameter(name="status")]
BidStatus = Annotated[Literal["pending", "accepted", "rejected", "cancelled"] | None, QueryParameter(name="status")]
Period = Literal["daily", "weekly", "monthly"]


class MarketplaceController(Controller):
    """What is for sale, and who buys it."""

    path = "/v1/marketplace"

    @get("/offers", opt=READ)
    async def offers(
        self,
        marketplace: Marketplace,
        who: Who,
        wanted: OfferStatus = None,
        region: Word = None,
        gpu_model: Word = None,
        chain_id: Word = None,
        limit: FromQuery[Limit] = 500,
    ) -> list[LegacyOffer]:
        """List everybody's items and the offers of miners, the newest first."""
        return await offers_of(marketplace, wanted, region, gpu_model, limit)

    @get("/offers/{offer:str}", opt=READ)
    async def offer(self, marketplace: Marketplace, offer: FromPath[str]) -> LegacyOffer:
        """Read an item, or an offer of a miner's."""
        if ids.is_id("offer", offer):
            return market_view(await marketplace.market_offers.one(offer))
        return item_view(await marketplace.market_items.one(offer))

    @post("/offers", status_code=200, opt=WRITE_ONCE)
    async def sell(
        self,
        marketplace: Marketplace,
        who: Who,
        once: Once,
        request: Request[Any, Any, Any],
        data: JSONBody[OfferBody],
    ) -> LegacyOffer:
        """Put an item on sale."""
        named = WALLET.find(request.headers, request.query_params)
        return item_view(await marketplace.market_items.put(who, data.row(who, named), once))

    @delete("/offers/{offer:str}", status_code=200, opt=WRITE)
    async def withdraw(self, marketplace: Marketplace, who: Who, offer: FromPath[str]) -> LegacyOffer:
        """Take an item of the caller's off the market."""
        return item_view(await marketplace.market_items.withdraw(who, offer))

    @post("/offers/{offer:str}/book", status_code=200, opt=WRITE_ONCE)
    async def book(
        self, marketplace: Marketplace, who: Who, once: Once, offer: FromPath[str], data: JSONBody[BookBody]
    ) -> LegacyBooked:
        """Buy an item at what its seller asks; it is paid at once."""
        return booked_view(await marketplace.purchases.buy(who, offer, data.wish(None), once))

    @get("/bids", opt=READ)
    async def bids(
        self,
        marketplace: Marketplace,
        who: Who,
        wanted: BidStatus = None,
        provider: Word = None,
        limit: FromQuery[Limit] = 500,
    ) -> list[LegacyBid]:
        """List the caller's bids and orders, the newest first."""
        return await bids_of(marketplace, who, wanted, provider, limit)

    @post("/bids", status_code=200, opt=WRITE_ONCE)
    async def bid(self, marketplace: Marketplace, who: Who, once: Once, data: JSONBody[BidBody]) -> LegacyBid:
        """Say what one would pay; nothing is set aside."""
        return bid_view(await marketplace.market_bids.place(who, data.row(who), once))

    @get("/orders", opt=READ)
    async def orders(
        self, marketplace: Marketplace, who: Who, wallet: Word = None, limit: FromQuery[Limit] = 500
    ) -> LegacyOrders:
        """List the caller's orders and bids, those of one wallet where it is named."""
        return LegacyOrders(orders=tuple(await bids_of(marketplace, who, None, wallet, limit)))

    @delete("/orders/{order:str}", status_code=200, opt=WRITE)
    async def cancel(self, marketplace: Marketplace, who: Who, order: FromPath[str]) -> LegacyBid:
        """Withdraw a bid of the caller's."""
        return bid_view(await marketplace.market_bids.cancel(who, order))

    @get("/analytics", opt=READ)
    async def analytics(self, marketplace: Marketplace, period_type: FromQuery[Period] = "daily") -> LegacyAnalytics:
        """What happened in the last day, week or month, counted from the rows."""
        return await figures_of(marketplace, period_type)


async def figures_of(marketplace: MarketplaceService, period: str) -> LegacyAnalytics:
    """What happened in the last so long, counted from the rows. Raises `KeyError` for a period that nobody knows."""
    found = await marketplace.market_bids.figures(now() - PERIODS[period])
    average = amount_of(round(found.volume_units / found.transactions)) if found.transactions else 0.0
    return LegacyAnalytics(
        period_type=period,
        total_offers=found.offers,
        total_transactions=found.transactions,
        total_volume=amount_of(found.volume_units),
        average_price=average,
    )


async def offers_of(
    marketplace: MarketplaceService, wanted: str | None, region: str | None, gpu_model: str | None, limit: int
) -> list[LegacyOffer]:
    """Items and the offers of miners, the newest first."""
    state = {"active": "open", "closed": "withdrawn", "reserved": "booked"}.get(wanted or "", wanted)
    items = await marketplace.market_items.page(
        ItemFilter(state=state, region=region, gpu_model=gpu_model, limit=limit)
    )
    offers = await marketplace.market_offers.page(OfferFilter(state=state or "open", limit=limit))
    shown = [market_view(one) for one in offers]
    fitting = [one for one in shown if region in (None, one.region) and gpu_model in (None, one.gpu_model)]
    found = [item_view(one) for one in items] + fitting
    return sorted(found, key=lambda one: (one.created_at, one.id), reverse=True)[:limit]


async def bids_of(
    marketplace: MarketplaceService, who: Principal, wanted: str | None, provider: str | None, limit: int
) -> list[LegacyBid]:
    """The caller's orders and bids, the newest first."""
    states = None if wanted is None else [state for state, name in STATUS_OF.items() if name == wanted]
    return [
        bid_view(row) for row in await marketplace.market_bids.page(who, states=states, provider=provider, limit=limit)
    ]
