"""Offers and bids at `/v1/transactions`: one path that takes two actions, and lists what both made."""

from datetime import datetime
from typing import Literal

from litestar import Controller, get, post
from litestar.params import JSONBody, QueryParams
from msgspec import Struct

from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.legacy.paging import read_query
from aitbc.modules.marketplace.legacy.caller import READ, WRITE_ONCE, Marketplace
from aitbc.modules.marketplace.legacy.offers import bids_of, offers_of
from aitbc.modules.marketplace.legacy.shapes import BidBody, LegacyBid, LegacyOffer, OfferBody

LIMIT = 500


class OfferTransaction(OfferBody, frozen=True, kw_only=True, tag_field="action", tag="offer"):
    """Something to be sold."""

    type: Literal["marketplace"]


class BidTransaction(BidBody, frozen=True, kw_only=True, tag_field="action", tag="bid"):
    """What somebody would pay for something."""

    type: Literal["marketplace"]


class MarketTransactionDone(Struct, frozen=True, kw_only=True):
    """What was made."""

    status: str
    id: str


class MarketTransactionQuery(Struct, frozen=True, kw_only=True):
    """What a list is asked for; a type of transaction is passed over, since there is one."""

    action: str | None = None
    status: str | None = None
    island_id: str | None = None
    """Compared with what sellers and buyers call themselves."""


class MarketTransaction(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An offer or a bid."""

    id: str
    action: str
    provider: str
    capacity: int
    price: float
    status: str
    created_at: datetime | None = None
    submitted_at: datetime | None = None
    gpu_model: str | None = None
    gpu_memory_gb: int | None = None
    gpu_count: int | None = None
    price_per_hour: float | None = None
    region: str | None = None


class MarketTransactions(Controller):
    """Offers and bids, and the list of both."""

    path = "/v1/transactions"

    @post("/", status_code=200, opt=WRITE_ONCE)
    async def make(
        self, marketplace: Marketplace, who: Who, once: Once, data: JSONBody[OfferTransaction | BidTransaction]
    ) -> MarketTransactionDone:
        """Sell something, or say what one would pay."""
        if isinstance(data, OfferTransaction):
            made = (await marketplace.market_items.put(who, data.row(who, None), once)).id
        else:
            bid = await marketplace.market_bids.place(who, data.row(who), once)
            made = bid.name or bid.id
        return MarketTransactionDone(status="success", id=made)

    @get("/", opt=READ)
    async def all(self, marketplace: Marketplace, who: Who, query: QueryParams) -> list[MarketTransaction]:
        """List everybody's offers and the caller's bids, the newest of each first."""
        wish = read_query(query, MarketTransactionQuery)
        found: list[MarketTransaction] = []
        if wish.action in (None, "offer"):
            found += map(_offer, await offers_of(marketplace, None, None, None, LIMIT))
        if wish.action in (None, "bid"):
            found += map(_bid, await bids_of(marketplace, who, None, None, LIMIT))
        return [one for one in found if wish.status in (None, one.status) and wish.island_id in (None, one.provider)]


def _offer(one: LegacyOffer) -> MarketTransaction:
    return MarketTransaction(
        id=one.id,
        action="offer",
        provider=one.provider,
        capacity=one.capacity,
        price=one.price,
        status=one.status,
        created_at=one.created_at,
        gpu_model=one.gpu_model,
        gpu_memory_gb=one.gpu_memory_gb,
        gpu_count=one.gpu_count,
        price_per_hour=one.price_per_hour,
        region=one.region,
    )


def _bid(one: LegacyBid) -> MarketTransaction:
    return MarketTransaction(
        id=one.id,
        action="bid",
        provider=one.provider,
        capacity=one.capacity,
        price=one.price,
        status=one.status,
        submitted_at=one.submitted_at,
    )
