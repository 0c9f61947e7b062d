"""The face of marketplace: all that the other modules may know."""

from datetime import datetime
from typing import Annotated, Protocol

from msgspec import Struct

from aitbc.kernel.primitives.errors import NotFound
from aitbc.kernel.primitives.json_schema import one_of

SELLS = ("work", "device")
"""What an offer can be for: work of a kind, or the time of a miner's GPUs."""
SOURCES = ("claimed", "measured", "attested")
"""How a fact is known: by what the miner says, by what was measured here, or by what somebody trusted signed."""
OFFER_STATES = ("open", "booked", "expired", "withdrawn")
ORIGINS = ("owner", "rule")


class MarketFact(Struct, frozen=True, kw_only=True):
    """Something that is known of what is for sale, with how and as of when."""

    name: str
    """What it is about. For example `vram_mib`."""
    value: str | int
    """What is known. For example `81559`."""
    source: Annotated[str, one_of(SOURCES)]
    """`claimed` by the miner itself, `measured` here, or `attested` by somebody trusted."""
    as_of: datetime
    """When it was last so."""


class MarketPricing(Struct, frozen=True, kw_only=True):
    """How a price follows the use of its owner's miners: the floor while none is busy, the ceiling when all are."""

    floor: str
    """The least, in AITBC. For example `0.5`."""
    ceiling: str
    """The most, in AITBC. For example `1.2`."""


class MarketOffer(Struct, frozen=True, kw_only=True):
    """Something for sale: work of a kind by the unit, or the time of GPUs by the hour."""

    id: str
    """The offer. For example `offer_01k0000000000000000000000a`."""
    version: int
    """Counts its changes, from 1; a change names the version that it was made of. For example `3`."""
    account: str
    """Whose it is. For example `acct_01k0000000000000000000000b`."""
    miner: str
    """The miner that it is about. For example `mnr_01k0000000000000000000000a`."""
    sells: Annotated[str, one_of(SELLS)]
    """`work`, or a `device` for a time."""
    kind: str | None
    """Of work, its kind. For example `chat`."""
    model: str | None
    """Of work, the model; null for each that the miner serves and no other offer names. For example `llama-3-8b`."""
    device: int | None
    """Of a device, its index in the miner; null for the miner as a whole. For example `0`."""
    price: str
    """In AITBC: of work for one metered unit, of a device for one GPU and one hour. For example `0.8`."""
    unit: str | None
    """What the price is for: an `hour` of a device, or what work is metered in; null for a minute after an offer of
    work was made. For example `token`."""
    price_hour: str | None
    """What an hour of it costs, in AITBC, so that work and devices can be compared: of work, one slot of its miner at
    the median speed of its paid jobs in seven days; null for fewer than three. For example `2.4`."""
    pricing: MarketPricing | None
    """How the price follows the use of the owner's miners; null for a price that only its owner changes."""
    capacity: int
    """Of devices, how many there are; of work, how many jobs at once. For example `1`."""
    available: int
    """How many of them can be had now. For example `1`."""
    min_seconds: int
    """Of a device, the shortest time that it is rented for, in seconds. For example `600`."""
    max_seconds: int
    """Of a device, the longest time that it is rented for, in seconds. For example `86400`."""
    interruptible: bool
    """Whether its owner may end a rental early, after notice."""
    note: str
    """What its owner says of it; may be empty. For example `Quiet at night.`."""
    state: Annotated[str, one_of(OFFER_STATES)]
    """`open`, `booked` while nothing is left, `expired` or `withdrawn`."""
    origin: Annotated[str, one_of(ORIGINS)]
    """Whether its `owner` made it, or a `rule` of the owner's."""
    verified: bool
    """Whether its hardware was measured here or attested, and is not only claimed."""
    rating: float | None
    """What payers of the miner's work say of it, 1 to 5, shrunk to 3 while few do; null before the first. For example
    `4.667`."""
    ratings: int
    """How many of them have said something. For example `50`."""
    facts: tuple[MarketFact, ...]
    """What is known of the miner, each with its source and its age."""
    created_at: datetime
    """When it was made."""
    changed_at: datetime
    """When its price or its conditions last changed."""
    valid_until: datetime
    """Until when it can be taken."""


class MarketOfferNotFound(NotFound):
    """There is no such offer on the market."""

    code = "market_offer_not_found"


class MarketplaceApi(Protocol):
    """What marketplace does for other modules."""

    async def offer(self, offer: str) -> MarketOffer:
        """One offer, whoever made it. Raises `MarketOfferNotFound`."""
        ...
