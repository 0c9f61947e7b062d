"""Resources of the older coordinator's market: miners of the caller's that are listed, and rented, by the hour.

A resource is a miner: by its id, or by the name that its owner gave it where its owner lists it. What agents call
themselves stays words: the account of the key sells, and the account of the key pays.
"""

from typing import Annotated

from litestar import Controller, post
from litestar.params import JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.legacy.amounts import Amount, PositiveAmount, nearest_units_of
from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.kernel.primitives.money import for_time, parse
from aitbc.kernel.primitives.text import Name
from aitbc.modules.gpu.api import MinerNotFound
from aitbc.modules.marketplace.api import MarketOffer, MarketOfferNotFound
from aitbc.modules.marketplace.legacy.caller import WRITE_ONCE, Marketplace
from aitbc.modules.marketplace.service.bookings.bookings import BookOffer
from aitbc.modules.marketplace.service.commands import MakeOffer, OfferFilter

HOUR_SECONDS = 3_600
Hours = Annotated[float, Meta(gt=0, le=720)]
Figure = Annotated[float, Meta(ge=0, le=1e9)]


class ResourceBody(Struct, frozen=True, kw_only=True):
    """A resource that is to be listed; what is said of its hardware is passed over: its miner says that."""

    resource_id: Name
    price_per_hour: PositiveAmount
    resource_type: str | None = None
    compute_power: Figure | None = None
    gpu_memory: Figure | None = None
    provider_id: str | None = None
    availability: bool | str | None = None


class RentRequirements(Struct, frozen=True, kw_only=True):
    """What a resource must have."""

    min_compute_power: Figure = 0
    """Not measured here: anything but 0 is refused."""
    min_gpu_memory: Figure = 0
    """In GB."""
    gpu_required: bool = False


class RentBody(Struct, frozen=True, kw_only=True):
    """A resource that is to be rented."""

    resource_id: Name
    duration_hours: Hours
    consumer_id: str | None = None
    max_price_per_hour: Amount | None = None
    requirements: RentRequirements = RentRequirements()


class ListedResource(Struct, frozen=True, kw_only=True):
    """A resource is on the market."""

    resource_id: str
    offer_id: str
    status: str
    provider_id: str
    """The account that sells."""
    price_per_hour: float


class RentedResource(Struct, frozen=True, kw_only=True):
    """A resource is rented."""

    rental_id: str
    resource_id: str
    status: str
    consumer_id: str
    """The account that pays."""
    price_per_hour: float
    starts_at: str
    ends_at: str


class CoordinatorResources(Controller):
    """Lists and rents miners."""

    path = "/v1/marketplace"

    @post("/list", status_code=201, opt=WRITE_ONCE)
    async def list_resource(
        self, marketplace: Marketplace, who: Who, once: Once, data: JSONBody[ResourceBody]
    ) -> ListedResource:
        """Put the GPUs of a miner of the caller's on sale, by the hour."""
        miner = await _own_miner(marketplace, who.account, data.resource_id)
        price = nearest_units_of(data.price_per_hour)
        if not price:
            raise Invalid(fields=(FieldError("/price_per_hour", "Expected at least one minor unit"),))
        command = MakeOffer(miner=miner, sells="device", price_units=price)
        made = await marketplace.market_offers.make(who, command, once)
        return ListedResource(
            resource_id=made.miner,
            offer_id=made.id,
            status="listed",
            provider_id=made.account,
            price_per_hour=float(made.price),
        )

    @post("/rent", status_code=201, opt=WRITE_ONCE)
    async def rent(self, marketplace: Marketplace, who: Who, once: Once, data: JSONBody[RentBody]) -> RentedResource:
        """Book a miner from now on: its cheapest offer that is open."""
        offer = await _offer_of(marketplace, data.resource_id)
        _require(offer, data.requirements)
        seconds = round(data.duration_hours * HOUR_SECONDS)
        most = None if data.max_price_per_hour is None else nearest_units_of(data.max_price_per_hour)
        command = BookOffer(
            offer=offer.id, seconds=seconds, most_units=None if most is None else for_time(most, seconds * 1_000)
        )
        made = await marketplace.market_bookings.book(who, command, once)
        return RentedResource(
            rental_id=made.id,
            resource_id=made.miner,
            status=made.state,
            consumer_id=made.account,
            price_per_hour=float(made.price_hour),
            starts_at=made.starts_at.isoformat(),
            ends_at=made.ends_at.isoformat(),
        )


async def _own_miner(marketplace: Marketplace, account: str, name: str) -> str:
    """The miner of an account by its id or its name. Raises `MinerNotFound`."""
    if name.startswith("mnr_"):
        return name
    found = [one.id for one in await marketplace.gpu.miners_of(account) if one.name == name]
    if len(found) != 1:
        raise MinerNotFound
    return found[0]


async def _offer_of(marketplace: Marketplace, resource: str) -> MarketOffer:
    """The cheapest open offer of a miner's GPUs, or the offer that is named. Raises `MarketOfferNotFound`."""
    if not resource.startswith("mnr_"):
        return await marketplace.market_offers.one(resource)
    found = await marketplace.market_offers.page(OfferFilter(miner=resource, state="open", limit=100))
    devices = [one for one in found if one.sells == "device"]
    if not devices:
        raise MarketOfferNotFound
    return min(devices, key=lambda one: (parse(one.price), one.id))


def _require(offer: MarketOffer, wanted: RentRequirements) -> None:
    """Raise `Invalid` for an offer that lacks something, or for what nobody measures."""
    if wanted.min_compute_power:
        raise Invalid(fields=(FieldError("/requirements/min_compute_power", "Nobody measures it here: leave it out"),))
    facts = {fact.name: fact.value for fact in offer.facts}
    if wanted.gpu_required and not facts.get("gpu_model"):
        raise Invalid(fields=(FieldError("/requirements/gpu_required", "This miner shows no GPU"),))
    if float(facts.get("vram_mib") or 0) < wanted.min_gpu_memory * 1_000_000_000 / 1_048_576:
        raise Invalid(fields=(FieldError("/requirements/min_gpu_memory", "This miner has less"),))
