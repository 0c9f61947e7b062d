"""The money of bookings: held when one is placed, paid or returned when it is over."""

from contextlib import suppress
from datetime import timedelta

import structlog
from sqlalchemy import update

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.parameters import Parameters
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.gpu.api import PaidBooking
from aitbc.modules.gpu.models.bookings import PAID, BookingRow, BookingState, hold_of
from aitbc.modules.gpu.service.booking_states import end_booking
from aitbc.modules.gpu.service.settings import GpuSettings
from aitbc.modules.trading.api import HoldNotFound, HoldNotOpen, InsufficientFunds, PayRent, PlaceHold, Rent, TradingApi

HOLD_MARGIN = timedelta(days=7)
"""How much longer than the booking itself its money is held: an end that was missed is paid for so much later."""

log = structlog.get_logger("aitbc.gpu")


class BookingPayments:
    """Holding, paying and returning the money of bookings."""

    def __init__(self, db: Database, trading: TradingApi, settings: GpuSettings, parameters: Parameters) -> None:
        self._db = db
        self._settings = settings
        self._trading = trading
        self._parameters = parameters

    def require_open(self) -> None:
        """Raises `ModulePaused` while governance has new bookings stopped."""
        self._parameters.require_open("gpu")

    def grace(self, *, legacy: bool) -> timedelta:
        """How long after a heartbeat the time of a booking is paid; a legacy miner sends none while it works."""
        patience = self._settings.older_patience_seconds if legacy else 0.0
        return timedelta(seconds=max(self._settings.offline_seconds, patience))

    async def hold(self, placed: BookingRow, key: str) -> None:
        """Hold what all of a booking's time costs; where that fails, the booking is refused.

        `key` is the API key by which budgets count it. Raises `InsufficientFunds`, and whatever keeps the ledger from
        answering.
        """
        if not placed.total_units:
            return
        command = PlaceHold(
            hold=hold_of(placed.id),
            payer=placed.account,
            amount_units=placed.total_units,
            expires_at=placed.ends_at + HOLD_MARGIN,
            reference=placed.id,
            key=key,
        )
        try:
            await self._trading.hold(command)
        except AppError as refusal:
            await self.refuse(placed.id, nothing_held=isinstance(refusal, InsufficientFunds))
            raise

    async def refuse(self, booking: str, *, nothing_held: bool) -> None:
        """End a booking that did not begin; what may be held for it returns."""
        with suppress(AppError):  # the reconciler tries again
            async with self._db.unit_of_work() as uow:
                row = await uow.session.get_one(BookingRow, booking)
                refused = await end_booking(uow, row, BookingState.REFUSED, now(), stopped=False)
                if refused and nothing_held:
                    row.settled_at = row.ended_at
            if refused and not nothing_held:
                await self.settle(booking)

    async def settle(self, booking: str) -> None:
        """Pay for a booking that has ended, or return its money, once."""
        async with self._db.reading() as session:
            row = await session.get_one(BookingRow, booking)
        if row.ended_at is None or row.settled_at is not None:
            return
        rent = await (self._pay(row) if row.state in PAID else self._return(row))
        paid = {} if rent is None else {"transaction": rent.transaction, "fee_units": rent.fee_units}
        unsettled = update(BookingRow).where(BookingRow.id == booking, BookingRow.settled_at.is_(None))
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(unsettled.values(settled_at=now(), **paid))

    async def paid(self, booking: str) -> PaidBooking | None:
        """What was paid for a booking of a listed GPU; none where there is none, or nothing was paid for it."""
        async with self._db.reading() as session:
            row = await session.get(BookingRow, booking)
        if row is None or row.gpu is None or row.ended_at is None or row.transaction is None or not row.cost_units:
            return None
        return PaidBooking(
            booking=row.id,
            payer=row.account,
            owner=row.owner,
            miner=row.miner,
            price_units=row.cost_units,
            fee_units=row.fee_units,
            ended_at=row.ended_at,
        )

    async def _pay(self, row: BookingRow) -> Rent | None:
        """Pay the owner; none where the money was returned to the payer at its deadline, days after the end."""
        assert row.cost_units is not None, "what has ended has a cost"
        command = PayRent(
            hold=hold_of(row.id),
            payer=row.account,
            owner=row.owner,
            reference=row.id,
            price_units=row.cost_units,
            reason=_reason(row),
        )
        try:
            return await self._trading.pay_rent(command)
        except (HoldNotOpen, HoldNotFound) as refusal:
            log.warning("booking_unpaid", booking=row.id, reason=refusal.message)
            return None

    async def _return(self, row: BookingRow) -> None:
        with suppress(HoldNotFound, HoldNotOpen):  # it was never held, or has gone back by itself
            await self._trading.void(hold_of(row.id), row.state)


def _reason(row: BookingRow) -> str:
    """How a booking ended, and for how long its booker had a machine."""
    return row.state if not row.machine_ms else f"{row.state}; a machine ran for {row.machine_ms / 1000:.3f} s"
