"""Bids as their payers and owners see them: placed, canceled, answered and read."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Conflict, FieldError, Invalid, NotFound, TooMany
from aitbc.modules.marketplace.api import MarketOfferNotFound
from aitbc.modules.marketplace.models.bid_views import MarketBid, bid_view
from aitbc.modules.marketplace.models.bids import (
    LONGEST,
    BidAskRow,
    BidPartRow,
    BidRow,
    BidState,
    PartState,
    held_units,
    order_of,
)
from aitbc.modules.marketplace.models.bookings import HELD_AFTER
from aitbc.modules.marketplace.models.engine import BidEnded, BidPlaced, RequestOpened, RequestQuoted
from aitbc.modules.marketplace.models.search.conditions import condition
from aitbc.modules.marketplace.models.search.grammar import parse
from aitbc.modules.marketplace.models.tables import OfferRow
from aitbc.modules.marketplace.service.bids.book import (
    ask_of,
    asks_for,
    end,
    fitting,
    happen,
    load_engine,
    lock_book,
    parts_of,
    tell,
)
from aitbc.modules.marketplace.service.bids.keeper import BidKeeper
from aitbc.modules.marketplace.service.commands import MarketOfferNotOpen
from aitbc.modules.trading.api import InsufficientFunds, PlaceHold, TradingApi

OPEN_MAX = 100
"""How many open bids an account may have."""


class LimitBidNotFound(NotFound):
    """There is no such bid, or it is not yours and not open."""

    code = "limit_bid_not_found"


class LimitBidNotOpen(Conflict):
    """This bid is over, or it is no request that owners answer."""

    code = "limit_bid_not_open"


class AskNotFitting(Conflict):
    """This offer is not what the request is for, asks more than it gives, or its miner is taken."""

    code = "market_ask_not_fitting"


class TooManyLimitBids(TooMany):
    """This account has as many open bids as it may have; cancel some."""

    code = "too_many_limit_bids"


class PlaceBid(Struct, frozen=True, kw_only=True):
    """Somebody wants the time of miners."""

    filter: str
    seconds: int
    limit_units: int
    quantity: int = 1
    lasts: str = "gtc"
    post_only: bool = False
    valid_until: datetime
    label: str | None = None
    is_request: bool = False

    def check(self) -> None:
        """Raises `Invalid` for fields that do not go together, and `SearchInvalid` for a filter that says nothing."""
        if self.post_only and self.lasts != "gtc":
            raise Invalid(fields=(FieldError("/post_only", "Expected for `gtc` only: it is there to rest"),))
        if not now() < self.valid_until <= now() + LONGEST:
            raise Invalid(fields=(FieldError("/valid_until", "Expected a time within the next 30 days"),))
        if not held_units(self.limit_units, self.seconds):
            raise Invalid(
                fields=(FieldError("/price_hour", "Expected a price at which the first slice costs something"),)
            )
        condition(parse(self.filter))


class BidsFilter(Struct, frozen=True, kw_only=True):
    """Which bids are wanted, from the newest on: an account's own, or all that rest."""

    account: str | None = None
    state: str | None = None
    after: str | None = None
    limit: int = 50


class Begun(Struct, frozen=True):
    """The id of a bid that a request has begun."""

    id: str


class MarketBids:
    """Places, answers and shows bids."""

    def __init__(self, database: Database, trading: TradingApi, keeper: BidKeeper) -> None:
        self._database = database
        self._trading = trading
        self._keeper = keeper

    async def place(self, who: Principal, command: PlaceBid, once: IdempotencyKey) -> MarketBid:
        """Hold the money of a bid, and let it meet the offers that fit; a repetition goes on where the first broke off.

        Raises `SearchInvalid`, `Invalid`, `TooManyLimitBids`, `InsufficientFunds`.
        """
        command.check()
        bid = await self._begin(who, command, once)
        await self._hold(bid)
        if not await self._enter(bid):  # it was given up while its money was being held
            await self._keeper.return_all(bid)
        with suppress(AppError):  # the next round tries again
            await self._keeper.settle()
        return await self.get(who, bid)

    @retrying
    async def _begin(self, who: Principal, command: PlaceBid, once: IdempotencyKey) -> str:
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, Begun)) is not None:
                return earlier.id
            mine = (BidRow.account == who.account, BidRow.ended_at.is_(None))
            if (await uow.session.scalar(select(func.count()).select_from(BidRow).where(*mine)) or 0) >= OPEN_MAX:
                raise TooManyLimitBids
            row = _new(who, command)
            uow.add(row)
            await uow.session.flush()
            for number in range(1, command.quantity + 1):
                named = {"hold": ids.new_id("hold"), "booking": ids.new_id("book")}
                amount = held_units(command.limit_units, command.seconds)
                uow.add(
                    BidPartRow(
                        bid=row.id,
                        number=number,
                        amount_units=amount,
                        state=PartState.ASKED,
                        offer=None,
                        price_units=None,
                        **named,
                    )
                )
            await uow.audit(who.account, who.key, "market.bid", row.id)
            await uow.answer(once, Begun(id=row.id))
            return row.id

    async def _hold(self, bid: str) -> None:
        """Hold the money of each part. Raises `InsufficientFunds`, and then the bid is over."""
        async with self._database.unit_of_work() as uow:
            row, parts = await uow.session.get_one(BidRow, bid), await parts_of(uow, bid)
        if row.state != BidState.PLACING:
            return
        for part in parts:
            command = PlaceHold(
                hold=part.hold,
                payer=row.account,
                amount_units=part.amount_units,
                expires_at=row.valid_until + timedelta(seconds=row.seconds) + HELD_AFTER,
                reference=part.booking,
            )
            try:
                await self._trading.hold(command)
            except InsufficientFunds:
                await self._keeper.give_up(bid, "no_funds")
                await self._keeper.settle()
                raise

    @retrying
    async def _enter(self, bid: str) -> bool:
        """Let a bid whose money is held come into the book; whether it is, or was before."""
        async with self._database.unit_of_work() as uow:
            await lock_book(uow)
            engine = await load_engine(uow)
            row = await uow.session.get_one(BidRow, bid, with_for_update=True, populate_existing=True)
            if row.state != BidState.PLACING:
                return row.sequence is not None
            for part in await parts_of(uow, bid):
                part.state = PartState.HELD
            await uow.session.flush()
            row.state = BidState.OPEN
            if row.kind == "request":
                row.sequence, _ = await happen(uow, engine, RequestOpened(bid=order_of(row)))
                tell(uow, row)
                return True
            asks = await asks_for(uow, row)
            row.sequence, outcome = await happen(uow, engine, BidPlaced(bid=order_of(row), asks=tuple(asks)))
            if outcome.refusal is not None:
                await end(uow, row, BidState.CANCELED, outcome.refusal)
            elif row.filled == row.quantity:
                await end(uow, row, BidState.FILLED, None)
            elif not outcome.rests:
                await end(uow, row, BidState.CANCELED, "momentary")
            else:
                tell(uow, row)
            return True

    async def cancel(self, who: Principal, bid: str) -> MarketBid:
        """Take back what is left of a bid; one that is over stays as it is. Raises `LimitBidNotFound`."""
        await self._cancel(who, bid)
        with suppress(AppError):  # the next round tries again
            await self._keeper.settle()
        return await self.get(who, bid)

    @retrying
    async def _cancel(self, who: Principal, bid: str) -> None:
        async with self._database.unit_of_work() as uow:
            row = await uow.find(BidRow, bid, missing=LimitBidNotFound)
            if row.account != who.account:
                raise LimitBidNotFound
            await lock_book(uow)
            engine = await load_engine(uow)
            await uow.session.refresh(row)
            if row.state == BidState.PLACING:
                return await end(uow, row, BidState.CANCELED, "canceled")
            if row.state == BidState.OPEN:
                await happen(uow, engine, BidEnded(bid=bid))
                await end(uow, row, BidState.CANCELED, "canceled")
                await uow.audit(who.account, who.key, "market.cancel_bid", bid)
            return None

    @retrying
    async def ask(self, who: Principal, bid: str, offer: str, price_units: int) -> MarketBid:
        """Ask a price for a request, with an offer of a miner of the caller's; again, the newest holds.

        Raises `LimitBidNotFound`, `LimitBidNotOpen`, `MarketOfferNotFound`, `MarketOfferNotOpen`, `AskNotFitting`.
        """
        async with self._database.unit_of_work() as uow:
            await lock_book(uow)
            engine = await load_engine(uow)
            row = await uow.find(BidRow, bid, missing=LimitBidNotFound)
            if row.state != BidState.OPEN and row.account != who.account:
                raise LimitBidNotFound
            if row.state != BidState.OPEN or row.kind != "request" or row.valid_until <= now():
                raise LimitBidNotOpen
            mine = await uow.find(OfferRow, offer, missing=MarketOfferNotFound)
            if mine.account != who.account:
                raise MarketOfferNotFound
            if mine.state != "open":
                raise MarketOfferNotOpen
            is_fair = price_units <= row.limit_units and held_units(price_units, row.seconds)
            if not is_fair or not await fitting(uow, row, only=[offer]):
                raise AskNotFitting
            values = {"owner": who.account, "price_units": price_units, "asked_at": now()}
            asking = insert(BidAskRow).values(bid=bid, offer=offer, **values)
            await uow.session.execute(asking.on_conflict_do_update(index_elements=["bid", "offer"], set_=values))
            made = await uow.session.get_one(BidAskRow, (bid, offer), populate_existing=True)
            await happen(uow, engine, RequestQuoted(bid=bid, ask=ask_of(made)))
            await uow.audit(who.account, who.key, "market.ask", bid, offer=offer, price_units=price_units)
            return await self._seen(uow, who, row)

    async def get(self, who: Principal, bid: str) -> MarketBid:
        """A bid of the caller's, or one that rests. Raises `LimitBidNotFound`."""
        async with self._database.unit_of_work() as uow:
            row = await uow.find(BidRow, bid, missing=LimitBidNotFound)
            if not who.owns(row.account) and row.state != BidState.OPEN:
                raise LimitBidNotFound
            return await self._seen(uow, who, row)

    async def _seen(self, uow: UnitOfWork, who: Principal, row: BidRow) -> MarketBid:
        is_own = who.owns(row.account)
        asked = select(BidAskRow).where(BidAskRow.bid == row.id)
        if not is_own:
            asked = asked.where(BidAskRow.owner == who.account)
        asks = (await uow.session.scalars(asked.order_by(BidAskRow.price_units, BidAskRow.asked_at))).all()
        return bid_view(row, await parts_of(uow, row.id), asks, is_own=is_own)

    async def page(self, who: Principal, wanted: BidsFilter) -> Sequence[MarketBid]:
        """Bids of an account, or all that rest, from the newest on."""
        query = select(BidRow)
        if wanted.account is not None:
            query = query.where(BidRow.account == wanted.account)
        if wanted.state is not None:
            query = query.where(BidRow.state == wanted.state)
        if wanted.after is not None:
            query = query.where(BidRow.id < wanted.after)
        async with self._database.reading() as session:
            rows = (await session.scalars(query.order_by(BidRow.id.desc()).limit(wanted.limit))).all()
            theirs = select(BidPartRow).where(BidPartRow.bid.in_([row.id for row in rows]))
            parts = (await session.scalars(theirs.order_by(BidPartRow.bid, BidPartRow.number))).all()
        return [
            bid_view(row, [part for part in parts if part.bid == row.id], is_own=who.owns(row.account)) for row in rows
        ]


def _new(who: Principal, command: PlaceBid) -> BidRow:
    money.checked(command.limit_units)
    return BidRow(
        id=ids.new_id("mbid"),
        kind="request" if command.is_request else "bid",
        account=who.account,
        filter=command.filter,
        seconds=command.seconds,
        limit_units=command.limit_units,
        quantity=command.quantity,
        filled=0,
        lasts=command.lasts,
        post_only=command.post_only,
        label=command.label,
        state=BidState.PLACING,
        reason=None,
        valid_until=command.valid_until,
        sequence=None,
        created_at=now(),
        ended_at=None,
    )
