"""Bookings of offers as their sides ask for them: quoted, made, read, repriced, interrupted and given back."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, FieldError, Invalid, TooMany
from aitbc.modules.marketplace.api import MarketOfferNotFound
from aitbc.modules.marketplace.models.booking_views import (
    BookingStatement,
    MarketBooking,
    MarketBookingQuote,
    booking_view,
    statement_of,
)
from aitbc.modules.marketplace.models.bookings import (
    MILLISECOND,
    NOTICE,
    NOW,
    REFUND_RULE,
    SLICE_MS,
    BookingState,
    MarketBookingRow,
    lasts_until,
    new_booking,
)
from aitbc.modules.marketplace.models.tables import OfferRow
from aitbc.modules.marketplace.service.bookings.keeper import BookingKeeper
from aitbc.modules.marketplace.service.bookings.rows import (
    MarketBookingNotFound,
    MarketBookingOver,
    seen_by,
    tell,
)
from aitbc.modules.marketplace.service.bookings.slices import Slices
from aitbc.modules.marketplace.service.commands import MarketOfferNotOpen
from aitbc.modules.marketplace.service.offer_rows import lock_miner
from aitbc.modules.marketplace.service.terms import require_admitted
from aitbc.modules.trading.api import TradingApi

OPEN_MAX = 1_000
"""How many open bookings an account may have."""
RESERVED_MAX = timedelta(days=30)
"""How far ahead a booking may start."""
OVER = (BookingState.ENDING, BookingState.ENDED)


class MarketTimeTaken(Conflict):
    """Somebody has booked this miner for a part of that time."""

    code = "market_time_taken"


class MarketBookingCostsMore(Conflict):
    """Booking this offer for so long costs more than the most that was named."""

    code = "market_booking_costs_more"


class NotInterruptible(Conflict):
    """This offer was booked without its owner's right to end it early."""

    code = "not_interruptible"


class PriceNotProposed(Conflict):
    """Its owner proposes no such price, or not any more."""

    code = "price_not_proposed"


class TooManyMarketBookings(TooMany):
    """This account has as many open bookings as it may have; end some."""

    code = "too_many_market_bookings"


class BookOffer(Struct, frozen=True, kw_only=True):
    """Somebody wants the miner of an offer for themselves."""

    offer: str
    seconds: int
    starts_at: datetime | None = None
    """None for now."""
    most_units: int | None = None
    """The most that all of its time may cost."""
    idle_seconds: int | None = None
    label: str | None = None


class Placed(Struct, frozen=True):
    """The id of a booking that a request has made."""

    id: str


class BookingsFilter(Struct, frozen=True, kw_only=True):
    """Which bookings are wanted, from the newest on."""

    state: str | None = None
    after: str | None = None
    limit: int = 50


class MarketBookings:
    """Makes, shows and ends bookings of offers."""

    def __init__(self, database: Database, trading: TradingApi, slices: Slices, keeper: BookingKeeper) -> None:
        self._database = database
        self._trading = trading
        self._slices = slices
        self._keeper = keeper

    async def quote(self, who: Principal, command: BookOffer) -> MarketBookingQuote:
        """What a booking would cost; nothing is changed.

        Raises `MarketOfferNotFound`, `MarketOfferNotOpen`, `NotAdmitted`, `Invalid`.
        """
        async with self._database.unit_of_work() as uow:
            offer = await _bookable(uow, command)
            await require_admitted(uow, who.account, offer.account)
            row = _new(who, offer, command)
            overlap = select(MarketBookingRow.id).where(
                MarketBookingRow.miner == row.miner,
                MarketBookingRow.ended_at.is_(None),
                MarketBookingRow.starts_at < row.ends_at,
                MarketBookingRow.ends_at > row.starts_at,
            )
            is_free = await uow.session.scalar(overlap.limit(1)) is None
        length = (row.ends_at - row.starts_at) // MILLISECOND
        most = money.for_time(row.price_units, length)
        fee = await self._trading.quote_fee(most)
        available = (await self._trading.balance(who.account)).available_units
        return MarketBookingQuote(
            offer=row.offer,
            price_hour=money.render(row.price_units),
            starts_at=row.starts_at,
            ends_at=row.ends_at,
            price_max=money.render(most),
            held_first=money.render(money.for_time(row.price_units, min(SLICE_MS, length))),
            fee_basis_points=fee.basis_points,
            available=money.render(available),
            money_until=lasts_until(row, available, row.created_at),
            is_free=is_free,
            refund_rule=REFUND_RULE,
        )

    async def book(self, who: Principal, command: BookOffer, once: IdempotencyKey) -> MarketBooking:
        """Book an offer: keep its time, hold the first slice, and begin, or wait for its start.

        A repetition goes on where the first was interrupted. Raises `MarketOfferNotFound`, `MarketOfferNotOpen`,
        `NotAdmitted`, `MarketTimeTaken`, `MarketBookingCostsMore`, `TooManyMarketBookings`, `InsufficientFunds`,
        `MinerInUse`, `MinerNotThere`, `MarketBookingOver` for one that was refused before.
        """
        booking = await self._place(who, command, once)
        row = await self._keeper.read(booking)
        if row.state == BookingState.PLACED:
            row = await self._keeper.open(row)
        if row.state in OVER and row.began_at is None:
            raise MarketBookingOver("This booking did not begin; nothing was paid.")
        return booking_view(row)

    @retrying
    async def _place(self, who: Principal, command: BookOffer, once: IdempotencyKey) -> str:
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, Placed)) is not None:
                return earlier.id
            offer = await _bookable(uow, command)
            await require_admitted(uow, who.account, offer.account)
            await lock_miner(uow, offer.miner)  # one after the other: plain inserts at one time would deadlock
            row = _new(who, offer, command)
            most = money.for_time(row.price_units, _length_ms(row))
            if command.most_units is not None and most > command.most_units:
                raise MarketBookingCostsMore(f"It costs {money.render(most)}.", cost=money.render(most))
            mine = (MarketBookingRow.account == who.account, MarketBookingRow.ended_at.is_(None))
            if (
                await uow.session.scalar(select(func.count()).select_from(MarketBookingRow).where(*mine)) or 0
            ) >= OPEN_MAX:
                raise TooManyMarketBookings
            values = {column.key: getattr(row, column.key) for column in MarketBookingRow.__table__.columns}
            placing = insert(MarketBookingRow).values(**values).on_conflict_do_nothing().returning(MarketBookingRow.id)
            if await uow.session.scalar(placing) is None:
                raise MarketTimeTaken
            await uow.audit(who.account, who.key, "market.book", row.id, offer=offer.id)
            await uow.answer(once, Placed(id=row.id))
            return row.id

    async def get(self, who: Principal, booking: str) -> MarketBooking:
        """A booking of which the caller is a side. Raises `MarketBookingNotFound`."""
        async with self._database.unit_of_work() as uow:
            return booking_view(await seen_by(uow, who, booking))

    async def statement(self, who: Principal, booking: str) -> BookingStatement:
        """The receipt of a booking, the same for both sides. Raises `MarketBookingNotFound`."""
        async with self._database.unit_of_work() as uow:
            row = await seen_by(uow, who, booking)
        return statement_of(row, await self._slices.of(booking))

    async def page(self, who: Principal, wanted: BookingsFilter) -> Sequence[MarketBooking]:
        """The bookings of which the caller is a side, from the newest on."""
        mine = or_(MarketBookingRow.account == who.account, MarketBookingRow.owner == who.account)
        query = select(MarketBookingRow).where(mine)
        if wanted.state is not None:
            query = query.where(MarketBookingRow.state == wanted.state)
        if wanted.after is not None:
            query = query.where(MarketBookingRow.id < wanted.after)
        async with self._database.reading() as session:
            rows = await session.scalars(query.order_by(MarketBookingRow.id.desc()).limit(wanted.limit))
            return [booking_view(row) for row in rows]

    async def give_back(self, who: Principal, booking: str) -> MarketBooking:
        """End a booking of the caller's early: what was used is paid. One that is over stays as it is.

        Raises `MarketBookingNotFound`.
        """
        async with self._database.unit_of_work() as uow:
            row = await uow.find(MarketBookingRow, booking, missing=MarketBookingNotFound)
            if not who.owns(row.account):
                raise MarketBookingNotFound
            if row.state not in OVER:
                await uow.audit(who.account, who.key, "market.give_back", booking)
        await self._keeper.end(booking, "released")
        return booking_view(await self._keeper.read(booking))

    @retrying
    async def interrupt(self, who: Principal, booking: str) -> MarketBooking:
        """Announce the end of an interruptible booking of the caller's miner; again, it changes nothing.

        Raises `MarketBookingNotFound`, `MarketBookingOver`, `NotInterruptible`.
        """
        async with self._database.unit_of_work() as uow:
            row = await _of_owner(uow, who, booking)
            if not row.interruptible:
                raise NotInterruptible
            if row.interrupt_at is None:
                row.interrupt_at = now() + NOTICE
                tell(uow, row, "notice", row.interrupt_at)
                await uow.audit(who.account, who.key, "market.interrupt", booking)
            return booking_view(row)

    @retrying
    async def propose(self, who: Principal, booking: str, price_units: int) -> MarketBooking:
        """Propose another price of an hour for a booking of the caller's miner: it holds only if its payer accepts.

        Raises `MarketBookingNotFound`, `MarketBookingOver`.
        """
        async with self._database.unit_of_work() as uow:
            row = await _of_owner(uow, who, booking)
            row.proposed_units = None if price_units == row.price_units else price_units
            tell(uow, row, "price_proposed")
            await uow.audit(who.account, who.key, "market.propose_price", booking, price_units=price_units)
            return booking_view(row)

    @retrying
    async def decide(self, who: Principal, booking: str, price_units: int, *, accepts: bool) -> MarketBooking:
        """Accept or decline a proposed price; accepted, it holds for each slice from the next one on.

        Raises `MarketBookingNotFound`, `MarketBookingOver`, `PriceNotProposed`.
        """
        async with self._database.unit_of_work() as uow:
            row = await uow.find(MarketBookingRow, booking, lock=True, missing=MarketBookingNotFound)
            if not who.owns(row.account):
                raise MarketBookingNotFound
            if row.state in OVER:
                raise MarketBookingOver
            if accepts and row.proposed_units is None and row.price_units == price_units:
                return booking_view(row)  # done before
            if row.proposed_units != price_units:
                raise PriceNotProposed
            row.price_units = price_units if accepts else row.price_units
            row.proposed_units = None
            tell(uow, row, "price_accepted" if accepts else "price_declined")
            action = "market.accept_price" if accepts else "market.decline_price"
            await uow.audit(who.account, who.key, action, booking, price_units=price_units)
            return booking_view(row)


async def _of_owner(uow: UnitOfWork, who: Principal, booking: str) -> MarketBookingRow:
    row = await uow.find(MarketBookingRow, booking, lock=True, missing=MarketBookingNotFound)
    if not who.owns(row.owner):
        raise MarketBookingNotFound
    if row.state in OVER:
        raise MarketBookingOver
    return row


async def _bookable(uow: UnitOfWork, command: BookOffer) -> OfferRow:
    """The offer, if it can be booked like this. Raises `MarketOfferNotFound`, `MarketOfferNotOpen`, `Invalid`."""
    offer = await uow.find(OfferRow, command.offer, missing=MarketOfferNotFound)
    if offer.sells != "device":
        raise Invalid(fields=(FieldError("/offer", "Expected an offer of a device: work is bought by jobs"),))
    if offer.state != "open" or offer.valid_until <= now():
        raise MarketOfferNotOpen
    if not offer.min_seconds <= command.seconds <= offer.max_seconds:
        bounds = f"Expected {offer.min_seconds} to {offer.max_seconds} seconds, as the offer has it"
        raise Invalid(fields=(FieldError("/duration_seconds", bounds),))
    if command.starts_at is not None and not now() - NOW <= command.starts_at <= now() + RESERVED_MAX:
        raise Invalid(fields=(FieldError("/starts_at", "Expected a time from now to 30 days from now"),))
    return offer


def _new(who: Principal, offer: OfferRow, command: BookOffer) -> MarketBookingRow:
    at = now()
    starts = max(at, command.starts_at or at)
    row = new_booking(
        ids.new_id("book"),
        offer,
        payer=who.account,
        price_units=offer.price_units,
        starts_at=starts,
        seconds=command.seconds,
    )
    row.label, row.idle_seconds, row.created_at = command.label, command.idle_seconds, at
    return row


def _length_ms(row: MarketBookingRow) -> int:
    return (row.ends_at - row.starts_at) // MILLISECOND
