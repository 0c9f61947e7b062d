"""What older clients can ask of the orders that they post, and what is refused."""

from typing import Any

from msgspec import Struct

from aitbc.kernel.primitives.errors import Conflict, Invalid, NotFound, TooMany
from aitbc.modules.marketplace.models.posted_orders import Side


class OrderNotFound(NotFound):
    """There is no such order on the GPU market, or it is not yours."""

    code = "market_order_not_found"


class OrderNotOpen(Conflict):
    """This order has ended: it was accepted, matched or cancelled before, or has expired."""

    code = "market_order_not_open"


class OrderIdTaken(Conflict):
    """There is an order of this id with other contents; give yours another one."""

    code = "market_order_id_taken"


class OrdersDoNotFit(Conflict):
    """This offer and this bid do not fit each other, or not on these terms."""

    code = "posted_orders_do_not_fit"


class TooManyOrders(TooMany):
    """This account has as many open orders as it may have; cancel some."""

    code = "too_many_market_orders"


class TotalDiffers(Invalid):
    """The total is not the price times the number of GPUs times the hours."""

    code = "market_total_differs"


class PlaceOrder(Struct, frozen=True, kw_only=True):
    """An offer, or a bid."""

    id: str | None
    """None for one of ours."""
    side: Side
    node: str
    island: str | None = None
    chain: str | None = None
    gpu_count: int
    price_units: int
    duration_ms: int
    total_told: float | None = None
    """What its sender reckons; the total is ours."""
    model: str | None = None
    region: str | None = None
    specs: dict[str, Any] = {}
    description: str = ""


class AcceptBid(Struct, frozen=True, kw_only=True):
    """A provider takes a bid as it stands."""

    bid: str
    node: str
    said_at: str | None = None
    """When its sender says that it did: the same again is a repetition, another one is another attempt."""


class CancelOrder(Struct, frozen=True, kw_only=True):
    """Whoever placed an order takes it back."""

    order: str
    node: str | None = None
    said_at: str | None = None


class MatchOrders(Struct, frozen=True, kw_only=True):
    """A party to an offer or a bid brings the two together, at the offer's price.

    Terms that it names must be theirs.
    """

    offer: str
    bid: str
    provider_node: str | None = None
    bidder_node: str | None = None
    gpu_count: int | None = None
    price_units: int | None = None
    duration_ms: int | None = None
    total_told: float | None = None
    said_at: str | None = None


class OrderFilter(Struct, frozen=True, kw_only=True):
    """Which orders are asked for."""

    id: str | None = None
    side: Side | None = None
    states: frozenset[str] | None = None
    """None for all."""
    island: str | None = None
    provider: str | None = None
    """Offers of this node, and bids that it accepted or was matched with."""
    model: str | None = None
    """Part of the model's name, in either case."""
    region: str | None = None
    price_max_units: int | None = None
    limit: int
