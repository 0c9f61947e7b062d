"""Bookings by agreement: trading says what a buyer and a seller agreed on, and their booking is placed or refused.

An agreement is heard once, in the unit of work that places its booking; the keeper begins it, as often as it takes.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.marketplace.events import AgreedBookingChanged
from aitbc.modules.marketplace.models.bookings import HOUR_MS, MILLISECOND, MarketBookingRow, new_booking
from aitbc.modules.marketplace.models.tables import OfferRow
from aitbc.modules.marketplace.service.bids.book import lock_miners
from aitbc.modules.marketplace.service.terms import deal, terms_of
from aitbc.modules.trading.events import AgreementSigned

HEARD_WITHIN = timedelta(hours=1)
"""An agreement that is heard of later than this is refused: its sides have made other plans."""


async def place_agreed(uow: UnitOfWork, events: Sequence[AgreementSigned]) -> None:
    """Place the bookings of agreements about offers of the market; each is told to have been placed or refused."""
    wanted = [event for event in events if event.market_offer is not None and event.job_kind is None]
    kept = select(MarketBookingRow.agreement).where(
        MarketBookingRow.agreement.in_([event.agreement for event in wanted])
    )
    placed = set(await uow.session.scalars(kept)) if wanted else set()
    wanted = [event for event in wanted if event.agreement not in placed]
    offers = {event.agreement: await uow.session.get(OfferRow, event.market_offer) for event in wanted}
    await lock_miners(uow, (offer.miner for offer in offers.values() if offer is not None))
    for event in wanted:
        offer = offers[event.agreement]
        if offer is not None:
            await uow.session.refresh(offer)
        reason = await _refusal(uow, event, offer)
        booking = None
        if reason is None and offer is not None:
            booking = await _place(uow, event, offer)
            reason = None if booking is not None else "time_taken"
        uow.publish(_told(event, booking, reason))


async def _refusal(uow: UnitOfWork, event: AgreementSigned, offer: OfferRow | None) -> str | None:
    """Why an agreement cannot be kept; none where it can, as far as is known before its time is asked for."""
    if event.signed_at + HEARD_WITHIN < now():
        return "too_late"
    if offer is None or offer.account != event.seller or offer.sells != "device":
        return "no_such_offer"
    if offer.state != "open" or offer.valid_until <= now():
        return "offer_not_open"
    if not offer.min_seconds <= event.seconds <= offer.max_seconds or not _price_hour(event):
        return "does_not_fit"
    if not deal(await terms_of(uow, (event.buyer, event.seller)), event.buyer, event.seller):
        return "not_admitted"
    return None


async def _place(uow: UnitOfWork, event: AgreementSigned, offer: OfferRow) -> str | None:
    """Keep the time of a miner that is locked; none where somebody else has a part of it."""
    row = new_booking(
        ids.new_id("book"),
        offer,
        payer=event.buyer,
        price_units=_price_hour(event),
        starts_at=max(now(), event.starts_at or now()),
        seconds=event.seconds,
    )
    row.agreement = event.agreement
    values = {column.key: getattr(row, column.key) for column in MarketBookingRow.__table__.columns}
    placing = insert(MarketBookingRow).values(**values).on_conflict_do_nothing().returning(MarketBookingRow.id)
    placed: str | None = await uow.session.scalar(placing)
    return placed


def _price_hour(event: AgreementSigned) -> int:
    """What an hour costs where all of the time costs what was agreed on, rounded down."""
    length_ms = timedelta(seconds=event.seconds) // MILLISECOND
    return event.price_units * HOUR_MS // length_ms if length_ms else 0


def _told(event: AgreementSigned, booking: str | None, reason: str | None) -> AgreedBookingChanged:
    return AgreedBookingChanged(
        agreement=event.agreement,
        booking=booking,
        payer=event.buyer,
        owner=event.seller,
        news="refused" if booking is None else "placed",
        reason=reason,
    )
