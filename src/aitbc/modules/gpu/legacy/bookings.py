"""Bookings in the legacy dialect: a GPU is booked, confirmed, worked with and released, and the bookings are its
orders."""

from litestar import Controller, get, post
from litestar.datastructures import Headers
from litestar.params import FromPath, JSONBody, QueryParams

from aitbc.kernel.legacy.amounts import amount_of, nearest_units_of
from aitbc.kernel.legacy.caller import Once, Who, without_own_key
from aitbc.kernel.legacy.errors import invalid
from aitbc.kernel.legacy.paging import read_query
from aitbc.kernel.legacy.times import milliseconds_of
from aitbc.kernel.primitives.errors import NotDone
from aitbc.modules.gpu.legacy.booking_shapes import (
    STATES,
    BookBody,
    Booked,
    ConfirmBody,
    Confirmed,
    GpuBidBody,
    OllamaBody,
    OrdersQuery,
    OrderView,
    PurchaseBody,
    Purchased,
    Released,
    TaskView,
    booked,
    order_view,
    purchased,
)
from aitbc.modules.gpu.legacy.caller import Gpu
from aitbc.modules.gpu.service.bookings import BookGpu, BookingFilter, GpuNotBooked

BOOK = {"permission": "jobs:create"}
"""Who may spend money on jobs may spend it on a GPU's time."""
NATURAL = BOOK | {"idempotency": "natural"}
READ = {"permission": "jobs:read"}


class BidNotDone(NotDone):
    """A bid for one GPU is not taken: book it at its price, or bid for GPUs of its model at /v1/transactions."""

    code = "gpu_bid_not_done"


class SendingNotDone(NotDone):
    """Money is not sent from wallet to wallet here: it is held for a job or a booking and paid to who did the work."""

    code = "sending_not_done"


class BookingOfGpuController(Controller):
    """The booking of a listed GPU."""

    path = "/v1/marketplace/gpu"

    @post("/purchase", status_code=201, opt=BOOK)
    async def purchase(self, gpu: Gpu, who: Who, once: Once, data: JSONBody[PurchaseBody]) -> Purchased:
        """Book a GPU, in the words of a sale."""
        command = BookGpu(gpu=data.gpu_id, duration_ms=milliseconds_of(data.duration_hours))
        return purchased(await gpu.bookings.book(who, command, once))

    @post("/bid", status_code=201, opt=NATURAL)
    async def bid(self, gpu: Gpu, query: QueryParams, data: JSONBody[GpuBidBody]) -> None:
        """Refuse a bid for one GPU: it does not say whether its amount is for an hour or for all of them."""
        await gpu.listings.get(data.gpu_id)
        raise BidNotDone

    @post("/{name:str}/book", status_code=201, opt=BOOK)
    async def book(self, gpu: Gpu, who: Who, once: Once, name: FromPath[str], data: JSONBody[BookBody]) -> Booked:
        """Book a GPU from now on, and hold what all of its time costs."""
        if data.gpu_id not in (None, name):
            raise invalid("/gpu_id", "Expected the GPU of the path")
        command = BookGpu(
            gpu=name,
            duration_ms=milliseconds_of(data.duration_hours),
            cost_max_units=nearest_units_of(data.total_cost),
            job=data.job_id,
        )
        return booked(await gpu.bookings.book(who, command, once))

    @post("/{name:str}/release", status_code=200, opt=BOOK)
    async def release(self, gpu: Gpu, who: Who, once: Once, name: FromPath[str]) -> Released:
        """Give a GPU of the caller's booking back: what was used is paid, the rest returns."""
        await gpu.listings.get(name)
        booking = await gpu.bookings.current(name)
        if booking is None:
            free = "This GPU is not booked."
            return Released(status="already_available", gpu_id=name, refund=0.0, message=free)
        over = await gpu.bookings.release(who, booking.id, once)
        refund = amount_of(over.returned_units or 0)
        return Released(status="released", gpu_id=name, refund=refund, message="What was used of its time is paid.")

    @post("/{name:str}/confirm", status_code=200, opt=NATURAL)
    async def confirm(
        self, gpu: Gpu, who: Who, headers: Headers, name: FromPath[str], data: JSONBody[ConfirmBody]
    ) -> Confirmed:
        """Confirm the caller's booking of a GPU. Clients that send their API key as their name go without one."""
        await gpu.listings.get(name)
        booking = await gpu.bookings.current(name)
        if booking is None:
            raise GpuNotBooked
        found = await gpu.bookings.confirm(who, booking.id, without_own_key(data.client_id, headers))
        return Confirmed(
            status="confirmed",
            gpu_id=name,
            booking_id=found.id,
            client_id=found.client,
            message="The booking is confirmed.",
        )


class CoordinatorBookings(Controller):
    """Bookings as the older coordinator listed them, and prompts for booked GPUs."""

    path = "/v1"

    @get("/marketplace/orders", opt=READ)
    async def orders(self, gpu: Gpu, who: Who, query: QueryParams) -> list[OrderView]:
        """List the caller's bookings, the newest first."""
        wish = read_query(query, OrdersQuery)
        every = wish.status in (None, "all")
        states = None if wish.status is None or every else frozenset(STATES.known_states(wish.status, "?status"))
        found = await gpu.bookings.page(who, BookingFilter(states=states, limit=wish.limit))
        return [order_view(one) for one in found]

    @post("/tasks/ollama", status_code=200, opt=BOOK)
    async def ollama(self, gpu: Gpu, who: Who, once: Once, data: JSONBody[OllamaBody]) -> TaskView:
        """Submit the job that answers a prompt on a GPU that the caller has booked; it costs one minor unit."""
        asked = {"messages": [{"role": "user", "content": data.prompt}], "model": data.model}
        job = await gpu.bookings.submit_job(who, data.gpu_id, "chat", data.parameters | asked, once)
        return TaskView(
            task_id=job.id,
            status="submitted",
            submitted_at=job.created_at,
            gpu_id=data.gpu_id,
            model=data.model,
            prompt=data.prompt,
            parameters=data.parameters,
        )

    @post("/payments/send", status_code=200, opt=NATURAL)
    async def send(self, query: QueryParams) -> None:
        """Refuse to send money: nothing is done, so nothing is done twice."""
        raise SendingNotDone
