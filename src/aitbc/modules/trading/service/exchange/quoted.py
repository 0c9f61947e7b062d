"""What a market maker has in the book, what it did, and what it would have there now: from rows."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from aitbc.kernel.database.totals import total
from aitbc.kernel.primitives.money import UNIT, render
from aitbc.modules.trading.models.exchange.quoting import Quote, Quoting, middle, quotes
from aitbc.modules.trading.models.exchange.tables import ExchangeTradeRow, MarketMakerRow, OrderRow, PairRow
from aitbc.modules.trading.models.exchange.views import MarketMaker
from aitbc.modules.trading.models.rows import account_id
from aitbc.modules.trading.models.tables import AccountRow

TRADES_MAX = 1_000


async def open_orders(session: AsyncSession, maker: str) -> Sequence[OrderRow]:
    """Its orders that rest."""
    mine = select(OrderRow).where(OrderRow.market_maker == maker, OrderRow.state == "open").order_by(OrderRow.id)
    return (await session.scalars(mine, execution_options={"populate_existing": True})).all()


async def wanted_quotes(session: AsyncSession, row: MarketMakerRow, pair: PairRow) -> tuple[list[Quote], str | None]:
    """What it wants in the book now, around the prices of others; and why that is nothing."""
    if pair.state != "open":
        return [], "halted"
    around = middle(*await _best_of_others(session, row), await _last(session, pair.id))
    if around is None:
        return [], "no_price"
    held = {"buy": 0, "sell": 0}
    for order in await open_orders(session, row.id):
        held[order.side] += order.held_units
    has = {asset: await _free(session, row.account, asset) for asset in (pair.base, pair.quote)}
    how = Quoting(
        spread_basis_points=row.spread_basis_points,
        depth=row.depth,
        size_units=row.size_units,
        base_units=min(row.base_limit_units, has[pair.base] + held["sell"]),
        quote_units=min(row.quote_limit_units, has[pair.quote] + held["buy"]),
        price_step_units=pair.price_step_units,
        quantity_step_units=pair.quantity_step_units,
        min_quantity_units=pair.min_quantity_units,
    )
    found = quotes(around, how)
    return found, None if found else "no_funds"


async def maker_view(session: AsyncSession, row: MarketMakerRow) -> MarketMaker:
    """A market maker, with what its orders bought and sold, counted from the orders themselves."""
    sums = (func.count(), total(OrderRow.filled_units), total(OrderRow.cost_units), total(OrderRow.fee_units))
    mine = select(OrderRow.side, *sums).where(OrderRow.market_maker == row.id).group_by(OrderRow.side)
    found = {side: (orders, filled, cost, fee) for side, orders, filled, cost, fee in await session.execute(mine)}
    buys, sells = found.get("buy", (0, 0, 0, 0)), found.get("sell", (0, 0, 0, 0))
    opened = await open_orders(session, row.id)
    last = await _last(session, row.pair)
    base_change = buys[1] - buys[3] - sells[1]
    quote_change = sells[2] - sells[3] - buys[2]
    result = None if last is None else quote_change + base_change * last // UNIT
    return MarketMaker(
        id=row.id,
        pair=row.pair,
        spread_basis_points=row.spread_basis_points,
        depth=row.depth,
        size=render(row.size_units),
        base_limit=render(row.base_limit_units),
        quote_limit=render(row.quote_limit_units),
        state=row.state,
        reason=row.reason,
        open_orders=len(opened),
        bought=render(buys[1]),
        sold=render(sells[1]),
        base_change=render(base_change),
        quote_change=render(quote_change),
        result=None if result is None else render(result),
        created_at=row.created_at,
        changed_at=row.changed_at,
    )


async def figures(session: AsyncSession, maker: str, since: datetime) -> Sequence[tuple[str, int, int, datetime]]:
    """Side, price, quantity and time of what its orders traded since a time, the oldest first."""
    met = (OrderRow.id == ExchangeTradeRow.maker) | (OrderRow.id == ExchangeTradeRow.taker)
    columns = (
        OrderRow.side,
        ExchangeTradeRow.price_units,
        ExchangeTradeRow.quantity_units,
        ExchangeTradeRow.created_at,
    )
    wanted = select(*columns).join(ExchangeTradeRow, met)
    wanted = wanted.where(OrderRow.market_maker == maker, ExchangeTradeRow.created_at >= since)
    rows = await session.execute(wanted.order_by(ExchangeTradeRow.number).limit(TRADES_MAX))
    return [(side, price, quantity, at) for side, price, quantity, at in rows]


async def _best_of_others(session: AsyncSession, row: MarketMakerRow) -> tuple[int | None, int | None]:
    price = OrderRow.price_units
    best = select(
        func.max(price).filter(OrderRow.side == "buy"), func.min(price).filter(OrderRow.side == "sell")
    ).where(OrderRow.pair == row.pair, OrderRow.state == "open", OrderRow.account != row.account)
    bid, ask = (await session.execute(best)).one()
    return bid, ask


async def _last(session: AsyncSession, pair: str) -> int | None:
    newest = select(ExchangeTradeRow.price_units).where(ExchangeTradeRow.pair == pair)
    return await session.scalar(newest.order_by(ExchangeTradeRow.number.desc()).limit(1))


async def _free(session: AsyncSession, account: str, asset: str) -> int:
    wanted = select(AccountRow.balance_units).where(AccountRow.id == account_id(account, asset=asset))
    return await session.scalar(wanted) or 0
