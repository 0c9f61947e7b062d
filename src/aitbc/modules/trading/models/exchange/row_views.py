"""Rows of the exchange, as callers see them."""

from aitbc.kernel.primitives.money import UNIT, render
from aitbc.modules.trading.models.exchange.money import sold
from aitbc.modules.trading.models.exchange.tables import ExchangeTradeRow, OrderRow, PairRow
from aitbc.modules.trading.models.exchange.views import ExchangeOrder, ExchangePair, ExchangeTrade


def pair_view(row: PairRow) -> ExchangePair:
    """A pair."""
    return ExchangePair(
        id=row.id,
        base=row.base,
        quote=row.quote,
        price_step=render(row.price_step_units),
        quantity_step=render(row.quantity_step_units),
        min_quantity=render(row.min_quantity_units),
        max_quantity=render(row.max_quantity_units),
        state=row.state,
        created_at=row.created_at,
    )


def order_view(row: OrderRow, pair: PairRow) -> ExchangeOrder:
    """An order."""
    return ExchangeOrder(
        id=row.id,
        account=row.account,
        pair=row.pair,
        side=row.side,
        kind=row.kind,
        lasts=row.lasts,
        post_only=row.post_only,
        price=None if row.price_units is None else render(row.price_units),
        quantity=render(row.quantity_units),
        filled=render(row.filled_units),
        cost=render(row.cost_units),
        fee=render(row.fee_units),
        fee_asset=pair.base if row.side == "buy" else pair.quote,
        held=render(row.held_units),
        held_asset=sold(row, pair),
        state=row.state,
        reason=row.reason,
        label=row.label,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def trade_view(row: ExchangeTradeRow) -> ExchangeTrade:
    """A trade, as anybody sees it."""
    return ExchangeTrade(
        id=row.id,
        number=row.number,
        price=render(row.price_units),
        quantity=render(row.quantity_units),
        cost=render(row.cost_units),
        taker_side=row.taker_side,
        at=row.created_at,
    )


def average_units(cost_units: int, quantity_units: int) -> int:
    """The price of a quantity that cost so much, rounded down to a minor unit; zero of nothing."""
    return cost_units * UNIT // quantity_units if quantity_units else 0
