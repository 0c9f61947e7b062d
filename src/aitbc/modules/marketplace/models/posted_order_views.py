"""Offers, bids and matches as the service returns them: amounts in minor units, durations in milliseconds."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from aitbc.modules.marketplace.models.posted_orders import PostedMatchRow, PostedOrderRow, Side


class PostedOrder(Struct, frozen=True, kw_only=True):
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


def order_view(row: PostedOrderRow, match: PostedMatchRow | None) -> PostedOrder:
    """An order with its match, if it has one."""
    other = None if match is None else match.bid if row.side == Side.OFFER else match.offer
    return PostedOrder(
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


def match_view(row: PostedMatchRow) -> Match:
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
