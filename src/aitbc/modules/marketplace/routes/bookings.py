"""The HTTP of bookings of offers."""

from typing import Annotated, Literal

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.money import InvalidAmount, parse
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.gpu.api import BookingReceiptFile, MinerInUse, MinerNotFound, MinerNotThere
from aitbc.modules.marketplace.api import MarketOfferNotFound
from aitbc.modules.marketplace.models.booking_views import BookingStatement, MarketBooking, MarketBookingQuote
from aitbc.modules.marketplace.routes.bodies import AnswerBookingPrice, BookMarketOffer, ProposeBookingPrice
from aitbc.modules.marketplace.service.bookings.bookings import (
    BookingsFilter,
    MarketBookingCostsMore,
    MarketBookings,
    MarketTimeTaken,
    NotInterruptible,
    PriceNotProposed,
    TooManyMarketBookings,
)
from aitbc.modules.marketplace.service.bookings.receipts import MarketBookingNotOver, MarketReceipts
from aitbc.modules.marketplace.service.bookings.rows import MarketBookingNotFound, MarketBookingOver
from aitbc.modules.marketplace.service.commands import MarketOfferNotOpen
from aitbc.modules.marketplace.service.terms import NotAdmitted
from aitbc.modules.trading.api import InsufficientFunds

Who = NamedDependency[Principal]
Once = NamedDependency[IdempotencyKey]
StateName = Literal["placed", "reserved", "active", "suspended", "ending", "ended"]
InState = Annotated[StateName | None, QueryParameter(name="state")]
PAGES = "market_bookings"


def changes(*errors: type[Exception]) -> dict[str, object]:
    """The options of a command that does the same when it is repeated."""
    return {"permission": "market:write", "idempotency": "natural", "errors": (MarketBookingNotFound, *errors)}


class BookingQuoteController(Controller):
    """What bookings would cost."""

    path = "/booking-quotes"
    tags = ("market",)

    @post(
        "/",
        status_code=200,
        operation_id="quote_market_booking",
        summary="Quote a booking",
        opt={
            "permission": "market:read",
            "idempotency": "natural",
            "errors": (InvalidAmount, AmountOverflow, MarketOfferNotFound, MarketOfferNotOpen, NotAdmitted),
        },
    )
    async def quote(
        self, market_bookings: NamedDependency[MarketBookings], who: Who, data: JSONBody[BookMarketOffer]
    ) -> MarketBookingQuote:
        """Say what a booking would cost, what is held for it, and how long your money lasts; nothing is changed."""
        return await market_bookings.quote(who, data.command())


class MarketBookingController(Controller):
    """The time of miners that people have for themselves."""

    path = "/bookings"
    tags = ("market",)

    @post(
        "/",
        operation_id="book_market_offer",
        summary="Book an offer",
        opt={
            "permission": "market:write",
            "idempotency": "required",
            "errors": (
                *(InvalidAmount, AmountOverflow, MarketOfferNotFound, MarketOfferNotOpen, MarketTimeTaken),
                *(MarketBookingCostsMore, TooManyMarketBookings, InsufficientFunds, MinerInUse, MinerNotThere),
                *(MinerNotFound, MarketBookingOver, NotAdmitted),
            ),
        },
    )
    async def book(
        self, market_bookings: NamedDependency[MarketBookings], who: Who, once: Once, data: JSONBody[BookMarketOffer]
    ) -> Response[MarketBooking]:
        """Have the miner of an offer for yourself, from now on or from a time ahead.

        Its first five minutes are held; each further slice is held a minute before the one before is used up, and paid
        once it is over. Jobs with `requirements.booking` set to its id go to that miner, and nothing else does.
        """
        made = await market_bookings.book(who, data.command(), once)
        where = f"/api/v1/marketplace/bookings/{made.id}"
        return Response(made, status_code=201, headers={"location": where})

    @get(
        "/",
        operation_id="list_market_bookings",
        summary="List bookings of offers",
        opt={"permission": "market:read", "errors": (InvalidCursor,)},
    )
    async def mine(
        self,
        market_bookings: NamedDependency[MarketBookings],
        who: Who,
        in_state: InState = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[MarketBooking]:
        """List the bookings that the caller pays or whose miner is the caller's, from the newest on."""
        bound = (in_state or "",)
        after = after_id(PAGES, cursor, "book", bound_to=bound)
        found = await market_bookings.page(who, BookingsFilter(state=in_state, after=after, limit=limit + 1))
        return Page.of(PAGES, found, limit, lambda one: one.id, bound_to=bound)

    @get(
        "/{market_booking:str}",
        operation_id="get_market_booking",
        summary="Get a booking of an offer",
        opt={"permission": "market:read", "errors": (MarketBookingNotFound,)},
    )
    async def one(
        self, market_bookings: NamedDependency[MarketBookings], who: Who, market_booking: FromPath[str]
    ) -> MarketBooking:
        """Read a booking: both its sides see the same."""
        return await market_bookings.get(who, market_booking)

    @get(
        "/{market_booking:str}/statement",
        operation_id="get_booking_statement",
        summary="Get the receipt of a booking",
        opt={"permission": "market:read", "errors": (MarketBookingNotFound,)},
    )
    async def statement(
        self, market_bookings: NamedDependency[MarketBookings], who: Who, market_booking: FromPath[str]
    ) -> BookingStatement:
        """Read what was used and paid, slice by slice, each with its transaction: both sides see the same."""
        return await market_bookings.statement(who, market_booking)

    @get(
        "/{market_booking:str}/receipt",
        operation_id="get_market_booking_receipt",
        summary="Get the signed receipt of a booking of an offer",
        opt={"permission": "market:read", "errors": (MarketBookingNotFound, MarketBookingNotOver)},
    )
    async def receipt(
        self, market_receipts: NamedDependency[MarketReceipts], who: Who, market_booking: FromPath[str]
    ) -> BookingReceiptFile:
        """Get the receipt of a booking that is over: its time, how long a machine ran, and each payment, signed.

        `aitbc receipt verify` checks it without a server.
        """
        return await market_receipts.of(who, market_booking)

    @post(
        "/{market_booking:str}/end",
        status_code=200,
        operation_id="end_market_booking",
        summary="Give a booked miner back",
        opt=changes(),
    )
    async def end(
        self, market_bookings: NamedDependency[MarketBookings], who: Who, market_booking: FromPath[str]
    ) -> MarketBooking:
        """End a booking of the caller's: what was used is paid, the rest returns. One that is over stays as it is."""
        return await market_bookings.give_back(who, market_booking)

    @post(
        "/{market_booking:str}/interrupt",
        status_code=200,
        operation_id="interrupt_market_booking",
        summary="Announce the end of a booking",
        opt=changes(MarketBookingOver, NotInterruptible),
    )
    async def interrupt(
        self, market_bookings: NamedDependency[MarketBookings], who: Who, market_booking: FromPath[str]
    ) -> MarketBooking:
        """Take a miner of the caller's back from an interruptible booking, ten minutes after saying so here."""
        return await market_bookings.interrupt(who, market_booking)

    @post(
        "/{market_booking:str}/price",
        status_code=200,
        operation_id="propose_booking_price",
        summary="Propose another price",
        opt=changes(InvalidAmount, MarketBookingOver),
    )
    async def propose(
        self,
        market_bookings: NamedDependency[MarketBookings],
        who: Who,
        market_booking: FromPath[str],
        data: JSONBody[ProposeBookingPrice],
    ) -> MarketBooking:
        """Propose a price for a booking of a miner of the caller's. Until its payer accepts, nothing changes."""
        return await market_bookings.propose(who, market_booking, parse(data.price_hour))

    @post(
        "/{market_booking:str}/price/answer",
        status_code=200,
        operation_id="answer_booking_price",
        summary="Accept or decline a price",
        opt=changes(InvalidAmount, MarketBookingOver, PriceNotProposed),
    )
    async def answer(
        self,
        market_bookings: NamedDependency[MarketBookings],
        who: Who,
        market_booking: FromPath[str],
        data: JSONBody[AnswerBookingPrice],
    ) -> MarketBooking:
        """Answer a proposed price of a booking of the caller's: accepted, it holds from the next slice on."""
        return await market_bookings.decide(who, market_booking, parse(data.price_hour), accepts=data.accept)
