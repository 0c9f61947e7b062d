"""The keeper of bids: lets offers that came or are free again meet resting bids, ends what is over, returns money.

A step that was interrupted is done again.
"""

from contextlib import suppress

import structlog
from sqlalchemy import select

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.marketplace.models.bids import (
    PLACING,
    BidAskRow,
    BidPartRow,
    BidRow,
    BidState,
    PartState,
)
from aitbc.modules.marketplace.models.bookings import BookingState, MarketBookingRow
from aitbc.modules.marketplace.models.engine import AskArrived, BidEnded, RequestClosed
from aitbc.modules.marketplace.models.tables import OfferRow
from aitbc.modules.marketplace.service.bids.book import (
    end,
    fitting,
    happen,
    load_engine,
    lock_book,
    lock_miners,
    posted,
    tell,
)
from aitbc.modules.marketplace.service.bookings.keeper import BookingKeeper
from aitbc.modules.trading.api import HoldNotFound, HoldNotOpen, TradingApi

PAGE = 200

log = structlog.get_logger("aitbc.marketplace")


class BidKeeper:
    """Moves bids on."""

    def __init__(self, database: Database, trading: TradingApi, bookings: BookingKeeper) -> None:
        self._database = database
        self._trading = trading
        self._bookings = bookings

    async def keep(self) -> None:
        """End what is over, match what is free, begin what was traded, and return what is not needed."""
        open_ = select(BidRow).where(BidRow.ended_at.is_(None)).order_by(BidRow.id)
        async with self._database.reading() as session:
            rows = (await session.scalars(open_)).all()
        for row in rows:
            if row.state == BidState.PLACING and now() > row.created_at + PLACING:
                await self.give_up(row.id, "not_placed")
            elif row.state == BidState.OPEN and now() >= row.valid_until:
                await self._end_by_time(row.id)
        if any(row.state == BidState.OPEN and row.kind == "bid" for row in rows):
            await self._match()
        await self.settle()

    async def settle(self) -> None:
        """Begin the bookings that were traded and not begun, and return the money of parts that are over."""
        placed = (
            select(MarketBookingRow)
            .join(BidPartRow, BidPartRow.booking == MarketBookingRow.id)
            .where(MarketBookingRow.ended_at.is_(None), MarketBookingRow.state == BookingState.PLACED)
        )
        over = select(BidPartRow).where(BidPartRow.state == PartState.RETURNING)
        async with self._database.reading() as session:
            bookings = (await session.scalars(placed.limit(PAGE))).all()
            parts = (await session.scalars(over.limit(PAGE))).all()
        for booking in bookings:
            with suppress(AppError):  # it has ended, and says why; or the next round tries again
                await self._bookings.begin(booking)
        for part in parts:
            try:
                await self._return(part)
            except AppError as error:  # the next round tries again
                log.warning("bid_waits", bid=part.bid, reason=error.message)

    async def return_all(self, bid: str) -> None:
        """Return whatever is held of a bid that never came into the book."""
        async with self._database.reading() as session:
            holds = (await session.scalars(select(BidPartRow.hold).where(BidPartRow.bid == bid))).all()
        for hold in holds:
            with suppress(HoldNotFound, HoldNotOpen):
                await self._trading.void(hold, "bid over")

    async def _return(self, part: BidPartRow) -> None:
        with suppress(HoldNotFound, HoldNotOpen):
            await self._trading.void(part.hold, "bid over")
        await self._note_returned(part)

    @retrying
    async def _note_returned(self, returned: BidPartRow) -> None:
        async with self._database.unit_of_work() as uow:
            part = await uow.session.get_one(BidPartRow, (returned.bid, returned.number), with_for_update=True)
            if part.state == PartState.RETURNING:
                part.state = PartState.RETURNED

    @retrying
    async def give_up(self, bid: str, reason: str) -> None:
        """End a bid that was not placed; what was held of it goes back."""
        async with self._database.unit_of_work() as uow:
            await lock_book(uow)
            row = await uow.session.get_one(BidRow, bid, populate_existing=True)
            if row.state == BidState.PLACING:
                await end(uow, row, BidState.CANCELED, reason)

    @retrying
    async def _end_by_time(self, bid: str) -> None:
        async with self._database.unit_of_work() as uow:
            await lock_book(uow)
            engine = await load_engine(uow)
            row = await uow.session.get_one(BidRow, bid)
            if row.state != BidState.OPEN:
                return None
            if row.kind == "bid":
                await happen(uow, engine, BidEnded(bid=bid))
                return await end(uow, row, BidState.EXPIRED, "expired")
            asked = (await uow.session.scalars(select(BidAskRow.offer).where(BidAskRow.bid == bid))).all()
            offers = (await uow.session.scalars(select(OfferRow).where(OfferRow.id.in_(asked)))).all()
            await lock_miners(uow, (offer.miner for offer in offers))
            free = tuple(sorted(offer.id for offer in await fitting(uow, row, only=asked)))
            await happen(uow, engine, RequestClosed(bid=bid, free=free))
            if row.filled:
                return await end(uow, row, BidState.FILLED, None if row.filled == row.quantity else "closed")
            return await end(uow, row, BidState.EXPIRED, "closed")

    @retrying
    async def _match(self) -> None:
        """Let each offer that is free and fits resting bids meet them, the oldest offer first."""
        async with self._database.unit_of_work() as uow:
            await lock_book(uow)
            engine = await load_engine(uow)
            resting = [await uow.session.get_one(BidRow, bid) for bid in engine.resting]
            found = {
                offer.id: offer for row in resting for offer in await fitting(uow, row, limit_units=row.limit_units)
            }
            if not found:
                return
            await lock_miners(uow, (offer.miner for offer in found.values()))
            fits: dict[str, list[str]] = {}
            for row in resting:
                for offer in await fitting(uow, row, only=list(found), limit_units=row.limit_units):
                    fits.setdefault(offer.id, []).append(row.id)
            taken: set[str] = set()
            for offer in sorted(found.values(), key=lambda offer: (offer.changed_at, offer.id)):
                if offer.miner in taken or not (set(fits.get(offer.id, ())) & engine.resting.keys()):
                    continue
                event = AskArrived(ask=posted(offer), fits=tuple(fits[offer.id]))
                _, outcome = await happen(uow, engine, event)
                for trade in outcome.trades:
                    taken.add(offer.miner)
                    row = await uow.session.get_one(BidRow, trade.bid)
                    if row.filled == row.quantity:
                        await end(uow, row, BidState.FILLED, None)
                    else:
                        tell(uow, row)
