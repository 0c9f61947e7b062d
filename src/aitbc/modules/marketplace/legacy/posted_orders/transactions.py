"""Posted orders at `/v1/transactions` of the older GPU service: one path, five actions, and a list with listed GPUs."""

from typing import Any

from litestar import Controller, get, post
from litestar.params import JSONBody, QueryParams

from aitbc.kernel.legacy.amounts import optional_units_of, units_of
from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.legacy.paging import read_query
from aitbc.kernel.legacy.times import milliseconds_of, optional_milliseconds_of
from aitbc.modules.gpu.api import GpusWanted
from aitbc.modules.marketplace.legacy.caller import Marketplace
from aitbc.modules.marketplace.legacy.posted_orders.shapes import (
    TYPE,
    AcceptBody,
    BidBody,
    CancelBody,
    MatchBody,
    OfferBody,
    Transaction,
    TransactionDone,
    TransactionQuery,
    gpu_transaction,
    name_in,
    order_transaction,
)
from aitbc.modules.marketplace.models.posted_orders import STILL_OPEN, Side
from aitbc.modules.marketplace.service import MarketplaceService
from aitbc.modules.marketplace.service.posted_orders.commands import (
    AcceptBid,
    CancelOrder,
    MatchOrders,
    OrderFilter,
    PlaceOrder,
)

Body = OfferBody | BidBody | AcceptBody | MatchBody | CancelBody
STILL_OPEN_NAMES = frozenset({"active", "available"})
"""What legacy clients call whatever can be had.

Offers, bids and listed GPUs, each of which has a word of its own for it.
"""


class PostedTransactions(Controller):
    """Offers, bids, and what becomes of them."""

    path = "/v1/transactions"

    @post("/", status_code=200, opt={"permission": "miners:manage"})
    async def post_transaction(
        self, marketplace: Marketplace, who: Who, once: Once, data: JSONBody[Body]
    ) -> TransactionDone:
        """Offer, bid, accept, match or cancel, as the action says."""
        match data:
            case OfferBody() | BidBody():
                order = (await marketplace.posted_orders.place(who, _placing(data), once)).id
            case AcceptBody():
                accept = AcceptBid(bid=data.bid_id, node=data.provider_node_id, said_at=data.accepted_at)
                order = (await marketplace.posted_orders.accept(who, accept, once)).id
            case MatchBody():
                order = (await marketplace.posted_orders.match(who, _matching(data), once)).offer
            case CancelBody():
                cancel = CancelOrder(order=data.order_id, node=data.node_id, said_at=data.cancelled_at)
                order = (await marketplace.posted_orders.cancel(who, cancel, once)).id
        return TransactionDone(status="success", transaction_id=order)

    @get("/", opt={"permission": "miners:read"})
    async def list_transactions(self, marketplace: Marketplace, who: Who, query: QueryParams) -> list[Transaction]:
        """List offers, bids and listed GPUs, the newest first."""
        wish = read_query(query, TransactionQuery)
        if wish.transaction_type != TYPE:
            return []
        found = [order_transaction(order) for order in await marketplace.posted_orders.page(who, _wanted(wish))]
        found += await _listed(marketplace, wish)
        return sorted(found, key=lambda one: (one.created_at, one.id), reverse=True)[: wish.limit]


def _placing(data: OfferBody | BidBody) -> PlaceOrder:
    specs = data.specs or {}
    common: dict[str, Any] = {
        "gpu_count": data.gpu_count,
        "duration_ms": milliseconds_of(data.duration_hours),
        "specs": specs,
        "model": name_in(specs, "model"),
        "region": name_in(specs, "region"),
        "island": data.island_id,
        "chain": data.chain_id,
    }
    if isinstance(data, OfferBody):
        return PlaceOrder(
            id=data.offer_id,
            side=Side.OFFER,
            node=data.provider_node_id,
            price_units=units_of(data.price_per_gpu, "/price_per_gpu"),
            total_told=data.total_price,
            description=data.description or "",
            **common,
        )
    return PlaceOrder(
        id=data.bid_id,
        side=Side.BID,
        node=data.bidder_node_id,
        price_units=units_of(data.max_price_per_gpu, "/max_price_per_gpu"),
        total_told=data.max_total_price,
        **common,
    )


def _matching(data: MatchBody) -> MatchOrders:
    return MatchOrders(
        offer=data.offer_id,
        bid=data.bid_id,
        provider_node=data.provider_node_id,
        bidder_node=data.bidder_node_id,
        gpu_count=data.gpu_count,
        price_units=optional_units_of(data.matched_price, "/matched_price"),
        duration_ms=optional_milliseconds_of(data.duration_hours),
        total_told=data.total_price,
        said_at=data.matched_at,
    )


def _wanted(wish: TransactionQuery) -> OrderFilter:
    states = frozenset({wish.status})
    if wish.status in STILL_OPEN_NAMES:
        states = frozenset(STILL_OPEN)
    return OrderFilter(
        id=wish.order_id,
        side=None if wish.action == "all" else Side(wish.action),
        states=None if wish.status == "all" else states,
        island=wish.island_id,
        provider=wish.provider_node_id,
        model=wish.model,
        region=wish.region,
        price_max_units=optional_units_of(wish.price_max, "?price_max"),
        limit=wish.limit,
    )


async def _listed(marketplace: MarketplaceService, wish: TransactionQuery) -> list[Transaction]:
    """The listed GPUs among the offers: they are on no island and no order, and are asked for as the market's whole."""
    if wish.action == "bid" or wish.island_id or wish.order_id or wish.provider_node_id:
        return []
    available = {"all": None, "offline": False} | dict.fromkeys(STILL_OPEN_NAMES, True)
    if wish.status not in available:
        return []
    found = await marketplace.gpu.listed_gpus(
        GpusWanted(
            available=available[wish.status],
            model=wish.model,
            region=wish.region,
            price_max_units=optional_units_of(wish.price_max, "?price_max"),
            limit=wish.limit,
        )
    )
    return [gpu_transaction(one) for one in found]
