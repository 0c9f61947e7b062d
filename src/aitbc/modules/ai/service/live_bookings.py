"""The bookings that jobs may name, as the events of gpu describe them."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.dialects.postgresql import insert as upsert

from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import BookingNotFound, BookingNotOpen
from aitbc.modules.ai.models.tables import BookingRow
from aitbc.modules.gpu.events import BookingProlonged, BookingStarted

RECENT = timedelta(seconds=60)
"""A booking that was made so short a time ago may be one whose event is on its way."""
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.75, 1.5)
"""How long its first job waits for the event, in all three seconds."""


class LiveBookings:
    """Kept by events, asked before a job is held for."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def require(self, who: Principal, booking: str) -> None:
        """Refuse a booking that is not the caller's, or over. Raises `BookingNotFound`, `BookingNotOpen`."""
        row = await self._find(booking)
        if row is None or row.account != who.account:
            raise BookingNotFound
        if row.ended_at is not None or (row.ends_at is not None and row.ends_at <= now()):
            raise BookingNotOpen

    async def _find(self, booking: str) -> BookingRow | None:
        """A booking; of one that was just made, as soon as its event has come."""
        row = await self._read(booking)
        if row is not None or not ids.is_id("book", booking) or now() - ids.made_at("book", booking) > RECENT:
            return row
        for pause in PAUSES:
            await asyncio.sleep(pause)
            if (row := await self._read(booking)) is not None:
                break
        return row

    async def _read(self, booking: str) -> BookingRow | None:
        async with self._db.reading() as session:
            return await session.get(BookingRow, booking)

    async def note(self, booking: str, account: str, ends_at: datetime) -> None:
        """Note a booking that another module has just seen to last: its event need not be waited for."""
        if await self._read(booking) is None:
            async with self._db.unit_of_work() as uow:
                await uow.session.execute(_started(booking, account, ends_at))

    async def apply_started(self, uow: UnitOfWork, events: Sequence[BookingStarted]) -> None:
        """Note bookings that began; one whose end came first stays over."""
        for event in sorted(events, key=lambda event: event.booking):
            await uow.session.execute(_started(event.booking, event.account, event.ends_at))

    async def apply_prolonged(self, uow: UnitOfWork, events: Sequence[BookingProlonged]) -> None:
        """Note until when bookings are paid for; one whose end came first stays over."""
        for event in sorted(events, key=lambda event: event.booking):
            row = upsert(BookingRow).values(id=event.booking, account=event.account, ends_at=event.ends_at)
            later = {"ends_at": func.greatest(BookingRow.ends_at, row.excluded.ends_at)}
            await uow.session.execute(row.on_conflict_do_update(index_elements=["id"], set_=later))


def _started(booking: str, account: str, ends_at: datetime) -> Insert:
    row = upsert(BookingRow).values(id=booking, account=account, ends_at=ends_at)
    kept = {"ends_at": func.coalesce(BookingRow.ends_at, row.excluded.ends_at)}
    return row.on_conflict_do_update(index_elements=["id"], set_=kept)
