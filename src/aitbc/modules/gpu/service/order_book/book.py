"""The order book of the GPU market: offers and bids that are placed, accepted, matched and cancelled, each once.

No money moves here: an order that was accepted or matched is an agreement on terms, and paying for it is another
matter.
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
from aitbc.modules.gpu.models.order_book.orders import (
    OPEN,
    STILL_OPEN,
    MarketMatchRow,
    MarketOrderRow,
    OrderState,
    Side,
    agrees,
    may_end,
    misfit,
)
from aitbc.modules.gpu.models.order_book.views import MarketOrder, Match, match_view, order_view
from aitbc.modules.gpu.models.pricing import total
from aitbc.modules.gpu.service.order_book.commands import (
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
from aitbc.modules.gpu.service.order_book.queries import orders_query

ORDERS_OPEN_MAX = 1000
"""How many open orders an account may have."""
SPECS_BYTES_MAX = 8192
PAGE = 500


class OrderBook:
    """Placing, ending and reading orders."""

    def __init__(self, db: Database, order_days: int) -> None:
        """An order that nobody took for `order_days` expires."""
        self._db = db
        self._order_days = order_days

    @retrying
    async def place(
        self, who: Principal, command: PlaceOrder, once: IdempotencyKey = IdempotencyKey.NONE
    ) -> MarketOrder:
        """Place an offer or a bid. The same again, under its id, is harmless.

        Raises `OrderIdTaken`, `TotalDiffers`, `TooManyOrders`, `AmountOverflow`.
        """
        values = _row_values(who, command)
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, MarketOrder)) is not None:
                return earlier
            placed = upsert(MarketOrderRow).values(**values).on_conflict_do_nothing().returning(MarketOrderRow.id)
            if (await uow.session.execute(placed)).scalar_one_or_none() is None:
                row = await uow.find(MarketOrderRow, values["id"], missing=OrderNotFound)
                if row.account != who.account or row.content != values["content"]:
                    raise OrderIdTaken
                once.replayed = True
                return await uow.answer(once, await _view(uow, row))
            await _check_open(uow, who.account)
            await uow.audit(who.account, who.key, f"market.{command.side}", values["id"])
            row = await uow.find(MarketOrderRow, values["id"], missing=OrderNotFound)
            return await uow.answer(once, order_view(row, None))

    @retrying
    async def accept(
        self, who: Principal, command: AcceptBid, once: IdempotencyKey = IdempotencyKey.NONE
    ) -> MarketOrder:
        """Take a bid for a provider, once. Raises `OrderNotFound`, `OrderNotOpen`."""
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, MarketOrder)) is not None:
                return earlier
            row = await _find(uow, command.bid, Side.BID)
            end = _End(
                OrderState.ACCEPTED, who, _ending(who, command), now(), who.account, command.node, self._oldest_open()
            )
            if await _end(uow, row, end):
                await uow.audit(who.account, who.key, "market.accept", row.id, node=command.node)
            else:
                once.replayed = True
            return await uow.answer(once, await _view(uow, row))

    @retrying
    async def cancel(
        self, who: Principal, command: CancelOrder, once: IdempotencyKey = IdempotencyKey.NONE
    ) -> MarketOrder:
        """Take back an open order of the caller's, any for an admin. Raises `OrderNotFound`, `OrderNotOpen`."""
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, MarketOrder)) is not None:
                return earlier
            row = await _find(uow, command.order)
            if not who.owns(row.account) or command.node not in (None, row.node):
                raise OrderNotFound
            if await _end(uow, row, _End(OrderState.CANCELLED, who, _ending(who, command), now())):
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
            ending, at, edge = _ending(who, command), now(), self._oldest_open()
            ends = {
                offer: _End(OrderState.MATCHED, who, ending, at, bid.account, bid.node, edge),
                bid: _End(OrderState.MATCHED, who, ending, at, offer.account, offer.node, edge),
            }
            # Whoever matches takes the two in the same order, so that none waits for the other in a circle.
            fresh = [await _end(uow, row, ends[row]) for row in sorted(ends, key=lambda row: row.id)]
            if not all(fresh):
                once.replayed = True
                match = await uow.session.get_one(MarketMatchRow, offer.id)
            else:
                match = _match(who, offer, bid, at)
                uow.add(match)
                await uow.audit(who.account, who.key, "market.match", offer.id, bid=bid.id)
            return await uow.answer(once, match_view(match))

    async def expire(self) -> None:
        """Close the orders that nobody took for too long."""
        old = (MarketOrderRow.state.in_(sorted(STILL_OPEN)), MarketOrderRow.created_at <= self._oldest_open())
        due = select(MarketOrderRow.id).where(*old).order_by(MarketOrderRow.created_at).limit(PAGE)
        closing = update(MarketOrderRow).where(MarketOrderRow.id.in_(due.with_for_update(skip_locked=True)))
        closing = closing.values(state=OrderState.EXPIRED, ended_at=now()).returning(MarketOrderRow.id)
        expired = PAGE
        while expired == PAGE:
            async with self._db.unit_of_work() as uow:
                expired = len((await uow.session.execute(closing)).all())

    def _oldest_open(self) -> datetime:
        """When the oldest order that may still be taken was placed."""
        return now() - timedelta(days=self._order_days)

    async def page(self, who: Principal, filters: OrderFilter) -> Sequence[MarketOrder]:
        """Orders from the newest on: everybody's open ones, and those that ended of which the caller was a party."""
        async with self._db.reading() as session:
            rows = await session.execute(orders_query(who, filters))
            return [order_view(row, as_bid if as_offer is None else as_offer) for row, as_offer, as_bid in rows]


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


async def _find(uow: UnitOfWork, order: str, side: Side | None = None) -> MarketOrderRow:
    row = await uow.find(MarketOrderRow, order, missing=OrderNotFound)
    if side not in (None, row.side):
        raise OrderNotFound
    return row


async def _end(uow: UnitOfWork, row: MarketOrderRow, end: _End) -> bool:
    """End an order that is open, by compare and set; false when this very command did so before.

    Raises `OrderNotOpen`.
    """
    side = Side(row.side)
    assert may_end(side, OPEN[side], end.state), f"a {side} is never {end.state}"
    ended = (
        update(MarketOrderRow)
        .where(MarketOrderRow.id == row.id, MarketOrderRow.state == OPEN[side])
        .values(
            state=end.state,
            ended_at=end.at,
            ended_by=end.who.account,
            ending=end.ending,
            partner=end.partner,
            partner_node=end.partner_node,
        )
        .returning(MarketOrderRow.id)
        .execution_options(synchronize_session=False)
    )
    if end.placed_after is not None:
        ended = ended.where(MarketOrderRow.created_at > end.placed_after)
    done = (await uow.session.execute(ended)).scalar_one_or_none() is not None
    await uow.session.refresh(row)
    if not done and (end.ending is None or row.ending != end.ending):
        raise OrderNotOpen
    return done


async def _check_open(uow: UnitOfWork, account: str) -> None:
    wanted = (
        select(func.count())
        .select_from(MarketOrderRow)
        .where(MarketOrderRow.account == account, MarketOrderRow.state.in_(sorted(STILL_OPEN)))
    )
    if (await uow.session.scalar(wanted) or 0) > ORDERS_OPEN_MAX:
        raise TooManyOrders


def _check_terms(offer: MarketOrderRow, bid: MarketOrderRow, command: MatchOrders) -> None:
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


def _match(who: Principal, offer: MarketOrderRow, bid: MarketOrderRow, at: datetime) -> MarketMatchRow:
    return MarketMatchRow(
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


async def _view(uow: UnitOfWork, row: MarketOrderRow) -> MarketOrder:
    wanted = select(MarketMatchRow).where(or_(MarketMatchRow.offer == row.id, MarketMatchRow.bid == row.id))
    return order_view(row, await uow.session.scalar(wanted))
