"""Listed GPUs in the legacy dialect, with their reviews and prices."""

from datetime import datetime
from typing import Annotated

from litestar import Controller, delete, get, post
from litestar.datastructures import Headers
from litestar.params import FromPath, JSONBody, QueryParams
from msgspec import Meta, Struct, structs

from aitbc.kernel.legacy.amounts import Amount, amount_of, optional_units_of, units_of
from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.legacy.paging import read_query
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.text import Name, Text
from aitbc.modules.gpu.legacy.booking_shapes import CurrentBooking, current_booking
from aitbc.modules.gpu.legacy.caller import MANAGE, MANAGE_ONCE, MINER, READ, Gpu
from aitbc.modules.gpu.models.listing_views import GpuReview, ListedGpu
from aitbc.modules.gpu.service.listings import ListGpu, ListingFilter

UNKNOWN_MODEL = "Unknown"
DEFAULT_PRICE = 0.05
DEFAULT_MINER = "default_miner"


class GpuBody(Struct, frozen=True, kw_only=True):
    """A GPU as its owner describes it."""

    name: Name | None = None
    miner_id: Name | None = None
    miner: Name | None = None
    memory_gb: Annotated[int, Meta(ge=0, le=65_536)] | None = None
    cuda_cores: Annotated[int, Meta(ge=0, le=10_000_000)] | None = None
    compute_capability: Name | None = None
    region: Name | None = None
    price_per_hour: Amount | None = None
    description: Text | None = None


class RegisterGpuBody(Struct, frozen=True, kw_only=True):
    """An owner lists a GPU."""

    gpu: GpuBody


class SellBody(Struct, frozen=True, kw_only=True):
    """An owner lists a GPU at another price."""

    gpu_id: str
    listing_price: Amount
    description: Text | None = None


class ReviewBody(Struct, frozen=True, kw_only=True):
    """What somebody thinks of a GPU."""

    rating: Annotated[int, Meta(ge=1, le=5)]
    comment: Text | None = None


class ListingQuery(Struct, frozen=True, kw_only=True):
    """Which GPUs a query asks for."""

    available: bool | None = None
    price_max: Amount | None = None
    region: str | None = None
    model: str | None = None
    memory_min: Annotated[float, Meta(ge=0)] | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


class RemovalQuery(Struct, frozen=True, kw_only=True):
    """Whether a query insists."""

    force: bool = False


class ReviewsQuery(Struct, frozen=True, kw_only=True):
    """How many reviews a query asks for."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 10


class RegisteredGpu(Struct, frozen=True, kw_only=True):
    """A GPU is listed."""

    gpu_id: str
    status: str
    message: str
    price_per_hour: float


class GpuView(Struct, frozen=True, kw_only=True):
    """A listed GPU."""

    id: str
    miner_id: str
    model: str
    memory_gb: int | None
    cuda_version: str | None
    cuda_cores: int | None
    region: str | None
    price_per_hour: float
    status: str
    capabilities: list[str]
    description: str
    created_at: datetime
    average_rating: float
    """0 while nobody has said anything."""
    total_reviews: int
    hardware: str
    """How it is known what it is."""


class GpuDetails(GpuView, frozen=True, kw_only=True):
    """A listed GPU, and the booking that it is in."""

    current_booking: CurrentBooking | None


class Acted(Struct, frozen=True, kw_only=True):
    """What became of a GPU."""

    status: str
    gpu_id: str
    message: str


class Relisted(Struct, frozen=True, kw_only=True):
    """A GPU has another price."""

    gpu_id: str
    seller_id: str
    """The account that did it."""
    listing_price: float
    status: str
    description: str
    timestamp: datetime


class ReviewView(Struct, frozen=True, kw_only=True):
    """A review."""

    rating: int
    comment: str
    user: str
    date: datetime


class ReviewsView(Struct, frozen=True, kw_only=True):
    """The reviews of a GPU."""

    gpu_id: str
    average_rating: float
    total_reviews: int
    reviews: list[ReviewView]


class Reviewed(Struct, frozen=True, kw_only=True):
    """A review was added."""

    status: str
    gpu_id: str
    review_id: str
    average_rating: float


class StaticPricing(Struct, frozen=True, kw_only=True):
    """What owners ask for an hour."""

    min_price: float
    max_price: float
    average_price: float
    available_gpus: int
    total_gpus: int
    recommended_gpu: str | None
    """The cheapest that is available."""


class GpuPricing(Struct, frozen=True, kw_only=True):
    """What the owner of a GPU asks for an hour."""

    gpu_id: str
    static_price: float


class Pricing(Struct, frozen=True, kw_only=True):
    """What a model costs. Prices do not move by themselves here, so nothing is dynamic."""

    model: str
    static_pricing: StaticPricing
    dynamic_pricing: None
    price_comparison: None
    individual_gpu_pricing: list[GpuPricing]
    market_analysis: None
    pricing_timestamp: datetime


class ListedGpuController(Controller):
    """Listed GPUs."""

    path = "/v1/marketplace/gpu"

    @post("/register", status_code=200, opt=MANAGE_ONCE)
    async def register(
        self, gpu: Gpu, who: Who, once: Once, headers: Headers, data: JSONBody[RegisterGpuBody]
    ) -> RegisteredGpu:
        """List a GPU of the caller's."""
        listed = await gpu.listings.add(who, _listing(data.gpu, headers), once)
        return RegisteredGpu(
            gpu_id=listed.id,
            status="registered",
            message=f"GPU {listed.model} is listed",
            price_per_hour=amount_of(listed.price_units),
        )

    @get("/list", opt=READ)
    async def list_gpus(self, gpu: Gpu, query: QueryParams) -> list[GpuView]:
        """List everybody's GPUs, the newest first."""
        wish = read_query(query, ListingQuery)
        found = await gpu.listings.page(
            ListingFilter(
                available=wish.available,
                model=wish.model,
                region=wish.region,
                price_max_units=optional_units_of(wish.price_max, "?price_max"),
                memory_min_gb=wish.memory_min,
                limit=wish.limit,
            )
        )
        return [_view(one) for one in found]

    @post("/sell", status_code=200, opt=MANAGE)
    async def sell(self, gpu: Gpu, who: Who, data: JSONBody[SellBody]) -> Relisted:
        """List a GPU of the caller's at another price."""
        units = units_of(data.listing_price, "/listing_price")
        listed = await gpu.listings.reprice(who, data.gpu_id, units, data.description)
        return Relisted(
            gpu_id=listed.id,
            seller_id=who.account,
            listing_price=amount_of(listed.price_units),
            status="listed",
            description=listed.description,
            timestamp=now(),
        )

    @get("/{name:str}", opt=READ)
    async def details(self, gpu: Gpu, name: FromPath[str]) -> GpuDetails:
        """One GPU, and the booking that it is in."""
        listed, booking = await gpu.listings.get(name), await gpu.bookings.current(name)
        view = structs.asdict(_view(listed))
        return GpuDetails(**view, current_booking=None if booking is None else current_booking(booking))

    @delete("/{name:str}", status_code=200, opt=MANAGE)
    async def unregister(self, gpu: Gpu, who: Who, name: FromPath[str], query: QueryParams) -> Acted:
        """Take a GPU of the caller's off the market.

        One that is booked only by `force`, and its booker pays nothing.
        """
        wish = read_query(query, RemovalQuery)
        await gpu.listings.remove(who, name, force=wish.force)
        return Acted(status="deleted", gpu_id=name, message="The GPU is listed no more.")

    @get("/{name:str}/reviews", opt=READ)
    async def reviews(self, gpu: Gpu, name: FromPath[str], query: QueryParams) -> ReviewsView:
        """The reviews of a GPU, the newest first."""
        wish = read_query(query, ReviewsQuery)
        found = await gpu.listings.reviews(name, wish.limit)
        return ReviewsView(
            gpu_id=found.gpu,
            average_rating=found.average_rating or 0.0,
            total_reviews=found.total,
            reviews=[_review(one) for one in found.shown],
        )

    @post("/{name:str}/reviews", status_code=201, opt=MANAGE_ONCE)
    async def review(self, gpu: Gpu, who: Who, once: Once, name: FromPath[str], data: JSONBody[ReviewBody]) -> Reviewed:
        """Review somebody else's GPU, once."""
        added = await gpu.listings.review(who, name, data.rating, data.comment or "", once)
        listed = await gpu.listings.get(name)
        return Reviewed(
            status="review_added", gpu_id=name, review_id=added.id, average_rating=listed.average_rating or 0.0
        )


class CoordinatorMarket(Controller):
    """What the older coordinator showed of the market beside its GPUs."""

    path = "/v1"

    @get("/marketplace/pricing/{model:str}", opt=READ)
    async def pricing(self, gpu: Gpu, model: FromPath[str]) -> Pricing:
        """What GPUs of a model cost."""
        found = await gpu.listings.model_prices(model)
        cheapest = found.gpus[0].id if found.available else None
        return Pricing(
            model=model,
            static_pricing=StaticPricing(
                min_price=amount_of(found.lowest_units),
                max_price=amount_of(found.highest_units),
                average_price=amount_of(found.average_units),
                available_gpus=found.available,
                total_gpus=len(found.gpus),
                recommended_gpu=cheapest,
            ),
            dynamic_pricing=None,
            price_comparison=None,
            individual_gpu_pricing=[
                GpuPricing(gpu_id=one.id, static_price=amount_of(one.price_units)) for one in found.gpus
            ],
            market_analysis=None,
            pricing_timestamp=now(),
        )


def _listing(listed: GpuBody, headers: Headers) -> ListGpu:
    named = listed.miner_id or listed.miner or MINER.find(headers, {})
    price = DEFAULT_PRICE if listed.price_per_hour is None else listed.price_per_hour
    return ListGpu(
        miner_name=named or DEFAULT_MINER,
        model=listed.name or UNKNOWN_MODEL,
        memory_gb=listed.memory_gb or None,
        cuda_cores=listed.cuda_cores or None,
        compute_capability=listed.compute_capability,
        region=listed.region,
        price_units=units_of(price, "/gpu/price_per_hour"),
        description=listed.description or "",
    )


def _view(gpu: ListedGpu) -> GpuView:
    return GpuView(
        id=gpu.id,
        miner_id=gpu.miner_name,
        model=gpu.model,
        memory_gb=gpu.memory_gb,
        cuda_version=gpu.compute_capability,
        cuda_cores=gpu.cuda_cores,
        region=gpu.region,
        price_per_hour=amount_of(gpu.price_units),
        status=gpu.status,
        capabilities=[] if gpu.compute_capability is None else [f"cuda {gpu.compute_capability}"],
        description=gpu.description,
        created_at=gpu.created_at,
        average_rating=gpu.average_rating or 0.0,
        total_reviews=gpu.reviews,
        hardware=gpu.hardware,
    )


def _review(review: GpuReview) -> ReviewView:
    return ReviewView(rating=review.rating, comment=review.comment, user=review.account, date=review.created_at)
