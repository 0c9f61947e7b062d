"""The reconciler of bookings: ends those whose time is over, refuses those that never began, settles those that
ended."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from sqlalchemy import or_, select, tuple_

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.api import AiApi
from aitbc.modules.gpu.models.bookings import IS_OPEN, BookingRow, BookingState
from aitbc.modules.gpu.service.booked_work import stop_work
from aitbc.modules.gpu.service.booking_payments import BookingPayments
from aitbc.modules.gpu.service.booking_states import end_booking

PLACING = timedelta(seconds=60)
"""A booking whose money is not held after so long lost its maker on the way."""
PAGE = 200


class BookingReconciler:
    """Moves bookings on that time or a crash left behind."""

    def __init__(self, db: Database, ai: AiApi, payments: BookingPayments) -> None:
        self._db = db
        self._ai = ai
        self._payments = payments

    async def reconcile(self) -> None:
        """End the bookings whose time is over, refuse those that never began, and settle what ended."""
        edge = datetime.min.replace(tzinfo=now().tzinfo), f"book_{'0' * 26}"
        while page := await self._due(edge):
            edge = page[-1].ends_at, page[-1].id
            for row in page:
                await self._end(row)
        last = f"book_{'0' * 26}"
        while unsettled := await self._unsettled(last):
            last = unsettled[-1]
            for booking in unsettled:
                with suppress(AppError):  # the next round tries again
                    await self._payments.settle(booking)

    async def _due(self, edge: tuple[datetime, str]) -> Sequence[BookingRow]:
        """Open bookings that need looking after, page after page."""
        at = now()
        over = BookingRow.ends_at <= at
        stuck = (BookingRow.state == BookingState.PLACED) & (BookingRow.starts_at < at - PLACING)
        query = (
            select(BookingRow)
            .where(IS_OPEN, BookingRow.gpu.is_not(None), or_(over, stuck))
            .where(tuple_(BookingRow.ends_at, BookingRow.id) > edge)
            .order_by(BookingRow.ends_at, BookingRow.id)
            .limit(PAGE)
        )
        async with self._db.reading() as session:
            return (await session.scalars(query)).all()

    async def _end(self, row: BookingRow) -> None:
        """End one that is over. One that waits for its money has its minute, however short its time."""
        if row.state == BookingState.PLACED:
            if row.starts_at < now() - PLACING:
                await self._payments.refuse(row.id, nothing_held=False)
            return
        with suppress(AppError):  # the next round tries again
            stopped = await stop_work(self._ai, row)
            async with self._db.unit_of_work() as uow:
                await end_booking(uow, row, BookingState.ENDED, now(), stopped=stopped)

    async def _unsettled(self, after: str) -> Sequence[str]:
        ended = (BookingRow.settled_at.is_(None), BookingRow.ended_at.is_not(None))
        query = select(BookingRow.id).where(*ended, BookingRow.id > after).order_by(BookingRow.id).limit(PAGE)
        async with self._db.reading() as session:
            return (await session.scalars(query)).all()
