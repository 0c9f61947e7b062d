"""The HTTP of the exchange: pairs and what is seen of them, orders and what became of them."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from litestar import Controller, Response, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.money import InvalidAmount
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.trading.api import InsufficientFunds
from aitbc.modules.trading.models.exchange.views import (
    ExchangeBook,
    ExchangeCandle,
    ExchangeFill,
    ExchangeOrder,
    ExchangePair,
    ExchangeStats,
    ExchangeTrade,
)
from aitbc.modules.trading.routes.exchange_bodies import (
    ChangeExchangePair,
    InOrderState,
    MakeExchangePair,
    OfPair,
    PlaceExchangeOrder,
)
from aitbc.modules.trading.routes.positions import number, short_page
from aitbc.modules.trading.service.assets import AssetNotFound
from aitbc.modules.trading.service.exchange.market_data import INTERVALS, MarketData
from aitbc.modules.trading.service.exchange.orders import ExchangeOrders, OrderNotFound, OrdersFilter, TooManyOrders
from aitbc.modules.trading.service.exchange.pairs import ExchangePairs, PairDiffers, PairHalted, PairNotFound

Who = NamedDependency[Principal]
Depth = Annotated[int, Meta(ge=1, le=500)]
Interval = Literal["1m", "5m", "15m", "1h", "4h", "1d"]
Since = Annotated[datetime, Meta(tz=True)]
SEEN: dict[str, object] = {"permission": "exchange:read", "errors": (PairNotFound,)}
ORDERS, FILLS, TRADES, CANDLES = "exchange_orders", "exchange_fills", "exchange_trades", "exchange_candles"


class ExchangePairController(Controller):
    """What is exchanged for what."""

    path = "/exchange/pairs"
    tags = ("exchange",)

    @get(
        "/",
        operation_id="list_exchange_pairs",
        summary="List the pairs",
        opt={"permission": "exchange:read", "errors": (InvalidCursor,)},
    )
    async def all(
        self,
        exchange_pairs: NamedDependency[ExchangePairs],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[ExchangePair]:
        """List every pair of assets that are exchanged for each other, in the order of names."""
        return short_page("exchange_pairs", await exchange_pairs.all(), limit, cursor, lambda one: one.id)

    @post(
        "/",
        operation_id="make_exchange_pair",
        summary="Make a pair",
        opt={
            "permission": "ledger:write",
            "idempotency": "natural",
            "errors": (InvalidAmount, AmountOverflow, AssetNotFound, PairDiffers),
        },
    )
    async def make(
        self, exchange_pairs: NamedDependency[ExchangePairs], who: Who, data: JSONBody[MakeExchangePair]
    ) -> ExchangePair:
        """Let two assets be exchanged for each other, for good; the same again changes nothing.

        Its two steps make every quantity at every price cost a whole number of minor units: nothing is rounded.
        """
        return await exchange_pairs.make(who, data.command())

    @get("/{pair:str}", operation_id="get_exchange_pair", summary="Read a pair", opt=SEEN)
    async def one(self, exchange_pairs: NamedDependency[ExchangePairs], pair: FromPath[str]) -> ExchangePair:
        """Read a pair with its steps and limits."""
        return await exchange_pairs.one(pair)

    @put(
        "/{pair:str}",
        operation_id="change_exchange_pair",
        summary="Halt a pair",
        opt={"permission": "ledger:write", "idempotency": "natural", "errors": (PairNotFound,)},
    )
    async def change(
        self,
        exchange_pairs: NamedDependency[ExchangePairs],
        who: Who,
        pair: FromPath[str],
        data: JSONBody[ChangeExchangePair],
    ) -> ExchangePair:
        """Take no new orders for a pair, or take them again. Open orders stay, and can be canceled."""
        return await exchange_pairs.change(who, pair, data.state)

    @get("/{pair:str}/book", operation_id="get_exchange_book", summary="Read the book of a pair", opt=SEEN)
    async def book(
        self, market_data: NamedDependency[MarketData], pair: FromPath[str], depth: FromQuery[Depth] = 50
    ) -> ExchangeBook:
        """Read what rests, by price, the best first; nobody sees whose orders they are."""
        return await market_data.book(pair, depth=depth)

    @get(
        "/{pair:str}/trades",
        operation_id="list_exchange_trades",
        summary="List the trades of a pair",
        opt={"permission": "exchange:read", "errors": (PairNotFound, InvalidCursor)},
    )
    async def trades(
        self,
        market_data: NamedDependency[MarketData],
        pair: FromPath[str],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[ExchangeTrade]:
        """List what was traded, from the newest on; nobody sees by whom."""
        found = await market_data.trades(pair, limit=limit + 1, before=number(TRADES, cursor))
        return Page.of(TRADES, found, limit, lambda one: (one.number,))

    @get(
        "/{pair:str}/candles",
        operation_id="list_exchange_candles",
        summary="Read candles of a pair",
        opt={"permission": "exchange:read", "errors": (PairNotFound, InvalidCursor)},
    )
    async def candles(
        self,
        market_data: NamedDependency[MarketData],
        pair: FromPath[str],
        interval: FromQuery[Interval] = "1h",
        since: FromQuery[Since | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[ExchangeCandle]:
        """Read the trades summed by stretches of time, the oldest first; a stretch without a trade is left out.

        Without `since` from as many stretches ago as `limit` says.
        """
        stretch = timedelta(seconds=INTERVALS[interval])
        begin = since or now() - stretch * (limit - 1)
        last = number(CANDLES, cursor, pair, interval)
        if last is not None:
            begin = datetime.fromtimestamp(last, UTC) + stretch
        found = await market_data.candles(pair, interval, since=begin, limit=limit + 1)
        bound = (pair, interval)
        return Page.of(CANDLES, found, limit, lambda one: (int(one.begins_at.timestamp()),), bound_to=bound)

    @get("/{pair:str}/stats", operation_id="get_exchange_stats", summary="Read the figures of a pair", opt=SEEN)
    async def stats(self, market_data: NamedDependency[MarketData], pair: FromPath[str]) -> ExchangeStats:
        """Read the last price, the best prices now, and what was traded in the last 24 hours."""
        return await market_data.stats(pair)


class ExchangeOrderController(Controller):
    """What the caller buys and sells."""

    path = "/exchange/orders"
    tags = ("exchange",)

    @post(
        "/",
        operation_id="place_exchange_order",
        summary="Place an order",
        opt={
            "permission": "exchange:write",
            "idempotency": "required",
            "errors": (
                *(InvalidAmount, AmountOverflow, InsufficientFunds),
                *(PairNotFound, PairHalted, TooManyOrders),
            ),
        },
    )
    async def place(
        self,
        exchange_orders: NamedDependency[ExchangeOrders],
        who: Who,
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[PlaceExchangeOrder],
    ) -> Response[ExchangeOrder]:
        """Buy or sell: the best prices that rest come first, of equal ones the oldest, each at the price it names.

        What is left of a limit order rests, and what it may still cost is held, no more and no less. The fee is taken
        out of what each side gets. Nobody trades with themselves: what is left ends where it would.
        """
        made = await exchange_orders.place(who, data.command(), once)
        return Response(made, status_code=201, headers={"location": f"/api/v1/trading/exchange/orders/{made.id}"})

    @get(
        "/",
        operation_id="list_exchange_orders",
        summary="List your orders",
        opt={"permission": "exchange:read", "errors": (InvalidCursor,)},
    )
    async def mine(
        self,
        exchange_orders: NamedDependency[ExchangeOrders],
        who: Who,
        of_pair: OfPair = None,
        in_state: InOrderState = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[ExchangeOrder]:
        """List the caller's own orders from the newest on, those that are over too."""
        bound = (of_pair or "", in_state or "")
        after = after_id(ORDERS, cursor, "ordr", bound_to=bound)
        wanted = OrdersFilter(account=who.account, pair=of_pair, state=in_state, after=after, limit=limit + 1)
        found = await exchange_orders.page(wanted)
        return Page.of(ORDERS, found, limit, lambda one: one.id, bound_to=bound)

    @get(
        "/{order:str}",
        operation_id="get_exchange_order",
        summary="Read an order",
        opt={"permission": "exchange:read", "errors": (OrderNotFound,)},
    )
    async def one(
        self, exchange_orders: NamedDependency[ExchangeOrders], who: Who, order: FromPath[str]
    ) -> ExchangeOrder:
        """Read an order of the caller's: what is filled, what it cost, and what is held for the rest."""
        return await exchange_orders.get(who, order)

    @get(
        "/{order:str}/fills",
        operation_id="list_exchange_fills",
        summary="List the trades of an order",
        opt={"permission": "exchange:read", "errors": (OrderNotFound, InvalidCursor)},
    )
    async def fills(
        self,
        exchange_orders: NamedDependency[ExchangeOrders],
        who: Who,
        order: FromPath[str],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[ExchangeFill]:
        """List what was bought or sold of an order of the caller's, each part with its fee and its transaction."""
        found = await exchange_orders.fills(who, order, limit=limit + 1, after=number(FILLS, cursor))
        return Page.of(FILLS, found, limit, lambda one: (one.number,))

    @post(
        "/{order:str}/cancel",
        status_code=200,
        operation_id="cancel_exchange_order",
        summary="Cancel an order",
        opt={"permission": "exchange:write", "idempotency": "natural", "errors": (OrderNotFound,)},
    )
    async def cancel(
        self, exchange_orders: NamedDependency[ExchangeOrders], who: Who, order: FromPath[str]
    ) -> ExchangeOrder:
        """Take back what is left of an order of the caller's: what is held for it returns. One that is over stays."""
        return await exchange_orders.cancel(who, order)
