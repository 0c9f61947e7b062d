"""What anybody may see of a pair: its book by price, its trades, candles and figures; from rows only."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.money import render
from aitbc.modules.trading.models.exchange.row_views import trade_view
from aitbc.modules.trading.models.exchange.tables import ExchangeTradeRow, PairRow
from aitbc.modules.trading.models.exchange.views import (
    BookLevel,
    ExchangeBook,
    ExchangeCandle,
    ExchangeStats,
    ExchangeTrade,
)
from aitbc.modules.trading.service.exchange.pairs import PairNotFound

INTERVALS = {"1m": 60, "5m": 300, "15m": 900, "1h": 3_600, "4h": 14_400, "1d": 86_400}
"""Seconds of a candle."""
LEVELS = """
SELECT price_units, least(sum(quantity_units - filled_units), 9223372036854775807)::bigint AS quantity, count(*) AS orders
FROM trading.exchange_orders WHERE pair = $1 AND side = $2 AND state = 'open'
GROUP BY price_units ORDER BY price_units {order} LIMIT $3"""
BEST = """
SELECT max(price_units) FILTER (WHERE side = 'buy') AS bid, min(price_units) FILTER (WHERE side = 'sell') AS ask
FROM trading.exchange_orders WHERE pair = $1 AND state = 'open'"""
SUMMED = """
(array_agg(price_units ORDER BY number))[1] AS first, max(price_units) AS high, min(price_units) AS low,
(array_agg(price_units ORDER BY number DESC))[1] AS last,
least(coalesce(sum(quantity_units), 0), 9223372036854775807)::bigint AS volume,
least(coalesce(sum(cost_units), 0), 9223372036854775807)::bigint AS turnover, count(*) AS trades
FROM trading.exchange_trades WHERE pair = $1 AND created_at >= $2"""
CANDLES = f"""
SELECT (floor(extract(epoch FROM created_at) / $3) * $3)::bigint AS begins_at, {SUMMED}
GROUP BY 1 ORDER BY 1 LIMIT $4"""  # noqa: S608 - constants
STATS = f"SELECT {SUMMED}"
LAST = "SELECT price_units FROM trading.exchange_trades WHERE pair = $1 ORDER BY number DESC LIMIT 1"


class MarketData:
    """Reads pairs; changes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def book(self, pair: str, *, depth: int) -> ExchangeBook:
        """What rests, by price, so many prices of each side. Raises `PairNotFound`."""
        async with self._database.raw() as connection, connection.transaction(isolation="repeatable_read"):
            events = await _events(connection, pair)
            sides = [
                [
                    BookLevel(price=render(row["price_units"]), quantity=render(row["quantity"]), orders=row["orders"])
                    for row in await connection.fetch(LEVELS.format(order=order), pair, side, depth)
                ]
                for side, order in (("buy", "DESC"), ("sell", "ASC"))
            ]
        return ExchangeBook(pair=pair, events=events, bids=sides[0], asks=sides[1])

    async def trades(self, pair: str, *, limit: int, before: int | None) -> Sequence[ExchangeTrade]:
        """Trades of a pair, the newest first. Raises `PairNotFound`."""
        wanted = select(ExchangeTradeRow).where(ExchangeTradeRow.pair == pair)
        if before is not None:
            wanted = wanted.where(ExchangeTradeRow.number < before)
        async with self._database.reading() as session:
            if await session.get(PairRow, pair) is None:
                raise PairNotFound
            rows = await session.scalars(wanted.order_by(ExchangeTradeRow.number.desc()).limit(limit))
            return [trade_view(row) for row in rows]

    async def candles(self, pair: str, interval: str, *, since: datetime, limit: int) -> Sequence[ExchangeCandle]:
        """The trades from a time on, summed by stretches, the oldest first. Raises `PairNotFound`."""
        seconds = INTERVALS[interval]
        first = datetime.fromtimestamp(since.timestamp() // seconds * seconds, UTC)
        async with self._database.raw() as connection:
            await _events(connection, pair)
            rows = await connection.fetch(CANDLES, pair, first, seconds, limit)
        return [
            ExchangeCandle(
                begins_at=datetime.fromtimestamp(row["begins_at"], UTC),
                open=render(row["first"]),
                high=render(row["high"]),
                low=render(row["low"]),
                close=render(row["last"]),
                volume=render(row["volume"]),
                turnover=render(row["turnover"]),
                trades=row["trades"],
            )
            for row in rows
        ]

    async def stats(self, pair: str) -> ExchangeStats:
        """What a pair did in the last 24 hours. Raises `PairNotFound`."""
        async with self._database.raw() as connection, connection.transaction(isolation="repeatable_read"):
            await _events(connection, pair)
            best = await connection.fetchrow(BEST, pair)
            day = await connection.fetchrow(STATS, pair, now() - timedelta(hours=24))
            last = await connection.fetchval(LAST, pair)
        assert best is not None
        assert day is not None
        return ExchangeStats(
            pair=pair,
            last=_price(last),
            bid=_price(best["bid"]),
            ask=_price(best["ask"]),
            open=_price(day["first"]),
            high=_price(day["high"]),
            low=_price(day["low"]),
            volume=render(day["volume"]),
            turnover=render(day["turnover"]),
            trades=day["trades"],
        )


async def _events(connection: Connection, pair: str) -> int:
    found = await connection.fetchval("SELECT events FROM trading.exchange_pairs WHERE id = $1", pair)
    if found is None:
        raise PairNotFound
    return int(found)


def _price(units: int | None) -> str | None:
    return None if units is None else render(units)
