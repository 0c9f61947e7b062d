"""The trades of an order, as its owner sees them, and all transactions that moved its money."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.money import render
from aitbc.modules.trading.models.exchange.tables import ExchangeTradeRow, OrderRow
from aitbc.modules.trading.models.exchange.views import ExchangeFill

TRANSACTIONS_MAX = 10_000
"""How many trades of one order are looked up at once."""


def fill_views(order: str, rows: Sequence[ExchangeTradeRow]) -> list[ExchangeFill]:
    """These trades, from the side of an order that is in all of them."""
    return [_view(row, is_maker=row.maker == order) for row in rows]


async def of_order(session: AsyncSession, order: str) -> list[str]:
    """The transactions of an order: what was held, what was traded, and what was given back."""
    row = await session.get(OrderRow, order)
    if row is None:
        return []
    mine = (ExchangeTradeRow.maker == order) | (ExchangeTradeRow.taker == order)
    trades = await session.scalars(select(ExchangeTradeRow.id).where(mine).limit(TRANSACTIONS_MAX))
    paid = [ids.encode("txn", ids.decode("trde", trade)) for trade in trades]
    return [transaction for transaction in (row.placed_by, *paid, row.ended_by) if transaction is not None]


def _view(row: ExchangeTradeRow, *, is_maker: bool) -> ExchangeFill:
    buys = (row.taker_side == "buy") != is_maker
    return ExchangeFill(
        trade=row.id,
        number=row.number,
        transaction=ids.encode("txn", ids.decode("trde", row.id)),
        price=render(row.price_units),
        quantity=render(row.quantity_units),
        cost=render(row.cost_units),
        fee=render(row.buyer_fee_units if buys else row.seller_fee_units),
        is_maker=is_maker,
        at=row.created_at,
    )
