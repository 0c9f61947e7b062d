"""The keeper of bookings: begins, prolongs, suspends, resumes and ends them, as time, money and miners have it.

It looks at each open booking again and again, and does the next step; a step that was interrupted is done again.
"""

from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.database.walk import keys_of
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.gpu.api import GpuApi, MinerInUse, MinerNotFound, MinerNotThere, MinerUse, UseMiner, UseNotFound
from aitbc.modules.marketplace.models.bookings import (
    AHEAD_MS,
    GRACE,
    LATE,
    MILLISECOND,
    NOW,
    PLACING,
    RUNS,
    SLICE_MS,
    BookingState,
    MarketBookingRow,
    affordable_ms,
    lasts_until,
    left_ms,
    next_millis,
    warning_level,
)
from aitbc.modules.marketplace.service.bookings.rows import locked, move, tell
from aitbc.modules.marketplace.service.bookings.slices import Slices
from aitbc.modules.trading.api import InsufficientFunds, TradingApi

DRIFT = timedelta(seconds=1)
WARNINGS = ("money_24h", "money_1h", "money_10m")

log = structlog.get_logger("aitbc.marketplace")


class BookingKeeper:
    """Moves bookings on."""

    def __init__(self, database: Database, gpu: GpuApi, trading: TradingApi, slices: Slices) -> None:
        self._database = database
        self._gpu = gpu
        self._trading = trading
        self._slices = slices

    async def keep(self) -> None:
        """Look at every open booking once."""
        async for page in keys_of(self._database, MarketBookingRow.id, MarketBookingRow.ended_at.is_(None)):
            uses = {use.booking: use for use in await self._gpu.uses(page)}
            for booking in page:
                try:
                    await self.advance(booking, uses.get(booking))
                except AppError as error:  # the next round tries again
                    log.warning("booking_waits", booking=booking, reason=error.message)

    async def advance(self, booking: str, use: MinerUse | None) -> None:
        """Do the next step of a booking, with its miner as it was just seen."""
        row = await self.read(booking)
        match BookingState(row.state):
            case BookingState.PLACED:
                if row.agreement is not None:  # nobody waits for it: it is begun here
                    await self.open(row)
                elif now() > row.created_at + PLACING:
                    await self.end(booking, "not_begun")
            case BookingState.RESERVED:
                if now() >= row.starts_at:
                    await self.begin(row)
            case BookingState.ACTIVE | BookingState.SUSPENDED:
                await self._go_on(row, use)
            case BookingState.ENDING:
                await self.finish(booking)

    async def read(self, booking: str) -> MarketBookingRow:
        """A booking as it is now."""
        async with self._database.reading() as session:
            return await session.get_one(MarketBookingRow, booking)

    async def open(self, row: MarketBookingRow) -> MarketBookingRow:
        """Hold the first slice of a placed booking, and begin it, or let it wait for its start.

        Raises `InsufficientFunds`, and `MinerInUse`, `MinerNotThere`, `MinerNotFound` for one that was to begin now.
        """
        first = min(SLICE_MS, (row.ends_at - row.starts_at) // MILLISECOND)
        if not row.held_ms and not await self._slices.hold_next(row.id, first):
            await self.end(row.id, "no_funds")
            raise InsufficientFunds(needed=money.render(money.for_time(row.price_units, first)))
        row = await self.read(row.id)
        if row.starts_at > now() + NOW:
            await self._move(row, BookingState.RESERVED, "reserved")
        else:
            await self.begin(row)
        return await self.read(row.id)

    async def begin(self, row: MarketBookingRow) -> None:
        """Give a booking its miner. Where that cannot be had, it waits, or ends if it was to begin now.

        Raises `MinerInUse`, `MinerNotThere`, `MinerNotFound` for one that was to begin now.
        """
        if now() >= row.ends_at:
            return await self.end(row.id, "miner_unavailable")
        command = UseMiner(booking=row.id, miner=row.miner, account=row.account, paid_ms=row.held_ms)
        try:
            await self._gpu.begin_use(command)
        except (MinerInUse, MinerNotThere, MinerNotFound):
            if row.state == BookingState.PLACED or now() > row.starts_at + LATE:
                await self.end(row.id, "miner_unavailable")
                if row.state == BookingState.PLACED:
                    raise
            return None
        await self._move(row, BookingState.ACTIVE, "started", began_at=now(), busy_at=now())
        if (await self.read(row.id)).state not in RUNS:  # it ended meanwhile
            await self._give_back(row.id)
        return None

    @retrying
    async def _move(self, row: MarketBookingRow, after: BookingState, news: str, **values: object) -> None:
        async with self._database.unit_of_work() as uow:
            await move(uow, row.id, BookingState(row.state), after, news=news, **values)

    async def _go_on(self, row: MarketBookingRow, use: MinerUse | None) -> None:
        at = now()
        if (reason := _reason_to_end(row, use, at)) is not None:
            return await self.end(row.id, reason)
        assert use is not None, "without its miner it has a reason to end"
        await self._slices.pay_used(row.id, use.used_ms, is_over=False)
        available = (await self._trading.balance(row.account)).available_units
        row = await self._look(row.id, use, available, at)
        millis = affordable_ms(row, available, next_millis(row, at))
        if left_ms(row) <= AHEAD_MS and await self._slices.hold_next(row.id, millis):
            row = await self.read(row.id)
        if row.state == BookingState.ACTIVE and not left_ms(row):
            return await self._move(row, BookingState.SUSPENDED, "suspended", suspended_at=at)
        if row.state == BookingState.SUSPENDED and left_ms(row):
            await self._gpu.prolong_use(row.id, row.held_ms)
            return await self._move(row, BookingState.ACTIVE, "resumed", busy_at=at)
        if row.state == BookingState.ACTIVE and _is_behind(use, row, at):
            await self._gpu.prolong_use(row.id, row.held_ms)
        return None

    @retrying
    async def _look(self, booking: str, use: MinerUse, available: int, at: datetime) -> MarketBookingRow:
        """Note what was used, until when the money lasts, and warn of its end."""
        async with self._database.unit_of_work() as uow:
            row = await locked(uow, booking)
            if row.state in RUNS:
                row.used_ms = max(row.used_ms, min(use.used_ms, row.held_ms))
                row.busy_at = at if use.busy else row.busy_at
                row.money_until = lasts_until(row, available, at)
                level = warning_level(row, row.money_until, at)
                if level > row.warned and row.state == BookingState.ACTIVE:
                    tell(uow, row, WARNINGS[level - 1])
                row.warned = level
            return row

    async def end(self, booking: str, reason: str) -> None:
        """End a booking that is open: its miner goes back, what was used is paid, and the rest returns."""
        await self._close(booking, reason)
        with suppress(AppError):  # the next round tries again
            await self.finish(booking)

    @retrying
    async def _close(self, booking: str, reason: str) -> None:
        async with self._database.unit_of_work() as uow:
            row = await uow.session.get_one(MarketBookingRow, booking)
            if BookingState(row.state) not in (BookingState.ENDING, BookingState.ENDED):
                await move(uow, booking, BookingState(row.state), BookingState.ENDING, news="ending", reason=reason)

    async def finish(self, booking: str) -> None:
        """Take the miner back, pay what was used, return the rest, and call it ended."""
        row = await self.read(booking)
        if row.state != BookingState.ENDING:
            return
        used = await self._give_back(booking)
        await self._slices.pay_used(booking, used, is_over=True)
        await self._move(row, BookingState.ENDED, "ended", used_ms=used, ended_at=now())

    async def _give_back(self, booking: str) -> int:
        """Take the miner back; how much of the held time was used."""
        try:
            use = await self._gpu.end_use(booking)
        except UseNotFound:
            return 0
        row = await self.read(booking)
        return 0 if row.began_at is None else min(use.used_ms, row.held_ms)


def _is_behind(use: MinerUse, row: MarketBookingRow, at: datetime) -> bool:
    """Whether gpu knows of less time than is held, or its miner was away for a part of it."""
    return use.paid_ms < row.held_ms or use.paid_until < at + left_ms(row) * MILLISECOND - DRIFT


def _reason_to_end(row: MarketBookingRow, use: MinerUse | None, at: datetime) -> str | None:
    """Why a booking that has begun ends now; none while it goes on."""
    if at >= row.ends_at:
        return "completed"
    if use is None or not use.is_open:
        return "miner_lost"
    if row.interrupt_at is not None and at >= row.interrupt_at:
        return "interrupted"
    if not use.is_reachable and (use.seen_at is None or at > use.seen_at + LATE):
        return "miner_lost"
    if row.suspended_at is not None:
        return "unpaid" if at > row.suspended_at + GRACE else None
    if row.idle_seconds is not None and not use.busy and row.busy_at is not None:
        return "idle" if at >= row.busy_at + timedelta(seconds=row.idle_seconds) else None
    return None
