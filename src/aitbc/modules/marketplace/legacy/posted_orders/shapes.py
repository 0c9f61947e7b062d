"""Bodies, query and answers of posted orders. Money and hours are numbers, unknown fields are passed over."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from aitbc.kernel.legacy.amounts import Amount, Total, amount_of, optional_amount_of
from aitbc.kernel.legacy.errors import name_of
from aitbc.kernel.legacy.spellings import first_text
from aitbc.kernel.legacy.times import Hours, hours_of
from aitbc.kernel.primitives.text import Name, Text
from aitbc.modules.gpu.api import GpuForRent
from aitbc.modules.marketplace.models.posted_order_views import PostedOrder
from aitbc.modules.marketplace.models.posted_orders import COUNT_MAX, OrderState, Side

TYPE = "gpu_marketplace"
UNKNOWN_MODEL = "Unknown"
"""What the legacy dialect calls a GPU whose name nobody said."""
CLAIMED = "claimed"

Count = Annotated[int, Meta(ge=1, le=COUNT_MAX)]
SaidAt = Annotated[str, Meta(max_length=64)]
Specs = dict[str, Any]
Type = Literal["gpu_marketplace"]


class OfferBody(Struct, frozen=True, kw_only=True, tag_field="action", tag="offer"):
    """A provider offers GPUs; what becomes of the offer, and when it was made, is not its to say."""

    type: Type
    offer_id: Name | None = None
    provider_node_id: Name = "default_miner"
    gpu_count: Count = 1
    price_per_gpu: Amount = 0.0
    """For an hour."""
    duration_hours: Hours = 1.0
    total_price: Total | None = None
    specs: Specs | None = None
    description: Text | None = None
    island_id: Name | None = None
    chain_id: Name | None = None


class BidBody(Struct, frozen=True, kw_only=True, tag_field="action", tag="bid"):
    """A buyer bids for GPUs."""

    type: Type
    bid_id: Name | None = None
    bidder_node_id: Name
    gpu_count: Count
    max_price_per_gpu: Amount
    duration_hours: Hours
    max_total_price: Total | None = None
    specs: Specs | None = None
    island_id: Name | None = None
    chain_id: Name | None = None


class AcceptBody(Struct, frozen=True, kw_only=True, tag_field="action", tag="accept"):
    """A provider takes a bid."""

    type: Type
    bid_id: Name
    provider_node_id: Name
    accepted_at: SaidAt | None = None


class MatchBody(Struct, frozen=True, kw_only=True, tag_field="action", tag="match"):
    """An offer and a bid are brought together."""

    type: Type
    bid_id: Name
    offer_id: Name
    bidder_node_id: Name | None = None
    provider_node_id: Name | None = None
    gpu_count: Count | None = None
    matched_price: Amount | None = None
    duration_hours: Hours | None = None
    total_price: Total | None = None
    matched_at: SaidAt | None = None


class CancelBody(Struct, frozen=True, kw_only=True, tag_field="action", tag="cancel"):
    """Whoever placed an order takes it back."""

    type: Type
    order_id: Name
    node_id: Name | None = None
    cancelled_at: SaidAt | None = None


class TransactionQuery(Struct, frozen=True, kw_only=True):
    """Which transactions a query asks for; anything else in it is passed over."""

    transaction_type: str = TYPE
    action: Literal["offer", "bid", "all"] = "all"
    status: str = "all"
    island_id: str | None = None
    provider_node_id: str | None = None
    order_id: str | None = None
    price_max: Amount | None = None
    region: str | None = None
    model: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000


class TransactionDone(Struct, frozen=True, kw_only=True):
    """It was done; to which order."""

    status: str
    transaction_id: str


class Transaction(Struct, frozen=True, kw_only=True):
    """An offer, a bid or a listed GPU; of the fields that name one side each has its own."""

    id: str
    transaction_id: str
    transaction_type: str
    action: str
    status: str
    offer_id: str | UnsetType = UNSET
    bid_id: str | UnsetType = UNSET
    provider_node_id: str | None
    """Of a bid: who accepted it, or whom it was matched with."""
    bidder_node_id: str | None
    gpu_count: int
    price_per_gpu: float | UnsetType = UNSET
    total_price: float | UnsetType | None = UNSET
    max_price_per_gpu: float | UnsetType = UNSET
    max_total_price: float | UnsetType = UNSET
    duration_hours: float | None
    """None where a GPU is listed for any time."""
    matched_order_id: str | None = None
    matched_price: float | None = None
    """Per GPU and hour."""
    matched_total_price: float | None = None
    specs: Specs
    description: str
    island_id: str | None
    chain_id: str | None
    model: str
    memory_gb: float | None
    price_per_hour: float
    region: str
    miner_id: str | None
    created_at: datetime
    accepted_at: datetime | None = None
    matched_at: datetime | None = None
    cancelled_at: datetime | None = None
    hardware: str = CLAIMED
    """How it is known what the GPU is: by its owner's word in an order, by its miner's driver where it is listed."""


def order_transaction(order: PostedOrder) -> Transaction:
    """An order as a transaction."""
    price, total = amount_of(order.price_units), amount_of(order.total_units)
    offers = order.side == Side.OFFER
    sided: dict[str, Any] = (
        {"offer_id": order.id, "price_per_gpu": price, "total_price": total}
        if offers
        else {"bid_id": order.id, "max_price_per_gpu": price, "max_total_price": total}
    )
    ended = {end: order.ended_at if order.state == end else None for end in OrderState}
    memory = order.specs.get("memory_gb")
    known = isinstance(memory, (int, float)) and not isinstance(memory, bool)
    return Transaction(
        id=order.id,
        transaction_id=order.id,
        transaction_type=TYPE,
        action=order.side,
        status=order.state,
        provider_node_id=order.node if offers else order.partner_node,
        bidder_node_id=order.partner_node if offers else order.node,
        gpu_count=order.gpu_count,
        duration_hours=hours_of(order.duration_ms),
        matched_order_id=order.matched_with,
        matched_price=optional_amount_of(order.matched_price_units),
        matched_total_price=optional_amount_of(order.matched_total_units),
        specs=order.specs,
        description=order.description,
        island_id=order.island,
        chain_id=order.chain,
        model=order.model or UNKNOWN_MODEL,
        memory_gb=memory if known else None,
        price_per_hour=price,
        region=order.region or "",
        miner_id=order.node if offers else None,
        created_at=order.created_at,
        accepted_at=ended[OrderState.ACCEPTED],
        matched_at=ended[OrderState.MATCHED],
        cancelled_at=ended[OrderState.CANCELLED],
        **sided,
    )


def gpu_transaction(gpu: GpuForRent) -> Transaction:
    """A listed GPU, which the legacy dialect shows among the offers."""
    price = amount_of(gpu.price_units)
    return Transaction(
        id=gpu.id,
        transaction_id=gpu.id,
        transaction_type=TYPE,
        action=Side.OFFER,
        status=gpu.status,
        offer_id=gpu.id,
        provider_node_id=gpu.miner_name,
        bidder_node_id=None,
        gpu_count=1,
        price_per_gpu=price,
        total_price=None,
        duration_hours=None,
        specs={"model": gpu.model, "memory_gb": gpu.memory_gb, "region": gpu.region},
        description=gpu.description,
        island_id=None,
        chain_id=None,
        model=gpu.model,
        memory_gb=gpu.memory_gb,
        price_per_hour=price,
        region=gpu.region or "",
        miner_id=gpu.miner_name,
        created_at=gpu.created_at,
    )


def name_in(specs: Specs, field: str) -> str | None:
    """A name in the specs; none where the field is no text. Raises `Invalid`."""
    found = first_text(specs, field)
    return None if found is None else name_of(found, f"/specs/{field}")
