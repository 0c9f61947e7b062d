"""What the older coordinator answered of the marketplace."""

from typing import Annotated, Literal

from litestar import Controller, Response, get, post
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.legacy.amounts import Amount
from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.legacy.paging import Limit, Offset, Word
from aitbc.kernel.primitives.text import Name
from aitbc.modules.marketplace.legacy.caller import READ, WRITE_ONCE, Marketplace
from aitbc.modules.marketplace.legacy.offers import BidStatus, OfferStatus, bids_of, figures_of, offers_of
from aitbc.modules.marketplace.legacy.shapes import (
    BidBody,
    LegacyAnalytics,
    LegacyBid,
    LegacyOffer,
    OfferBody,
    bid_view,
    item_view,
    market_view,
)
from aitbc.modules.marketplace.service.commands import OfferFilter

Gigabytes = Annotated[int, Meta(ge=0, le=100_000)]
Range = Literal["daily", "weekly", "monthly", "1h", "24h", "1d", "7d", "30d"]
READ_MAX = 500
"""How many rows are looked through for a page that is filtered further here."""


class CoordinatorOfferBody(OfferBody, frozen=True, kw_only=True):
    """Something to be sold, by a client that names its miner or its GPU and no seller."""

    miner_id: Name | None = None
    gpu_id: Name | None = None


class MarketplaceStats(Struct, frozen=True, kw_only=True):
    """What is for sale now."""

    totalOffers: int  # noqa: N815 - the wire's names
    openCapacity: int  # noqa: N815
    averagePrice: Amount  # noqa: N815
    activeBids: int  # noqa: N815
    """Of the caller's."""


class BidSent(Struct, frozen=True, kw_only=True):
    """A bid that was taken."""

    id: str


class CoordinatorMarketplace(Controller):
    """Offers and bids, as the older coordinator had them."""

    path = "/v1/marketplace"

    @get("/offers", opt=READ)
    async def offers(
        self,
        marketplace: Marketplace,
        who: Who,
        wanted: OfferStatus = None,
        gpu_model: Word = None,
        region: Word = None,
        price_max: FromQuery[Amount | None] = None,
        memory_min: FromQuery[Gigabytes | None] = None,
        limit: FromQuery[Limit] = 100,
        offset: FromQuery[Offset] = 0,
    ) -> list[LegacyOffer]:
        """List everybody's items and the offers of miners, the newest first."""
        found = [
            one
            for one in await offers_of(marketplace, wanted, region, gpu_model, READ_MAX)
            if price_max is None or one.price <= price_max
            if memory_min is None or (one.gpu_memory_gb or 0) >= memory_min
        ]
        return found[offset : offset + limit]

    @post("/offers", status_code=201, opt=WRITE_ONCE)
    async def sell(
        self, marketplace: Marketplace, who: Who, once: Once, data: JSONBody[CoordinatorOfferBody]
    ) -> LegacyOffer:
        """Put an item on sale."""
        return item_view(await marketplace.market_items.put(who, data.row(who, data.miner_id or data.gpu_id), once))

    @get("/stats", opt=READ)
    async def stats(self, marketplace: Marketplace, who: Who) -> MarketplaceStats:
        """What is for sale now, and what the caller bids."""
        found = await offers_of(marketplace, "open", None, None, READ_MAX)
        waiting = await bids_of(marketplace, who, "pending", None, READ_MAX)
        prices = [one.price for one in found]
        return MarketplaceStats(
            totalOffers=len(found),
            openCapacity=sum(one.capacity for one in found),
            averagePrice=round(sum(prices) / len(prices), 4) if prices else 0.0,
            activeBids=len(waiting),
        )

    @get("/miner-offers", opt=READ)
    async def miner_offers(
        self, marketplace: Marketplace, who: Who, region: Word = None, limit: FromQuery[Limit] = 100
    ) -> list[LegacyOffer]:
        """List the open offers of miners, the newest first."""
        found = [
            market_view(one) for one in await marketplace.market_offers.page(OfferFilter(state="open", limit=READ_MAX))
        ]
        return [one for one in found if region in (None, one.region)][:limit]

    @post("/bids", status_code=202, opt=WRITE_ONCE)
    async def bid(self, marketplace: Marketplace, who: Who, once: Once, data: JSONBody[BidBody]) -> Response[BidSent]:
        """Say what one would pay; nothing is set aside."""
        made = await marketplace.market_bids.place(who, data.row(who), once)
        return Response(BidSent(id=made.name or made.id), status_code=202)

    @get("/bids", opt=READ)
    async def bids(
        self,
        marketplace: Marketplace,
        who: Who,
        wanted: BidStatus = None,
        provider: Word = None,
        limit: FromQuery[Limit] = 100,
        offset: FromQuery[Offset] = 0,
    ) -> list[LegacyBid]:
        """List the caller's bids and orders, the newest first."""
        return (await bids_of(marketplace, who, wanted, provider, offset + limit))[offset:]

    @get("/bids/{bid:str}", opt=READ)
    async def one_bid(self, marketplace: Marketplace, who: Who, bid: FromPath[str]) -> LegacyBid:
        """Read a bid or an order of the caller's."""
        return bid_view(await marketplace.market_bids.one(who, bid))


class CoordinatorAnalytics(Controller):
    """What was sold, for clients that ask for it by a range of time."""

    path = "/analytics/marketplace"

    @get("/", opt=READ)
    async def analytics(self, marketplace: Marketplace, time_range: FromQuery[Range] = "daily") -> LegacyAnalytics:
        """What happened in the last day, week or month, counted from the rows."""
        return await figures_of(marketplace, time_range)
