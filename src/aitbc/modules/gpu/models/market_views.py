"""Offers, bids, matches and listed GPUs as the service tells them: amounts in minor units, durations in milliseconds."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from aitbc.modules.gpu.models.market import GpuReviewRow, ListedGpuRow, MarketMatchRow, MarketOrderRow, Side


class MarketOrder(Struct, frozen=True, kw_only=True):
    """An offer or a bid, and what became of it."""

    id: str
    side: str
    """`offer` or `bid`."""
    account: str
    node: str
    island: str | None
    chain: str | None
    gpu_count: int
    price_units: int
    """Per GPU and hour; of a bid the most that it pays."""
    duration_ms: int
    total_units: int
    model: str | None
    region: str | None
    specs: dict[str, Any]
    description: str
    state: str
    created_at: datetime
    ended_at: datetime | None
    partner_node: str | None
    """Who accepted it, or whom it was matched with."""
    matched_with: str | None
    """The order on the other side of the match."""
    matched_price_units: int | None
    matched_total_units: int | None


class Match(Struct, frozen=True, kw_only=True):
    """An offer and a bid that found each other."""

    offer: str
    bid: str
    gpu_count: int
    price_units: int
    """Per GPU and hour: the offer's."""
    duration_ms: int
    total_units: int
    matched_at: datetime


class ListedGpu(Struct, frozen=True, kw_only=True):
    """A GPU that its owner lists; what is known of it is what the owner says."""

    id: str
    miner_name: str
    model: str
    memory_gb: int | None
    cuda_cores: int | None
    compute_capability: str | None
    region: str | None
    price_units: int
    """For an hour."""
    description: str
    status: str
    """`booked`; else `offline` while the miner that it is in, if the owner has one of that name, takes no work; else
    `available`."""
    reachable: bool
    """Whether that miner takes work; of one that is not known here its owner's word counts."""
    created_at: datetime
    average_rating: float | None
    """None while nobody has said anything."""
    reviews: int


class GpuReview(Struct, frozen=True, kw_only=True):
    """What an account says of a GPU."""

    id: str
    account: str
    rating: int
    comment: str
    created_at: datetime


def order_view(row: MarketOrderRow, match: MarketMatchRow | None) -> MarketOrder:
    """An order with its match, if it has one."""
    other = None if match is None else match.bid if row.side == Side.OFFER else match.offer
    return MarketOrder(
        id=row.id,
        side=row.side,
        account=row.account,
        node=row.node,
        island=row.island,
        chain=row.chain,
        gpu_count=row.gpu_count,
        price_units=row.price_units,
        duration_ms=row.duration_ms,
        total_units=row.total_units,
        model=row.model,
        region=row.region,
        specs=msgspec.json.decode(row.specs, type=dict[str, Any]),
        description=row.description,
        state=row.state,
        created_at=row.created_at,
        ended_at=row.ended_at,
        partner_node=row.partner_node,
        matched_with=other,
        matched_price_units=None if match is None else match.price_units,
        matched_total_units=None if match is None else match.total_units,
    )


def match_view(row: MarketMatchRow) -> Match:
    """A match."""
    return Match(
        offer=row.offer,
        bid=row.bid,
        gpu_count=row.gpu_count,
        price_units=row.price_units,
        duration_ms=row.duration_ms,
        total_units=row.total_units,
        matched_at=row.matched_at,
    )


def gpu_view(row: ListedGpuRow, *, reachable: bool, booked: bool, average: float | None, reviews: int) -> ListedGpu:
    """A listed GPU; `reachable` unless its miner is known and takes no work."""
    return ListedGpu(
        id=row.id,
        miner_name=row.miner_name,
        model=row.model,
        memory_gb=row.memory_gb,
        cuda_cores=row.cuda_cores,
        compute_capability=row.compute_capability,
        region=row.region,
        price_units=row.price_units,
        description=row.description,
        status="booked" if booked else "available" if reachable else "offline",
        reachable=reachable,
        created_at=row.created_at,
        average_rating=None if average is None else round(average, 2),
        reviews=reviews,
    )


def review_view(row: GpuReviewRow) -> GpuReview:
    """A review."""
    return GpuReview(id=row.id, account=row.account, rating=row.rating, comment=row.comment, created_at=row.created_at)
