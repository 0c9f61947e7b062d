"""The book of a pair in a unit of work: one event after the other, each written to the log with what it traded.

The pair is locked first, then accounts in the order of their ids; orders need no locks of their own behind that.
"""

from collections.abc import Sequence

from sqlalchemy import Select, select

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.matching import Matched, Order, match
from aitbc.modules.trading.events import OrderChanged
from aitbc.modules.trading.models.book import Book
from aitbc.modules.trading.models.exchange.engine import (
    FILLS_MAX,
    ExchangeEvent,
    OrderEnded,
    OrderPlaced,
    event_text,
)
from aitbc.modules.trading.models.exchange.money import Deal, cost_of, give_back, hold, pay, purses
from aitbc.modules.trading.models.exchange.tables import ExchangeEventRow, ExchangeTradeRow, OrderRow, PairRow
from aitbc.modules.trading.service.book_rows import load_book, open_purses, save_book


async def meet(uow: UnitOfWork, pair: PairRow, order: OrderRow, event: OrderPlaced) -> None:
    """Let an order come into a locked pair's book: what it takes is paid, what stays of it is held."""
    resting = {row.id: row for row in await uow.session.scalars(_crossing(order))}
    taker = event.taking(pair.events + 1)
    matched = match(taker, [_as_order(row) for row in resting.values()], event.how())
    _log(uow, pair, event, len(matched.fills))
    order.sequence = pair.events
    makers = [resting[fill.maker] for fill in matched.fills]
    amount = _needed(order, matched)
    if amount:
        wanted = purses(pair, order.account, *(maker.account for maker in makers))
        await open_purses(uow, wanted.values())
        book = await load_book(uow, set(wanted))
        hold(book, order, pair, amount)
        uow.add(order)
        _trade(
            uow, book, pair, order, [(resting[fill.maker], fill.price_units, fill.quantity) for fill in matched.fills]
        )
        _conclude(order, matched)
        await save_book(uow, book)
    else:
        uow.add(order)
        _conclude(order, matched)
    for changed in (order, *makers):
        tell(uow, changed)
    await uow.session.flush()


async def cancel_order(uow: UnitOfWork, pair: PairRow, order: OrderRow, event: OrderEnded) -> None:
    """Take an open order out of a locked pair's book: what is held for it goes back."""
    book = await load_book(uow, set(purses(pair, order.account)))
    give_back(book, order, pair)
    order.state, order.reason, order.ended_at = "canceled", "canceled", now()
    _log(uow, pair, event, 0)
    await save_book(uow, book)
    tell(uow, order)
    await uow.session.flush()


def tell(uow: UnitOfWork, order: OrderRow) -> None:
    """Publish where an order is, for its owner."""
    uow.publish(
        OrderChanged(
            order=order.id,
            account=order.account,
            pair=order.pair,
            side=order.side,
            state=order.state,
            reason=order.reason,
            quantity_units=order.quantity_units,
            filled_units=order.filled_units,
            cost_units=order.cost_units,
        )
    )


def _crossing(order: OrderRow) -> Select[OrderRow]:
    """What rests on the other side at a price that the order takes: more of it than it may take."""
    buys = order.side == "buy"
    price = OrderRow.price_units
    wanted = select(OrderRow).where(
        OrderRow.pair == order.pair, OrderRow.state == "open", OrderRow.side == ("sell" if buys else "buy")
    )
    if order.price_units is not None:
        wanted = wanted.where(price <= order.price_units if buys else price >= order.price_units)
    best = price.asc() if buys else price.desc()
    return wanted.order_by(best, OrderRow.sequence).limit(FILLS_MAX + 1).execution_options(populate_existing=True)


def _as_order(row: OrderRow) -> Order:
    return Order(
        id=row.id,
        owner=row.account,
        is_buy=row.side == "buy",
        price_units=row.price_units,
        quantity=row.quantity_units - row.filled_units,
        place=row.sequence,
    )


def _needed(order: OrderRow, matched: Matched) -> int:
    """What an order gives for what it takes now, and for what rests of it."""
    taken = [(fill.quantity, fill.price_units) for fill in matched.fills]
    if matched.rests:
        assert order.price_units is not None, "a market order never rests"
        taken.append((matched.left, order.price_units))
    if order.side == "sell":
        return sum(quantity for quantity, _ in taken)
    return sum(cost_of(quantity, price) for quantity, price in taken)


def _trade(
    uow: UnitOfWork, book: Book, pair: PairRow, taker: OrderRow, fills: Sequence[tuple[OrderRow, int, int]]
) -> None:
    for maker, price, quantity in fills:
        deal = Deal(price_units=price, quantity_units=quantity, cost_units=cost_of(quantity, price))
        paid = pay(book, pair, maker, taker, deal)
        buyer, seller = (taker, maker) if taker.side == "buy" else (maker, taker)
        pair.trades += 1
        uow.add(
            ExchangeTradeRow(
                id=ids.encode("trde", ids.decode("txn", paid.posting.id)),
                pair=pair.id,
                number=pair.trades,
                price_units=price,
                quantity_units=quantity,
                cost_units=deal.cost_units,
                maker=maker.id,
                taker=taker.id,
                taker_side=taker.side,
                buyer=buyer.account,
                seller=seller.account,
                buyer_fee_units=paid.buyer_fee_units,
                seller_fee_units=paid.seller_fee_units,
                created_at=book.at,
            )
        )
        if maker.filled_units == maker.quantity_units:
            maker.state, maker.ended_at = "filled", book.at


def _conclude(order: OrderRow, matched: Matched) -> None:
    if not matched.left:
        order.state, order.ended_at = "filled", now()
    elif not matched.rests:
        order.state, order.reason, order.ended_at = "canceled", matched.reason or "momentary", now()


def _log(uow: UnitOfWork, pair: PairRow, event: ExchangeEvent, fills: int) -> None:
    pair.events += 1
    body = event_text(event)
    uow.add(ExchangeEventRow(pair=pair.id, sequence=pair.events, body=body, fills=fills, created_at=now()))
