"""Bodies, query and answers of bookings. Hours and money are numbers, states have their legacy words."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from aitbc.kernel.legacy.amounts import Total, amount_of
from aitbc.kernel.legacy.paging import Limit
from aitbc.kernel.legacy.states import StateNames
from aitbc.kernel.legacy.times import Hours, hours_of
from aitbc.kernel.primitives.text import Name
from aitbc.modules.gpu.models.bookings import Booking, BookingState, hold_of

METHOD = "aitbc_token"
STATES = StateNames(
    {
        BookingState.PLACED: "pending",
        BookingState.ACTIVE: "active",
        BookingState.REFUSED: "failed",
        BookingState.RELEASED: "cancelled",
        BookingState.ENDED: "completed",
        BookingState.CANCELED: "cancelled",
    }
)
"""How each state was called; a release was a cancellation there."""


class BookBody(Struct, frozen=True, kw_only=True):
    """For how long somebody wants the GPU that the path names, and the most that they reckon it costs."""

    duration_hours: Hours
    gpu_id: str | None = None
    total_cost: Total | None = None
    job_id: Name | None = None


class PurchaseBody(Struct, frozen=True, kw_only=True):
    """The same, where the body names the GPU."""

    gpu_id: str
    duration_hours: Hours


class GpuBidBody(Struct, frozen=True, kw_only=True):
    """A bid for one GPU."""

    gpu_id: str


class ConfirmBody(Struct, frozen=True, kw_only=True):
    """What the booker calls itself."""

    client_id: Name | None = None


class OllamaBody(Struct, frozen=True, kw_only=True):
    """What a booked GPU shall do."""

    gpu_id: str
    prompt: Annotated[str, Meta(min_length=1, max_length=65_536)]
    model: Name = "llama2"
    parameters: dict[str, Any] = {}


class OrdersQuery(Struct, frozen=True, kw_only=True):
    """Which bookings a query asks for."""

    status: str | None = None
    limit: Limit = 100


class CurrentBooking(Struct, frozen=True, kw_only=True):
    """The booking that a GPU is in."""

    booking_id: str
    duration_hours: float
    total_cost: float
    start_time: datetime
    end_time: datetime


class Booked(Struct, frozen=True, kw_only=True):
    """A GPU is booked. Prices do not move by themselves here, so nothing is dynamic."""

    booking_id: str
    gpu_id: str
    status: str
    total_cost: float
    base_price: float
    dynamic_price: None
    price_per_hour: float
    start_time: datetime
    end_time: datetime
    pricing_factors: None
    confidence_score: None


class Purchased(Struct, frozen=True, kw_only=True):
    """A GPU is booked, in the words of a sale."""

    purchase_id: str
    gpu_id: str
    buyer_id: str
    """The account that pays."""
    job_id: None
    """A booking brings no job by itself: tasks are sent to the GPU while it lasts."""
    payment_id: str | None
    """The hold; none for a GPU that costs nothing."""
    duration_hours: float
    total_cost: float
    price_per_hour: float
    status: str
    payment_method: str
    payment_status: str
    start_time: datetime
    end_time: datetime


class Released(Struct, frozen=True, kw_only=True):
    """A GPU is free again, and what of the money returned."""

    status: str
    gpu_id: str
    refund: float
    message: str


class Confirmed(Struct, frozen=True, kw_only=True):
    """A booking is meant."""

    status: str
    gpu_id: str
    booking_id: str
    client_id: str | None
    message: str


class OrderView(Struct, frozen=True, kw_only=True):
    """A booking in the list of orders."""

    order_id: str
    gpu_id: str
    gpu_model: str
    miner_id: str
    duration_hours: float
    total_cost: float
    status: str
    created_at: datetime
    job_id: str | None


class TaskView(Struct, frozen=True, kw_only=True):
    """A task that a booked GPU will do: the job's id, and what was asked."""

    task_id: str
    status: str
    submitted_at: datetime
    gpu_id: str
    model: str
    prompt: str
    parameters: dict[str, Any]


def current_booking(booking: Booking) -> CurrentBooking:
    """What everybody may know of the booking that a GPU is in."""
    return CurrentBooking(
        booking_id=booking.id,
        duration_hours=hours_of(booking.duration_ms),
        total_cost=amount_of(booking.total_units),
        start_time=booking.starts_at,
        end_time=booking.ends_at,
    )


def booked(booking: Booking) -> Booked:
    """A new booking."""
    price = amount_of(booking.price_units)
    return Booked(
        booking_id=booking.id,
        gpu_id=booking.gpu,
        status="booked",
        total_cost=amount_of(booking.total_units),
        base_price=price,
        dynamic_price=None,
        price_per_hour=price,
        start_time=booking.starts_at,
        end_time=booking.ends_at,
        pricing_factors=None,
        confidence_score=None,
    )


def purchased(booking: Booking) -> Purchased:
    """A new booking, as a purchase."""
    costs = booking.total_units > 0
    return Purchased(
        purchase_id=booking.id,
        gpu_id=booking.gpu,
        buyer_id=booking.account,
        job_id=None,
        payment_id=hold_of(booking.id) if costs else None,
        duration_hours=hours_of(booking.duration_ms),
        total_cost=amount_of(booking.total_units),
        price_per_hour=amount_of(booking.price_units),
        status="purchased",
        payment_method=METHOD,
        payment_status="escrowed" if costs else "none",
        start_time=booking.starts_at,
        end_time=booking.ends_at,
    )


def order_view(booking: Booking) -> OrderView:
    """A booking as an order."""
    return OrderView(
        order_id=booking.id,
        gpu_id=booking.gpu,
        gpu_model=booking.model,
        miner_id=booking.miner_name,
        duration_hours=hours_of(booking.duration_ms),
        total_cost=amount_of(booking.total_units),
        status=STATES.word(booking.state),
        created_at=booking.starts_at,
        job_id=booking.job,
    )
