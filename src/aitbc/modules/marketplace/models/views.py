"""Offers as everybody sees them: in answers, and in events."""

from datetime import datetime

from aitbc.kernel.primitives import money
from aitbc.modules.marketplace.api import MarketFact, MarketOffer, MarketPricing
from aitbc.modules.marketplace.events import OfferChanged
from aitbc.modules.marketplace.models.tables import OfferRow


def state_of(row: OfferRow, at: datetime) -> str:
    """Where an offer is: one that is open may have run out, or have nothing left."""
    if row.state != "open":
        return row.state
    if row.valid_until <= at:
        return "expired"
    return "booked" if row.taken >= row.capacity else "open"


def hour_units(row: OfferRow) -> int | None:
    """What an hour costs: of a device its price, of work what its miner makes in an hour; none where nobody knows."""
    return None if row.units_hour is None else min(money.LARGEST, row.price_units * row.units_hour)


def offer_view(row: OfferRow, at: datetime) -> MarketOffer:
    """An offer as everybody sees it."""
    pricing = None
    if row.floor_units is not None and row.ceiling_units is not None:
        pricing = MarketPricing(floor=money.render(row.floor_units), ceiling=money.render(row.ceiling_units))
    return MarketOffer(
        id=row.id,
        version=row.version,
        account=row.account,
        miner=row.miner,
        sells=row.sells,
        kind=row.kind,
        model=row.model,
        device=row.device,
        price=money.render(row.price_units),
        unit="hour" if row.sells == "device" else row.unit,
        price_hour=None if (hour := hour_units(row)) is None else money.render(hour),
        pricing=pricing,
        capacity=row.capacity,
        available=row.capacity - row.taken,
        min_seconds=row.min_seconds,
        max_seconds=row.max_seconds,
        interruptible=row.interruptible,
        note=row.note,
        state=state_of(row, at),
        origin=row.origin,
        verified=row.source != "claimed",
        rating=row.rating_milli / 1000 if row.ratings else None,
        ratings=row.ratings,
        facts=_facts(row),
        created_at=row.created_at,
        changed_at=row.changed_at,
        valid_until=row.valid_until,
    )


def _facts(row: OfferRow) -> tuple[MarketFact, ...]:
    known: dict[str, str | int] = {"status": row.status, "slots": row.slots}
    if row.region:
        known["region"] = row.region
    if row.gpu_model:
        known |= {"gpu_model": row.gpu_model, "vram_mib": row.vram_mib}
    hardware = ("gpu_model", "vram_mib")
    # Whether it is there is seen here, by its heartbeats; where it stands and how much it takes is its owner's word.
    sources = {"status": "measured", **dict.fromkeys(hardware, row.source)}
    return tuple(
        MarketFact(name=name, value=value, source=sources.get(name, "claimed"), as_of=row.as_of)
        for name, value in known.items()
    )


def offer_changed(row: OfferRow) -> OfferChanged:
    """What matching must know of an offer now."""
    return OfferChanged(
        offer=row.id,
        version=row.version,
        account=row.account,
        miner=row.miner,
        sells=row.sells,
        job_kind=row.kind,
        model=row.model,
        price_units=row.price_units,
        state=row.state,
        valid_until=row.valid_until,
        changed_at=row.changed_at,
        gpu_model=row.gpu_model,
        vram_mib=row.vram_mib,
        region=row.region,
        min_seconds=row.min_seconds,
        max_seconds=row.max_seconds,
    )
