"""The HTTP of the GPU market: GPUs that are listed for an hour's price, and the bookings of their time."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from litestar import Controller, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.money import InvalidAmount, parse, render
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.kernel.primitives.text import Name, Text
from aitbc.modules.ai.api import BookingNotFound, BookingNotOpen
from aitbc.modules.gpu.api import BookingReceiptFile, MachineOffer, MinerNotFound
from aitbc.modules.gpu.models.bookings import MILLISECOND, Booking
from aitbc.modules.gpu.models.devices import Evidence
from aitbc.modules.gpu.models.listing_views import ListedGpu, Unavailable
from aitbc.modules.gpu.service.booking_receipts import BookingNotSettled, BookingReceipts
from aitbc.modules.gpu.service.bookings import (
    BookGpu,
    BookingCostsMore,
    BookingFilter,
    Bookings,
    GpuNotShown,
    GpuOffline,
    GpuWithoutMiner,
    TooManyBookings,
)
from aitbc.modules.gpu.service.listings import (
    GpuBooked,
    ListedGpuNotFound,
    ListGpu,
    ListingFilter,
    Listings,
    TooManyGpus,
)
from aitbc.modules.gpu.service.miners import Miners
from aitbc.modules.trading.api import BudgetExceeded, InsufficientFunds

BOOKINGS = "gpu.bookings"
LISTINGS = "gpu.listings"
LONGEST_SECONDS = 31_536_000
GpuId = Annotated[
    str,
    Meta(max_length=30, pattern=r"^gpu_[0-9a-z]{26}\Z"),
    Meta(extra_json_schema={"pattern": "^gpu_[0-9a-z]{26}$", "examples": ["gpu_01kb2c3d4e5f6g7h8j9kamnpqr"]}),
]
MinerId = Annotated[
    str,
    Meta(max_length=30, pattern=r"^mnr_[0-9a-z]{26}\Z"),
    Meta(extra_json_schema={"pattern": "^mnr_[0-9a-z]{26}$", "examples": ["mnr_01kb2c3d4e5f6g7h8j9kamnpqr"]}),
]
Amount = Annotated[
    str,
    Meta(max_length=32, pattern=r"^[0-9]{1,20}(\.[0-9]{1,8})?\Z"),
    Meta(
        description="AITBC as a decimal string with at most eight places.",
        extra_json_schema={"pattern": r"^[0-9]{1,20}(\.[0-9]{1,8})?$", "examples": ["0.25"]},
    ),
]
StateName = Literal["placed", "active", "refused", "released", "ended", "canceled"]
InState = Annotated[StateName | None, QueryParameter(name="state")]
READ = {"permission": "jobs:read", "errors": (BookingNotFound,)}


class ListGpuForRent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A GPU of the caller's, at a price for an hour."""

    model: Name
    """The GPU's name. For example `NVIDIA H100 80GB HBM3`."""
    price_per_hour: Amount
    """The price of an hour, in AITBC. For example `2.5`."""
    miner: MinerId | None = None
    """The id of the miner that it is in: whoever books it has that miner for itself. Left out, nobody can book it."""
    memory_gb: Annotated[int, Meta(ge=0, le=65_536)] | None = None
    """Its memory in GB. For example `80`."""
    compute_capability: Name | None = None
    """What its processors can do. For example `9.0`."""
    region: Name | None = None
    """Where it is. For example `eu-central`."""
    description: Text | None = None
    """What else renters should know. For example `Quiet at night.`."""


class ListingView(Struct, frozen=True, kw_only=True):
    """A listed GPU: what its owner says of it, and whether its miner shows such a GPU and it can be had."""

    id: str
    """The listed GPU. For example `gpu_01k0000000000000000000000a`."""
    model: str
    """The GPU's name. For example `NVIDIA H100 80GB HBM3`."""
    miner: str | None
    """As its owner named it. For example `mnr_01k0000000000000000000000a`."""
    memory_gb: int | None
    """Its memory in GB. For example `80`."""
    compute_capability: str | None
    """What its processors can do. For example `9.0`."""
    region: str | None
    """Where it is. For example `eu-central`."""
    price_per_hour: str
    """The price of an hour, in AITBC. For example `2.5`."""
    description: str
    """What else its owner says of it; may be empty. For example `Quiet at night.`."""
    status: Annotated[str, one_of(("available", "booked", "offline"))]
    """`available`, `booked` or `offline`."""
    status_reason: Unavailable | None
    """Why it is `offline`: its owner has no miner of that name, that miner takes no work, or it shows no such GPU that
    works."""
    hardware: Evidence
    """How it is known what it is: `claimed`, by what its miner's driver says; nothing here measures it."""
    machine: MachineOffer | None
    """What its miner gives as a machine to who books it: a shell, files and ports; null where it does not say."""
    created_at: datetime
    """When it was listed."""
    average_rating: float | None
    """The mean of its reviews, 1 to 5; null without any. For example `4.5`."""
    reviews: int
    """How many reviews it has. For example `2`."""


class Unlisted(Struct, frozen=True, kw_only=True):
    """A GPU is off the market."""

    id: str
    """The GPU. For example `gpu_01k0000000000000000000000a`."""
    status: Annotated[str, one_of(("removed",))]
    """`removed`."""


class BookListedGpu(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A GPU for oneself, from now on."""

    gpu: GpuId
    """The listed GPU. For example `gpu_01k0000000000000000000000a`."""
    duration_seconds: Annotated[int, Meta(ge=60, le=LONGEST_SECONDS)]
    """For how long, in seconds. For example `3600`."""
    max_price: Amount
    """The most that all of its time may cost."""
    label: Name | None = None
    """What it is for, in your words."""


class BookingView(Struct, frozen=True, kw_only=True):
    """The time of a GPU that somebody has for themselves."""

    id: str
    """The booking. For example `book_01k0000000000000000000000a`."""
    gpu: str
    """The booked GPU. For example `gpu_01k0000000000000000000000a`."""
    model: str
    """The GPU's name. For example `NVIDIA H100 80GB HBM3`."""
    miner: str | None
    """The miner that works for the booker alone; none where the GPU's owner named none that is known here.
    For example `mnr_01k0000000000000000000000a`."""
    account: str
    """Who booked it, and pays. For example `acct_01k0000000000000000000000a`."""
    owner: str
    """Whose GPU it is, and who is paid. For example `acct_01k0000000000000000000000b`."""
    state: StateName
    """Where it is in its life."""
    price_per_hour: str
    """As it was when it was booked. For example `2.5`."""
    price: str
    """What all of its time costs, and what is held. For example `2.5`."""
    cost: str | None
    """What it came to; none while it is open. For example `1.25`."""
    returned: str | None
    """What of the price went back to the booker. For example `1.25`."""
    paid_seconds: float | None
    """For how long it was paid; none while it is open."""
    unpaid_seconds: float | None
    """For how long its miner took no work and so was not paid; all of its time where the GPU was taken away."""
    machine_seconds: float
    """For how long its booker had a machine of it running, as far as its miner said so. For example `125.5`."""
    label: str | None
    """What it is for, in the booker's words. For example `evaluation`."""
    starts_at: datetime
    """When its time began."""
    ends_at: datetime
    """When its time ends by itself."""
    ended_at: datetime | None
    """When it ended; null while it is open."""
    settled_at: datetime | None
    """When the money moved; shortly after the end."""
    transaction: str | None
    """The transaction that paid the owner. For example `txn_01k0000000000000000000000a`."""
    fee: str | None
    """What of the cost the platform took; none where nothing was paid. For example `0.03125`."""
    dispute_until: datetime | None
    """Until when its booker can dispute it; none where nothing was paid."""
    hardware: Evidence
    """How it is known what GPU it is: `claimed`, by what its miner's driver says; nothing here measures it."""
    reachable: bool | None
    """Whether its miner takes work now; none where there is none, or once it is over."""


class ListingController(Controller):
    """GPUs for rent."""

    path = "/listings"
    tags = ("bookings",)

    @post(
        "/",
        operation_id="list_gpu",
        summary="List a GPU",
        opt={"permission": "miners:manage", "errors": (MinerNotFound, TooManyGpus, InvalidAmount, AmountOverflow)},
    )
    async def list_gpu(
        self,
        miners: NamedDependency[Miners],
        listings: NamedDependency[Listings],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[ListGpuForRent],
    ) -> Response[ListingView]:
        """Offer the time of a GPU of the caller's, for whoever books it first."""
        if data.miner is not None:
            await miners.owned(who, data.miner)
        command = ListGpu(
            miner_name=data.miner or "",
            model=data.model,
            memory_gb=data.memory_gb,
            cuda_cores=None,
            compute_capability=data.compute_capability,
            region=data.region,
            price_units=parse(data.price_per_hour),
            description=data.description or "",
        )
        listed = await listings.add(who, command, once)
        return Response(listing_of(listed), status_code=201, headers={"location": f"/api/v1/gpu/listings/{listed.id}"})

    @get(
        "/",
        operation_id="list_listed_gpus",
        summary="List the GPUs for rent",
        opt={"permission": "miners:read", "errors": (InvalidCursor,)},
    )
    async def listings(
        self,
        listings: NamedDependency[Listings],
        model: FromQuery[Annotated[str, Meta(max_length=100)] | None] = None,
        region: FromQuery[Annotated[str, Meta(max_length=100)] | None] = None,
        available: FromQuery[bool | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[ListingView]:
        """List everybody's GPUs from the newest on, if wished only those of a model or region, or that can be had
        now."""
        bound = (model or "", region or "", str(available))
        after = after_id(LISTINGS, cursor, "gpu", bound_to=bound)
        wish = ListingFilter(model=model, region=region, available=available, after=after, limit=limit + 1)
        found = [listing_of(one) for one in await listings.page(wish)]
        return Page.of(LISTINGS, found, limit, lambda one: one.id, bound_to=bound)

    @get(
        "/{listing:str}",
        operation_id="get_listed_gpu",
        summary="Get a GPU for rent",
        opt={"permission": "miners:read", "errors": (ListedGpuNotFound,)},
    )
    async def one(self, listings: NamedDependency[Listings], listing: FromPath[str]) -> ListingView:
        """Get one GPU: its price, what is said of it, and whether it can be had."""
        return listing_of(await listings.get(listing))

    @delete(
        "/{listing:str}",
        operation_id="unlist_gpu",
        summary="Take a GPU off the market",
        status_code=200,
        opt={"permission": "miners:manage", "idempotency": "natural", "errors": (ListedGpuNotFound, GpuBooked)},
    )
    async def unlist(
        self, listings: NamedDependency[Listings], who: NamedDependency[Principal], listing: FromPath[str]
    ) -> Unlisted:
        """Take a GPU of the caller's off the market; one that is booked stays until it is free."""
        await listings.remove(who, listing)
        return Unlisted(id=listing, status="removed")


class BookingController(Controller):
    """The caller's bookings, and those of the caller's GPUs."""

    path = "/bookings"
    tags = ("bookings",)

    @post(
        "/",
        operation_id="book_gpu",
        summary="Book a GPU",
        opt={
            "permission": "jobs:create",
            "idempotency": "required",
            "errors": (
                *(ListedGpuNotFound, GpuBooked, GpuWithoutMiner, GpuOffline, GpuNotShown, BookingCostsMore),
                *(BookingNotOpen, TooManyBookings, InsufficientFunds, BudgetExceeded, InvalidAmount, AmountOverflow),
            ),
        },
    )
    async def book(
        self,
        bookings: NamedDependency[Bookings],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[BookListedGpu],
    ) -> Response[BookingView]:
        """Have a GPU for oneself from now on: what all of its time costs is held, and paid at the end as far as it was
        there.

        Jobs with `requirements.booking` set to the booking's id go to that GPU, and nothing else does. Each costs one
        minor unit, for the booking pays for the time.
        """
        command = BookGpu(
            gpu=data.gpu,
            duration_ms=timedelta(seconds=data.duration_seconds) // MILLISECOND,
            cost_max_units=parse(data.max_price),
            job=data.label,
        )
        made = await bookings.book(who, command, once)
        return Response(booking_of(made), status_code=201, headers={"location": f"/api/v1/gpu/bookings/{made.id}"})

    @get(
        "/",
        operation_id="list_bookings",
        summary="List bookings",
        opt={"permission": "jobs:read", "errors": (InvalidCursor,)},
    )
    async def bookings(
        self,
        bookings: NamedDependency[Bookings],
        who: NamedDependency[Principal],
        in_state: InState = None,
        status: FromQuery[StateName | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[BookingView]:
        """List the bookings that the caller made or that are of the caller's GPUs, from the newest on.

        `status` is the older name of `state`.
        """
        state = in_state or status
        bound = (state or "",)
        after = after_id(BOOKINGS, cursor, "book", bound_to=bound)
        states = None if state is None else frozenset({str(state)})
        wish = BookingFilter(states=states, owned=True, after=after, limit=limit + 1)
        found = [booking_of(one) for one in await bookings.page(who, wish)]
        return Page.of(BOOKINGS, found, limit, lambda one: one.id, bound_to=bound)

    @get("/{booking:str}", operation_id="get_booking", summary="Get a booking", opt=READ)
    async def one(
        self, bookings: NamedDependency[Bookings], who: NamedDependency[Principal], booking: FromPath[str]
    ) -> BookingView:
        """Get one booking: until when, what it costs or came to, and whether its miner is there."""
        return booking_of(await bookings.get(who, booking))

    @get(
        "/{booking:str}/receipt",
        operation_id="get_booking_receipt",
        summary="Get the signed receipt of a booking",
        opt={"permission": "jobs:read", "errors": (BookingNotFound, BookingNotSettled)},
    )
    async def receipt(
        self,
        booking_receipts: NamedDependency[BookingReceipts],
        who: NamedDependency[Principal],
        booking: FromPath[str],
    ) -> BookingReceiptFile:
        """Get the receipt of a booking that is over: its time, how long a machine ran, and its payment, signed.

        `aitbc receipt verify` checks it without a server.
        """
        return await booking_receipts.of(who, booking)

    @post(
        "/{booking:str}/release",
        operation_id="release_booking",
        summary="Release a booked GPU",
        status_code=200,
        opt={"permission": "jobs:create", "errors": (BookingNotFound, BookingNotOpen)},
    )
    async def release(
        self,
        bookings: NamedDependency[Bookings],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        booking: FromPath[str],
    ) -> BookingView:
        """Give a GPU back before its time: the time until now is paid, the rest of the money returns.

        Time in which the platform could not reach its miner, or in which the miner took no work, is not paid.
        Only who booked it can. A booking that is over stays as it came out.
        """
        return booking_of(await bookings.release(who, booking, once))


def listing_of(gpu: ListedGpu) -> ListingView:
    """A listed GPU with its price as a string."""
    return ListingView(
        id=gpu.id,
        model=gpu.model,
        miner=gpu.miner_name or None,
        memory_gb=gpu.memory_gb,
        compute_capability=gpu.compute_capability,
        region=gpu.region,
        price_per_hour=render(gpu.price_units),
        description=gpu.description,
        status=gpu.status,
        status_reason=gpu.status_reason,
        hardware=gpu.hardware,
        machine=gpu.machine,
        created_at=gpu.created_at,
        average_rating=gpu.average_rating,
        reviews=gpu.reviews,
    )


def booking_of(booking: Booking) -> BookingView:
    """A booking with its money as strings."""
    cost, returned = booking.cost_units, booking.returned_units
    return BookingView(
        id=booking.id,
        gpu=booking.gpu,
        model=booking.model,
        miner=booking.miner,
        account=booking.account,
        owner=booking.owner,
        state=booking.state,  # type: ignore[arg-type]
        price_per_hour=render(booking.price_units),
        price=render(booking.total_units),
        cost=None if cost is None else render(cost),
        returned=None if returned is None else render(returned),
        paid_seconds=_seconds(booking.paid_ms),
        unpaid_seconds=_seconds(booking.unpaid_ms),
        machine_seconds=booking.machine_ms / 1000,
        label=booking.job,
        starts_at=booking.starts_at,
        ends_at=booking.ends_at,
        ended_at=booking.ended_at,
        settled_at=booking.settled_at,
        transaction=booking.transaction,
        fee=None if booking.fee_units is None else render(booking.fee_units),
        dispute_until=booking.dispute_until,
        hardware=booking.hardware,
        reachable=booking.reachable,
    )


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
