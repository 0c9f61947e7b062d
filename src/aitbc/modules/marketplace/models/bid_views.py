"""Bids and requests as their payers and others see them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Struct

from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.matching import LASTING
from aitbc.modules.marketplace.models.bids import KINDS, REASONS, BidAskRow, BidPartRow, BidRow, BidState, PartState


class MarketTrade(Struct, frozen=True, kw_only=True):
    """What a bid got: a booking of an offer at a price."""

    offer: str
    """The offer. For example `offer_01k0000000000000000000000a`."""
    booking: str
    """The booking that it became. For example `book_01k0000000000000000000000a`."""
    price_hour: str
    """The price of an hour that was agreed, in AITBC. For example `0.8`."""


class MarketAsk(Struct, frozen=True, kw_only=True):
    """What an owner asks for a request."""

    offer: str
    """The offer of a miner. For example `offer_01k0000000000000000000000a`."""
    price_hour: str
    """For an hour, in AITBC. For example `0.7`."""
    asked_at: datetime
    """When it was asked."""


class MarketBid(Struct, frozen=True, kw_only=True):
    """What somebody would give for the time of miners, or asks owners for."""

    id: str
    """The bid. For example `mbid_01k0000000000000000000000a`."""
    kind: Annotated[str, one_of(KINDS)]
    """A limit `bid`, or a `request` that owners answer until its time is over."""
    filter: str
    """What the miners must be like, in the words of a search. For example `gpu = H100 and verified = true`."""
    duration_seconds: int
    """For how long each is wanted, in seconds. For example `10800`."""
    price_hour: str
    """The most for an hour of one miner, in AITBC. For example `0.9`."""
    quantity: int
    """For how many miners it is. For example `2`."""
    filled: int
    """How many of them it got. For example `1`."""
    lasts: Annotated[str, one_of(LASTING)]
    """`gtc`: what is left rests; `ioc`: what is left is canceled at once; `fok`: all of it at once, or nothing."""
    post_only: bool
    """Whether it was to be refused where it would take an offer at once."""
    state: Annotated[str, one_of(tuple(state.value for state in BidState))]
    """`placing` until its money is held, `open`, `filled`, `canceled` or `expired`."""
    reason: Annotated[str, one_of(REASONS)] | None
    """Why it, or what was left of it, ended."""
    held: str
    """What is held for what is left of it, in AITBC. For example `0.075`."""
    valid_until: datetime
    """Until when it rests; of a request, when the cheapest of its asks is taken."""
    created_at: datetime
    """When it was made."""
    ended_at: datetime | None
    """When it was over."""
    account: str | None = None
    """Whose it is; null for others' bids. For example `acct_01k0000000000000000000000a`."""
    label: str | None = None
    """What it is for, in its payer's words; null for others' bids. For example `evaluation`."""
    trades: tuple[MarketTrade, ...] = ()
    """What it got; empty in lists and for others' bids."""
    asks: tuple[MarketAsk, ...] = ()
    """Of a request, what owners ask: all for its payer, and their own for owners; empty in lists."""


def bid_view(
    row: BidRow, parts: Sequence[BidPartRow] = (), asks: Sequence[BidAskRow] = (), *, is_own: bool
) -> MarketBid:
    """A bid as somebody sees it."""
    held = sum(part.amount_units for part in parts if part.state == PartState.HELD)
    return MarketBid(
        id=row.id,
        kind=row.kind,
        filter=row.filter,
        duration_seconds=row.seconds,
        price_hour=money.render(row.limit_units),
        quantity=row.quantity,
        filled=row.filled,
        lasts=row.lasts,
        post_only=row.post_only,
        state=row.state,
        reason=row.reason,
        held=money.render(held),
        valid_until=row.valid_until,
        created_at=row.created_at,
        ended_at=row.ended_at,
        account=row.account if is_own else None,
        label=row.label if is_own else None,
        trades=tuple(
            MarketTrade(offer=part.offer, booking=part.booking, price_hour=money.render(part.price_units))
            for part in parts
            if is_own and part.offer is not None and part.price_units is not None
        ),
        asks=tuple(
            MarketAsk(offer=ask.offer, price_hour=money.render(ask.price_units), asked_at=ask.asked_at) for ask in asks
        ),
    )
