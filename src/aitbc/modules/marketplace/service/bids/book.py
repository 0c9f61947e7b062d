"""The book in a unit of work: one event after the other, each written to the log with all that the engine goes by.

The book is locked first; then come miners in the order of their ids, which whoever books a miner locks too.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Select, func, select, text
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.clock import now
from aitbc.modules.marketplace.events import MarketBidChanged
from aitbc.modules.marketplace.models.bids import (
    BidAskRow,
    BidPartRow,
    BidRow,
    BidState,
    BookEventRow,
    PartState,
    first_ms,
    order_of,
)
from aitbc.modules.marketplace.models.bookings import HOUR_MS, MarketBookingRow, SliceRow, new_booking
from aitbc.modules.marketplace.models.engine import Ask, BookEvent, Engine, Outcome, Trade, event_text
from aitbc.modules.marketplace.models.search.conditions import condition
from aitbc.modules.marketplace.models.search.grammar import fields_of, parse
from aitbc.modules.marketplace.models.tables import MinerRow, OfferRow
from aitbc.modules.marketplace.service.terms import deal, terms_of

LOCK = 0x626F6F6B
CANDIDATES = 50
"""So many of the cheapest offers are looked at for a bid: more than it can be for."""


async def lock_book(uow: UnitOfWork) -> None:
    """Let events happen one after the other, until this unit of work ends."""
    await uow.session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK})


async def load_engine(uow: UnitOfWork) -> Engine:
    """The book as the rows have it: what replaying the log leads to."""
    engine = Engine()
    resting = select(BidRow).where(BidRow.ended_at.is_(None), BidRow.state == BidState.OPEN).order_by(BidRow.sequence)
    rows = (await uow.session.scalars(resting, execution_options={"populate_existing": True})).all()
    asked = select(BidAskRow).where(BidAskRow.bid.in_([row.id for row in rows if row.kind == "request"]))
    asks = (await uow.session.scalars(asked.order_by(BidAskRow.asked_at, BidAskRow.offer))).all()
    for row in rows:
        if row.kind == "bid":
            engine.resting[row.id] = (order_of(row), row.quantity - row.filled)
        else:
            engine.requests[row.id] = (order_of(row), {ask.offer: ask_of(ask) for ask in asks if ask.bid == row.id})
    return engine


def ask_of(row: BidAskRow) -> Ask:
    """An ask that was made for a request, as the engine takes it."""
    return Ask(offer=row.offer, owner=row.owner, price_units=row.price_units, since=row.asked_at)


async def happen(uow: UnitOfWork, engine: Engine, event: BookEvent) -> tuple[int, Outcome]:
    """Let an event happen: it is written to the log, and what it trades becomes bookings."""
    sequence, outcome = await record(uow, engine, event)
    for trade in outcome.trades:
        await _book(uow, trade)
    await uow.session.flush()
    return sequence, outcome


async def record(uow: UnitOfWork, engine: Engine, event: BookEvent) -> tuple[int, Outcome]:
    """Write an event to the log, with the book locked, and let the engine say what comes of it."""
    sequence = (await uow.session.scalar(select(func.coalesce(func.max(BookEventRow.sequence), 0)))) or 0
    outcome = engine.apply(event)
    uow.add(BookEventRow(sequence=sequence + 1, body=event_text(event), trades=len(outcome.trades), created_at=now()))
    await uow.session.flush()
    return sequence + 1, outcome


async def fitting(
    uow: UnitOfWork, bid: BidRow, *, only: Collection[str] | None = None, limit_units: int | None = None
) -> list[OfferRow]:
    """The offers that a bid could have now, the cheapest first, one of each miner. Raises `SearchInvalid`."""
    at = now()
    rows = (await uow.session.scalars(_wanted(bid, at, only, limit_units))).all()
    terms = await terms_of(uow, {bid.account, *(row.account for row in rows)})
    found: dict[str, OfferRow] = {}
    for row in rows:
        if deal(terms, bid.account, row.account):
            found.setdefault(row.miner, row)
    return list(found.values())


def _wanted(bid: BidRow, at: datetime, only: Collection[str] | None, limit_units: int | None) -> Select[OfferRow]:
    tree = parse(bid.filter)
    until = at + timedelta(seconds=bid.seconds)
    taken = select(MarketBookingRow.id).where(
        MarketBookingRow.miner == OfferRow.miner,
        MarketBookingRow.ended_at.is_(None),
        MarketBookingRow.starts_at < until,
        MarketBookingRow.ends_at > at,
    )
    wanted = select(OfferRow).where(
        OfferRow.state == "open",
        OfferRow.sells == "device",
        OfferRow.taken == 0,
        OfferRow.valid_until > at,
        OfferRow.account != bid.account,
        OfferRow.min_seconds <= bid.seconds,
        OfferRow.max_seconds >= bid.seconds,
        OfferRow.price_units * first_ms(bid.seconds) >= HOUR_MS,
        ~taken.exists(),
        condition(tree),
    )
    if limit_units is not None:
        wanted = wanted.where(OfferRow.price_units <= limit_units)
    if "status" not in fields_of(tree):
        wanted = wanted.where(OfferRow.status == "online")
    if only is not None:
        wanted = wanted.where(OfferRow.id.in_(only))
    return wanted.order_by(OfferRow.price_units, OfferRow.changed_at, OfferRow.id).limit(CANDIDATES)


async def lock_miners(uow: UnitOfWork, miners: Iterable[str]) -> None:
    """Lock miners in the order of their ids: nobody else books them until this unit of work ends."""
    wanted = select(MinerRow.id).where(MinerRow.id.in_(sorted(set(miners)))).order_by(MinerRow.id)
    await uow.session.execute(wanted.with_for_update(key_share=True))


async def asks_for(uow: UnitOfWork, bid: BidRow) -> list[Ask]:
    """The asks that a bid finds, of miners that are locked and free."""
    found = await fitting(uow, bid, limit_units=bid.limit_units)
    await lock_miners(uow, (offer.miner for offer in found))
    still = await fitting(uow, bid, only=[offer.id for offer in found], limit_units=bid.limit_units)
    return [posted(offer) for offer in still]


def posted(offer: OfferRow) -> Ask:
    """An offer, as the engine takes it."""
    return Ask(offer=offer.id, owner=offer.account, price_units=offer.price_units, since=offer.changed_at)


async def parts_of(uow: UnitOfWork, bid: str) -> Sequence[BidPartRow]:
    """The parts of a bid, from the first on."""
    wanted = select(BidPartRow).where(BidPartRow.bid == bid).order_by(BidPartRow.number)
    return (await uow.session.scalars(wanted, execution_options={"populate_existing": True})).all()


async def end(uow: UnitOfWork, row: BidRow, state: BidState, reason: str | None) -> None:
    """End a bid: what is held for what is left of it goes back."""
    row.state, row.reason, row.ended_at = state, reason, now()
    for part in await parts_of(uow, row.id):
        if part.state in (PartState.ASKED, PartState.HELD):
            part.state = PartState.RETURNING
    tell(uow, row)


def tell(uow: UnitOfWork, row: BidRow) -> None:
    """Publish where a bid is, for its payer."""
    uow.publish(
        MarketBidChanged(
            bid=row.id,
            payer=row.account,
            state=row.state,
            reason=row.reason,
            quantity=row.quantity,
            filled=row.filled,
        )
    )


async def _book(uow: UnitOfWork, trade: Trade) -> None:
    """Turn a trade into a booking: the next part of its bid gives its first slice."""
    row = await uow.session.get_one(BidRow, trade.bid)
    offer = await uow.session.get_one(OfferRow, trade.offer)
    part = next(part for part in await parts_of(uow, row.id) if part.state == PartState.HELD)
    part.state, part.offer, part.price_units = PartState.TRADED, offer.id, trade.price_units
    row.filled += 1
    booking = _booking(row, part, offer, trade.price_units)
    values = {column.key: getattr(booking, column.key) for column in MarketBookingRow.__table__.columns}
    made = insert(MarketBookingRow).values(**values).on_conflict_do_nothing().returning(MarketBookingRow.id)
    assert await uow.session.scalar(made) is not None, "the miner is locked, and was free"
    millis = first_ms(row.seconds)
    amount = money.for_time(trade.price_units, millis)
    uow.add(
        SliceRow(
            booking=part.booking,
            number=1,
            hold=part.hold,
            millis=millis,
            price_units=trade.price_units,
            amount_units=amount,
            state="held",
            paid_units=0,
            fee_units=None,
            transaction=None,
        )
    )
    await uow.session.flush()


def _booking(row: BidRow, part: BidPartRow, offer: OfferRow, price_units: int) -> MarketBookingRow:
    made = new_booking(
        part.booking, offer, payer=row.account, price_units=price_units, starts_at=now(), seconds=row.seconds
    )
    made.label, made.slices, made.held_ms = row.label, 1, first_ms(row.seconds)
    return made
