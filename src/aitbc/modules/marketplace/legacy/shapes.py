"""Bodies and answers of the older marketplace. Money and hours are numbers, unknown fields are passed over."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.legacy.amounts import Amount, amount_of, units_of
from aitbc.kernel.legacy.errors import invalid
from aitbc.kernel.legacy.times import Hours, milliseconds_of
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.text import Name, Text
from aitbc.modules.marketplace.api import MarketOffer
from aitbc.modules.marketplace.models.items import ItemOrderRow, ItemRow, OrderState
from aitbc.modules.marketplace.service.purchases import Wish

ATTRIBUTES_BYTES_MAX = 16_384
Count = Annotated[int, Meta(ge=0, le=100_000)]
STATUS_OF = {
    OrderState.PENDING: "pending",
    OrderState.PLACED: "pending",
    OrderState.HELD: "accepted",
    OrderState.PAID: "accepted",
    OrderState.REFUSED: "rejected",
    OrderState.CANCELLED: "cancelled",
}
"""What legacy clients call the state of an order."""


class OfferBody(Struct, frozen=True, kw_only=True):
    """Something to be sold. When it was made, and what becomes of it, is not its seller's to say."""

    id: Name | None = None
    provider: Name | None = None
    wallet: Name | None = None
    """What the seller calls itself, where `provider` does not say it."""
    item: Name | None = None
    item_type: Name | None = None
    description: Text | None = None
    capacity: Count = 0
    """How many there are; 0 for one."""
    price: Amount | None = None
    sla: Text | None = None
    status: Literal["open", "active"] | None = None
    attributes: dict[str, Any] | None = None
    gpu_model: Name | None = None
    gpu_memory_gb: Count | None = None
    gpu_count: Count | None = None
    cuda_version: Name | None = None
    price_per_hour: Amount | None = None
    region: Name | None = None

    def row(self, who: Principal, named: str | None) -> ItemRow:
        """As it is kept. Raises `Invalid` without a seller, for a price of too many places, and for long attributes."""
        provider = self.provider or self.wallet or named
        if provider is None:
            raise invalid("/provider", "Expected a name of the seller")
        if self.id is not None and ids.is_id("offer", self.id):
            raise invalid("/id", "Expected an id that is none of ours")
        attributes = msgspec.json.encode(self.attributes or {}).decode()
        if len(attributes) > ATTRIBUTES_BYTES_MAX:
            raise invalid("/attributes", f"Expected at most {ATTRIBUTES_BYTES_MAX} bytes")
        hourly = self.price_per_hour if self.price is None else None
        return ItemRow(
            id=self.id or ids.new_id("item"),
            account=who.account,
            provider=provider,
            item=self.item or self.gpu_model or "offer",
            item_type=self.item_type or ("gpu" if self.gpu_model else "other"),
            description=self.description or "",
            price_units=units_of(self.price or 0, "/price") if hourly is None else units_of(hourly, "/price_per_hour"),
            is_hourly=hourly is not None,
            capacity=max(self.capacity, 1),
            taken=0,
            sla=self.sla or "",
            attributes=attributes,
            gpu_model=self.gpu_model,
            gpu_memory_gb=self.gpu_memory_gb,
            gpu_count=self.gpu_count,
            cuda_version=self.cuda_version,
            region=self.region,
            state="open",
            created_at=now(),
        )


class BidBody(Struct, frozen=True, kw_only=True):
    """What somebody would pay for something."""

    id: Name | None = None
    provider: Name
    """What the bidder calls itself."""
    capacity: Count = 0
    price: Annotated[float, Meta(gt=0, le=1e9)]
    notes: Text | None = None
    status: Literal["pending"] | None = None

    def row(self, who: Principal) -> ItemOrderRow:
        """As it is kept. Raises `Invalid` for a price of too many places."""
        if self.id is not None and ids.is_id("mord", self.id):
            raise invalid("/id", "Expected an id that is none of ours")
        return ItemOrderRow(
            id=ids.new_id("mord"),
            name=self.id,
            account=who.account,
            item=None,
            seller=None,
            provider=self.provider,
            title="",
            capacity=max(self.capacity, 1),
            price_units=units_of(self.price, "/price"),
            notes=self.notes,
            state=OrderState.PENDING,
            transaction=None,
            submitted_at=now(),
        )


class BookBody(Struct, frozen=True, kw_only=True):
    """Somebody buys an item."""

    wallet: Name | None = None
    """What the buyer calls itself."""
    duration_hours: Hours = 1.0
    """For how long, of an item that is priced by the hour."""
    price: Amount | None = None
    """The price that the buyer expects; null for whatever the seller asks."""

    def wish(self, named: str | None) -> Wish:
        """As the service takes it. Raises `Invalid`."""
        return Wish(
            provider=self.wallet or named or "unknown",
            milliseconds=milliseconds_of(self.duration_hours),
            price_units=None if self.price is None else units_of(self.price, "/price"),
        )


class LegacyOffer(Struct, frozen=True, kw_only=True):
    """Something for sale."""

    id: str
    provider: str
    capacity: int
    price: float
    sla: str
    status: str
    created_at: datetime
    attributes: dict[str, Any]
    gpu_model: str | None
    gpu_memory_gb: int | None
    gpu_count: int | None
    cuda_version: str | None
    price_per_hour: float | None
    region: str | None
    model: str
    item: str
    item_type: str
    description: str


class LegacyBid(Struct, frozen=True, kw_only=True):
    """An order or a bid."""

    id: str
    provider: str
    capacity: int
    price: float
    notes: str | None
    status: str
    submitted_at: datetime
    order_type: str
    """`buy` of an item, or a `bid` on nothing in particular."""
    item: str | None


class LegacyOrders(Struct, frozen=True, kw_only=True):
    """Orders and bids, the newest first."""

    orders: tuple[LegacyBid, ...]


class LegacyBooked(Struct, frozen=True, kw_only=True):
    """A purchase."""

    bid_id: str
    offer_id: str
    status: str
    message: str
    price: float
    transaction: str | None
    """The transaction of the ledger that paid; null while it is on its way."""


class LegacyAnalytics(Struct, frozen=True, kw_only=True):
    """What happened in a period, counted from what is stored."""

    period_type: str
    total_offers: int
    total_transactions: int
    total_volume: float
    average_price: float


def item_status(row: ItemRow) -> str:
    """What legacy clients call the state of an item."""
    if row.state != "open":
        return "closed"
    return "booked" if row.taken >= row.capacity else "open"


def item_view(row: ItemRow) -> LegacyOffer:
    """An item, as legacy clients read it."""
    price = amount_of(row.price_units)
    return LegacyOffer(
        id=row.id,
        provider=row.provider,
        capacity=row.capacity - row.taken,
        price=price,
        sla=row.sla,
        status=item_status(row),
        created_at=row.created_at,
        attributes=msgspec.json.decode(row.attributes, type=dict[str, Any]),
        gpu_model=row.gpu_model,
        gpu_memory_gb=row.gpu_memory_gb,
        gpu_count=row.gpu_count,
        cuda_version=row.cuda_version,
        price_per_hour=price if row.is_hourly else None,
        region=row.region,
        model=row.gpu_model or row.item,
        item=row.item,
        item_type=row.item_type,
        description=row.description,
    )


def market_view(offer: MarketOffer) -> LegacyOffer:
    """An offer of a miner's, as legacy clients read it."""
    known = {fact.name: fact.value for fact in offer.facts}
    gpu, memory = known.get("gpu_model"), known.get("vram_mib")
    price = amount_of(money.parse(offer.price))
    return LegacyOffer(
        id=offer.id,
        provider=offer.account,
        capacity=offer.available,
        price=price,
        sla="",
        status={"expired": "closed", "withdrawn": "closed"}.get(offer.state, offer.state),
        created_at=offer.created_at,
        attributes={"miner": offer.miner, "kind": offer.kind, "verified": offer.verified},
        gpu_model=None if gpu is None else str(gpu),
        gpu_memory_gb=memory // 1024 if isinstance(memory, int) else None,
        gpu_count=offer.capacity if offer.sells == "device" else None,
        cuda_version=None,
        price_per_hour=price if offer.sells == "device" else None,
        region=str(known["region"]) if "region" in known else None,
        model=offer.model or str(gpu or offer.kind),
        item=offer.kind or str(gpu or "GPU"),
        item_type=offer.sells,
        description=offer.note,
    )


def bid_view(row: ItemOrderRow) -> LegacyBid:
    """An order or a bid, as legacy clients read it."""
    return LegacyBid(
        id=row.name or row.id,
        provider=row.provider,
        capacity=row.capacity,
        price=amount_of(row.price_units),
        notes=row.notes,
        status=STATUS_OF[OrderState(row.state)],
        submitted_at=row.submitted_at,
        order_type="bid" if row.item is None else "buy",
        item=row.title or None,
    )


def booked_view(row: ItemOrderRow) -> LegacyBooked:
    """A purchase, as legacy clients read it."""
    assert row.item is not None
    said = {"accepted": "It is bought", "pending": "It is being paid", "rejected": "It could not be paid"}
    status = STATUS_OF[OrderState(row.state)]
    return LegacyBooked(
        bid_id=row.id,
        offer_id=row.item,
        status=status,
        message=said[status],
        price=amount_of(row.price_units),
        transaction=row.transaction,
    )
