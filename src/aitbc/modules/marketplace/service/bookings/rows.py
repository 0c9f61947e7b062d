"""Rows of bookings: found, moved by compare-and-set, and told of. A booking's offer is locked before it."""

from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import Conflict, NotFound
from aitbc.modules.marketplace.events import AgreedBookingChanged, MarketBookingChanged
from aitbc.modules.marketplace.models.bookings import MOVES, RUNS, BookingState, MarketBookingRow, SliceRow
from aitbc.modules.marketplace.models.tables import OfferRow


class MarketBookingNotFound(NotFound):
    """There is no such booking of an offer, or it is neither yours nor of a miner of yours."""

    code = "market_booking_not_found"


class MarketBookingOver(Conflict):
    """This booking has ended, or is not so far."""

    code = "market_booking_over"


async def locked(uow: UnitOfWork, booking: str) -> MarketBookingRow:
    """A booking, locked."""
    return await uow.session.get_one(MarketBookingRow, booking, with_for_update=True, populate_existing=True)


async def seen_by(uow: UnitOfWork, who: Principal, booking: str, *, lock: bool = False) -> MarketBookingRow:
    """A booking of which the caller is a side. Raises `MarketBookingNotFound`."""
    row = await uow.find(MarketBookingRow, booking, lock=lock, missing=MarketBookingNotFound)
    if not (who.owns(row.account) or who.owns(row.owner)):
        raise MarketBookingNotFound
    return row


async def move(
    uow: UnitOfWork, booking: str, before: BookingState, after: BookingState, *, news: str, **values: Any
) -> MarketBookingRow | None:
    """Move a booking on, if it is still where it was; its offer is taken while its miner is kept for it."""
    assert after in MOVES[before]
    offer = (await uow.session.get_one(MarketBookingRow, booking)).offer
    if (before in RUNS) != (after in RUNS):
        taken = OfferRow.capacity if after in RUNS else 0
        await uow.session.execute(update(OfferRow).where(OfferRow.id == offer).values(taken=taken))
    row = await locked(uow, booking)
    if row.state != before:
        return None
    row.state = after
    row.suspended_at = None
    for name, value in values.items():
        setattr(row, name, value)
    tell(uow, row, news)
    await uow.session.flush()
    if after == BookingState.ENDED and row.agreement is not None:
        uow.publish(await _agreed_ended(uow, row, row.agreement))
    return row


async def _agreed_ended(uow: UnitOfWork, row: MarketBookingRow, agreement: str) -> AgreedBookingChanged:
    fees = select(total(SliceRow.fee_units)).where(SliceRow.booking == row.id)
    return AgreedBookingChanged(
        agreement=agreement,
        booking=row.id,
        payer=row.account,
        owner=row.owner,
        news="ended",
        reason=row.reason,
        paid_units=row.paid_units,
        fee_units=(await uow.session.scalar(fees)) or 0,
    )


def tell(uow: UnitOfWork, row: MarketBookingRow, news: str, until: datetime | None = None) -> None:
    """Publish what happened to a booking, for both its sides."""
    uow.publish(
        MarketBookingChanged(
            booking=row.id,
            payer=row.account,
            owner=row.owner,
            miner=row.miner,
            news=news,
            state=row.state,
            reason=row.reason,
            money_until=until or row.money_until,
        )
    )
