"""The money of bookings: slices are held before they are used, and paid when they are over; each once."""

from collections.abc import Sequence
from contextlib import suppress

import structlog
from sqlalchemy import select

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.modules.marketplace.models.bookings import (
    HELD_AFTER,
    BookingState,
    MarketBookingRow,
    SliceRow,
    ask_for,
    due_units,
    new_slice,
)
from aitbc.modules.marketplace.service.bookings.rows import locked
from aitbc.modules.trading.api import HoldNotFound, HoldNotOpen, InsufficientFunds, PayRent, PlaceHold, TradingApi

OVER = (BookingState.ENDING, BookingState.ENDED)

log = structlog.get_logger("aitbc.marketplace")


class Slices:
    """Holds and pays."""

    def __init__(self, database: Database, trading: TradingApi) -> None:
        self._database = database
        self._trading = trading

    async def hold_next(self, booking: str, millis: int) -> bool:
        """Hold the next slice, or the one that was asked for before a crash; whether the payer's money covers it.

        Raises what keeps the ledger from answering: then nobody knows, and asking again goes on with the same slice.
        """
        asked = await self._ask(booking, millis)
        if asked is None:
            return False
        row, one = asked
        if one.amount_units:
            command = PlaceHold(
                hold=one.hold,
                payer=row.account,
                amount_units=one.amount_units,
                expires_at=row.ends_at + HELD_AFTER,
                reference=row.id,
            )
            try:
                await self._trading.hold(command)
            except InsufficientFunds:
                await self._note(row.id, one.number, "unfunded")
                return False
        if not await self._note(row.id, one.number, "held"):  # it ended meanwhile
            await self._return(one.hold)
            return False
        return True

    @retrying
    async def _ask(self, booking: str, millis: int) -> tuple[MarketBookingRow, SliceRow] | None:
        async with self._database.unit_of_work() as uow:
            row = await locked(uow, booking)
            if row.state in OVER:
                return None
            unheld = SliceRow.state.in_(("asked", "unfunded"))
            one = (await uow.session.scalars(select(SliceRow).where(SliceRow.booking == booking, unheld))).one_or_none()
            if one is not None and one.state == "asked":
                return row, one  # of before a crash: whether it was held, the ledger knows
            if millis <= 0:
                return None
            if one is None:
                one = new_slice(row)
                row.slices += 1
                uow.add(one)
            ask_for(one, row, millis)
            await uow.session.flush()
            return row, one

    @retrying
    async def _note(self, booking: str, number: int, state: str) -> bool:
        """Say what came of asking for a slice; false where its booking is over."""
        async with self._database.unit_of_work() as uow:
            row = await locked(uow, booking)
            one = await uow.session.get_one(SliceRow, (booking, number), with_for_update=True, populate_existing=True)
            if one.state != "asked":
                return one.state == state
            if row.state in OVER:
                state = "returned"
            one.state = state
            if state == "held":
                row.held_ms += one.millis
            return state == "held"

    async def pay_used(self, booking: str, used_ms: int, *, is_over: bool) -> None:
        """Pay the slices that are used in full; at the end also what is used of the last ones, and return the rest."""
        begins = 0
        for one in await self.of(booking):
            if one.state == "asked":
                if is_over:  # a crash: whether it was held, the ledger knows
                    await self._return(one.hold)
                    await self._note(booking, one.number, "returned")
                continue
            if one.state == "held" and (is_over or used_ms >= begins + one.millis):
                await self._pay(booking, one, due_units(one, begins, used_ms))
            if one.state in ("held", "paid"):
                begins += one.millis

    async def _pay(self, booking: str, one: SliceRow, units: int) -> None:
        transaction, fee = None, 0
        if one.amount_units and units:
            async with self._database.reading() as session:
                row = await session.get_one(MarketBookingRow, booking)
            command = PayRent(
                hold=one.hold,
                payer=row.account,
                owner=row.owner,
                reference=row.id,
                price_units=units,
                reason=row.reason or "slice",
            )
            try:
                rent = await self._trading.pay_rent(command)
                transaction, fee = rent.transaction, rent.fee_units
            except (HoldNotOpen, HoldNotFound) as refusal:  # it went back at its deadline, days after the end
                log.warning("slice_unpaid", booking=booking, number=one.number, reason=refusal.message)
                units = 0
        elif one.amount_units:
            await self._return(one.hold)
        await self._settle(booking, one, units, fee, transaction)

    @retrying
    async def _settle(self, booking: str, settled: SliceRow, units: int, fee: int, transaction: str | None) -> None:
        async with self._database.unit_of_work() as uow:
            row = await locked(uow, booking)
            key = (booking, settled.number)
            one = await uow.session.get_one(SliceRow, key, with_for_update=True, populate_existing=True)
            if one.state == "held":
                is_free = not one.amount_units  # a price so low that a slice rounds to nothing
                one.state = "paid" if units or is_free else "returned"
                one.paid_units, one.fee_units, one.transaction = units, fee, transaction
                row.paid_units += units

    async def _return(self, hold: str) -> None:
        with suppress(HoldNotFound, HoldNotOpen):
            await self._trading.void(hold, "not used")

    async def of(self, booking: str) -> Sequence[SliceRow]:
        """The slices of a booking, from the first on."""
        query = select(SliceRow).where(SliceRow.booking == booking).order_by(SliceRow.number)
        async with self._database.reading() as session:
            return (await session.scalars(query)).all()
