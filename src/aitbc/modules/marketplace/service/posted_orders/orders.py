"""Orders that older clients post: placed, accepted, matched and cancelled, each once, by the engine of all bids.

What they agree on is decided by the engine and stands in its log. A bid rests in the book until it is accepted (an ask
at what it names, made for it alone), brought together with an offer (it takes that, at what it asks), or taken back. No
money moves: an order that was accepted or matched is an agreement on terms, and paying for it is another matter.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.kernel.primitives.ids import new_id
from aitbc.modules.marketplace.models.engine import Ask, AskArrived, BidEnded, BidPlaced, BookEvent, Engine, Outcome
from aitbc.modules.marketplace.models.posted_order_views import Match, PostedOrder, match_view, order_view
from aitbc.modules.marketplace.models.posted_orders import (
    OPEN,
    STILL_OPEN,
    OrderState,
    PostedMatchRow,
    PostedOrderRow,
    Side,
    agrees,
    ask_of,
    bid_of,
    engine_id,
    may_end,
    misfit,
    party,
    total,
)
from aitbc.modules.marketplace.service.bids.book import lock_book, record
from aitbc.modules.marketplace.service.posted_orders.commands import (
    AcceptBid,
    CancelOrder,
    MatchOrders,
    OrderFilter,
    OrderIdTaken,
    OrderNotFound,
    OrderNotOpen,
    OrdersDoNotFit,
    PlaceOrder,
    TooManyOrders,
    TotalDiffers,
)
from aitbc.modules.marketplace.service.posted_orders.queries import orders_query

ORDERS_OPEN_MAX = 1000
"""How many open orders an account may have."""
SPECS_BYTES_MAX = 8192
PAGE = 500
OPEN_FOR = timedelta(days=30)
"""How long an order stays open when nobody takes it."""


class PostedOrders:
    """Placing, ending and reading orders."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @retrying
    async def place(
        self, who: Principal, command: PlaceOrder, once: IdempotencyKey = IdempotencyKey.NONE
    ) -> PostedOrder:
        """Place an offer or a bid. The same again, under its id, is harmless.

        Raises `OrderIdTaken`, `TotalDiffers`, `TooManyOrders`, `AmountOverflow`.
        """
        values = _row_values(who, command)
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, PostedOrder)) is not None:
                return earlier
            placed = upsert(PostedOrderRow).values(**values).on_conflict_do_nothing().returning(PostedOrderRow.id)
            if (await uow.session.execute(placed)).scalar_one_or_none() is None:
                row = await uow.find(PostedOrderRow, values["id"], missing=OrderNotFound)
                if row.account != who.account or row.content != values["content"]:
                    raise OrderIdTaken
                once.replayed = True
                return await uow.answer(once, await _view(uow, row))
            await _check_open(uow, who.account)
            await uow.audit(who.account, who.key, f"market.{command.side}", values["id"])
            row = await uow.find(PostedOrderRow, values["id"], missing=OrderNotFound)
            if command.side is Side.BID:
                await lock_book(uow)
                row.sequence, _ = await record(uow, Engine(), BidPlaced(bid=bid_of(row), asks=()))
            return await uow.answer(once, order_view(row, None))

    @retrying
    async def accept(
        self, who: Principal, command: AcceptBid, once: IdempotencyKey = IdempotencyKey.NONE
    ) -> PostedOrder:
        """Take a bid for a provider, once. Raises `OrderNotFound`, `OrderNotOpen`, `OrdersDoNotFit` for one's own."""
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, PostedOrder)) is not None:
                return earlier
            row = await _find(uow, command.bid, Side.BID)
            end = _End(
                OrderState.ACCEPTED, who, _ending(who, command), now(), who.account, command.node, _oldest_open()
            )
            if await _end(uow, row, end):
                ask = Ask(
                    offer=f"{engine_id(row.id)}/accepted",
                    owner=party(who.account, command.node),
                    price_units=row.price_units,
                    since=end.at,
                )
                await _decided(uow, row, AskArrived(ask=ask, fits=(engine_id(row.id),)))
                await uow.audit(who.account, who.key, "market.accept", row.id, node=command.node)
            else:
                once.replayed = True
            return await uow.answer(once, await _view(uow, row))

    @retrying
    async def cancel(
        self, who: Principal, command: CancelOrder, once: IdempotencyKey = IdempotencyKey.NONE
    ) -> PostedOrder:
        """Take back an open order of the caller's, any for an admin. Raises `OrderNotFound`, `OrderNotOpen`."""
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, PostedOrder)) is not None:
                return earlier
            row = await _find(uow, command.order)
            if not who.owns(row.account) or command.node not in (None, row.node):
                raise OrderNotFound
            if await _end(uow, row, _End(OrderState.CANCELLED, who, _ending(who, command), now())):
                if row.side == Side.BID:
                    await _happened(uow, row, BidEnded(bid=engine_id(row.id)))
                await uow.audit(who.account, who.key, "market.cancel", row.id)
            else:
                once.replayed = True
            return await uow.answer(once, await _view(uow, row))

    @retrying
    async def match(self, who: Principal, command: MatchOrders, once: IdempotencyKey = IdempotencyKey.NONE) -> Match:
        """Bring an offer and a bid together, of which one is the caller's, both once and at the offer's price.

        Raises `OrderNotFound`, `OrderNotOpen`, `OrdersDoNotFit`, `TotalDiffers`.
        """
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, Match)) is not None:
                return earlier
            offer, bid = await _find(uow, command.offer, Side.OFFER), await _find(uow, command.bid, Side.BID)
            if not (who.owns(offer.account) or who.owns(bid.account)):
                raise OrderNotFound
            _check_terms(offer, bid, command)
            ending, at, edge = _ending(who, command), now(), _oldest_open()
            ends = {
                offer: _End(OrderState.MATCHED, who, ending, at, bid.account, bid.node, edge),
                bid: _End(OrderState.MATCHED, who, ending, at, offer.account, offer.node, edge),
            }
            # Whoever matches takes the two in the same order, so that none waits for the other in a circle.
            fresh = [await _end(uow, row, ends[row]) for row in sorted(ends, key=lambda row: row.id)]
            if not all(fresh):
                once.replayed = True
                match = await uow.session.get_one(PostedMatchRow, offer.id)
            else:
                await _meet(uow, offer, bid)
                match = _match(who, offer, bid, at)
                uow.add(match)
                await uow.audit(who.account, who.key, "market.match", offer.id, bid=bid.id)
            return await uow.answer(once, match_view(match))

    async def expire(self) -> None:
        """Close the orders that nobody took for too long."""
        old = (PostedOrderRow.state.in_(sorted(STILL_OPEN)), PostedOrderRow.created_at <= _oldest_open())
        due = select(PostedOrderRow.id).where(*old).order_by(PostedOrderRow.created_at).limit(PAGE)
        closing = update(PostedOrderRow).where(PostedOrderRow.id.in_(due.with_for_update(skip_locked=True)))
        closing = closing.values(state=OrderState.EXPIRED, ended_at=now()).returning(PostedOrderRow)
        expired = PAGE
        while expired == PAGE:
            async with self._db.unit_of_work() as uow:
                rows = (await uow.session.scalars(closing)).all()
                for row in sorted(rows, key=lambda row: row.sequence or 0):
                    if row.side == Side.BID:
                        await _happened(uow, row, BidEnded(bid=engine_id(row.id)))
                expired = len(rows)

    async def page(self, who: Principal, filters: OrderFilter) -> Sequence[PostedOrder]:
        """Orders from the newest on: everybody's open ones, and those that ended of which the caller was a party."""
        async with self._db.reading() as session:
            rows = await session.execute(orders_query(who, filters))
            return [order_view(row, as_bid if as_offer is None else as_offer) for row, as_offer, as_bid in rows]


def _oldest_open() -> datetime:
    """When the oldest order that may still be taken was placed."""
    return now() - OPEN_FOR


class _End(Struct, frozen=True):
    """How an order ends, by whom, and with whom."""

    state: OrderState
    who: Principal
    ending: bytes | None
    at: datetime
    partner: str | None = None
    partner_node: str | None = None
    placed_after: datetime | None = None
    """One that was placed before has expired, though that is not recorded yet."""


async def _find(uow: UnitOfWork, order: str, side: Side | None = None) -> PostedOrderRow:
    row = await uow.find(PostedOrderRow, order, missing=OrderNotFound)
    if side not in (None, row.side):
        raise OrderNotFound
    return row


async def _end(uow: UnitOfWork, row: PostedOrderRow, end: _End) -> bool:
    """End an order that is open, by compare and set; false when this very command did so before.

    Raises `OrderNotOpen`.
    """
    side = Side(row.side)
    assert may_end(side, OPEN[side], end.state), f"a {side} is never {end.state}"
    ended = (
        update(PostedOrderRow)
        .where(PostedOrderRow.id == row.id, PostedOrderRow.state == OPEN[side])
        .values(
            state=end.state,
            ended_at=end.at,
            ended_by=end.who.account,
            ending=end.ending,
            partner=end.partner,
            partner_node=end.partner_node,
        )
        .returning(PostedOrderRow.id)
        .execution_options(synchronize_session=False)
    )
    if end.placed_after is not None:
        ended = ended.where(PostedOrderRow.created_at > end.placed_after)
    done = (await uow.session.execute(ended)).scalar_one_or_none() is not None
    await uow.session.refresh(row)
    if not done and (end.ending is None or row.ending != end.ending):
        raise OrderNotOpen
    return done


async def _happened(uow: UnitOfWork, row: PostedOrderRow, event: BookEvent, *, resting: bool = True) -> Outcome:
    """Let something happen to a bid that has rested so far: all of the book that decides it."""
    await lock_book(uow)
    engine = Engine()
    if resting:
        engine.resting[engine_id(row.id)] = (bid_of(row), 1)
    return (await record(uow, engine, event))[1]


async def _decided(uow: UnitOfWork, row: PostedOrderRow, event: BookEvent, *, resting: bool = True) -> None:
    """Let something happen that the bid must get something by. Raises `OrdersDoNotFit`."""
    if not (await _happened(uow, row, event, resting=resting)).trades:
        raise OrdersDoNotFit("The bid pays less than the offer asks, or both are of one node.")


async def _meet(uow: UnitOfWork, offer: PostedOrderRow, bid: PostedOrderRow) -> None:
    """Let a resting bid take an offer at what that asks: it leaves the book and comes as if new.

    Raises `OrdersDoNotFit`.
    """
    await _happened(uow, bid, BidEnded(bid=engine_id(bid.id)))
    await _decided(uow, bid, BidPlaced(bid=bid_of(bid, "ioc"), asks=(ask_of(offer),)), resting=False)


async def _check_open(uow: UnitOfWork, account: str) -> None:
    wanted = (
        select(func.count())
        .select_from(PostedOrderRow)
        .where(PostedOrderRow.account == account, PostedOrderRow.state.in_(sorted(STILL_OPEN)))
    )
    if (await uow.session.scalar(wanted) or 0) > ORDERS_OPEN_MAX:
        raise TooManyOrders


def _check_terms(offer: PostedOrderRow, bid: PostedOrderRow, command: MatchOrders) -> None:
    """The two fit each other, and what the command says of them is so. Raises `OrdersDoNotFit`, `TotalDiffers`."""
    if (reason := misfit(offer, bid)) is not None:
        raise OrdersDoNotFit(reason)
    for stated, true, what in (
        (command.provider_node, offer.node, "provider"),
        (command.bidder_node, bid.node, "bidder"),
        (command.gpu_count, offer.gpu_count, "number of GPUs"),
        (command.price_units, offer.price_units, "price"),
        (command.duration_ms, offer.duration_ms, "duration"),
    ):
        if stated not in (None, true):
            raise OrdersDoNotFit(f"The {what} of this match is not that of its orders.")
    _check_total(command.total_told, offer.total_units, "/total_price")


def _check_total(stated: float | None, units: int, pointer: str) -> None:
    if stated is not None and not agrees(stated, units):
        raise TotalDiffers(fields=(FieldError(pointer, "Expected price times GPUs times hours"),))


def _match(who: Principal, offer: PostedOrderRow, bid: PostedOrderRow, at: datetime) -> PostedMatchRow:
    return PostedMatchRow(
        offer=offer.id,
        bid=bid.id,
        gpu_count=offer.gpu_count,
        price_units=offer.price_units,
        duration_ms=offer.duration_ms,
        total_units=offer.total_units,
        matched_by=who.account,
        matched_at=at,
    )


def _row_values(who: Principal, command: PlaceOrder) -> dict[str, Any]:
    """The row of a new order. Raises `TotalDiffers`, `AmountOverflow`, and `Invalid` for specs that are too long."""
    units = total(command.price_units, command.gpu_count, command.duration_ms)
    _check_total(command.total_told, units, "/total_price" if command.side is Side.OFFER else "/max_total_price")
    specs = msgspec.json.encode(command.specs, order="deterministic")
    if len(specs) > SPECS_BYTES_MAX:
        raise Invalid(fields=(FieldError("/specs", f"Expected at most {SPECS_BYTES_MAX} bytes of JSON"),))
    return {
        "id": command.id or new_id(command.side),
        "side": command.side,
        "account": who.account,
        "node": command.node,
        "island": command.island,
        "chain": command.chain,
        "gpu_count": command.gpu_count,
        "price_units": command.price_units,
        "duration_ms": command.duration_ms,
        "total_units": units,
        "model": command.model,
        "region": command.region,
        "specs": specs.decode(),
        "description": command.description,
        "state": OPEN[command.side],
        "created_at": now(),
        "content": _digest(who, msgspec.structs.replace(command, total_told=None)),
    }


def _ending(who: Principal, command: AcceptBid | CancelOrder | MatchOrders) -> bytes | None:
    """The digest that makes a repetition of this command known as one.

    None unless its sender says when it was given.
    """
    return None if command.said_at is None else _digest(who, command)


def _digest(who: Principal, command: Struct) -> bytes:
    content = msgspec.json.encode((type(command).__name__, who.account, command), order="deterministic")
    return hashlib.sha256(content).digest()


async def _view(uow: UnitOfWork, row: PostedOrderRow) -> PostedOrder:
    wanted = select(PostedMatchRow).where(or_(PostedMatchRow.offer == row.id, PostedMatchRow.bid == row.id))
    return order_view(row, await uow.session.scalar(wanted))
