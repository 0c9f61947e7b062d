"""The older exchange: pairs and figures of ours, and bots that quote on our book; what nothing stands behind is
refused."""

from datetime import timedelta
from typing import Annotated

from litestar import Controller, get, post
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta

from aitbc.kernel.legacy.amounts import units_of
from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.legacy.not_done import not_done
from aitbc.kernel.legacy.paging import Word
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.money import LARGEST, parse, render
from aitbc.modules.trading.legacy.caller import Trading
from aitbc.modules.trading.legacy.exchange_shapes import (
    SIMPLE,
    ConfigureMakerBody,
    CreateMakerBody,
    CreatePairBody,
    StartMakerBody,
    StartTradingBody,
    basis_points,
    maker_shape,
    ours,
    pair_shape,
    performance_shape,
    stats_shape,
)
from aitbc.modules.trading.models.exchange.views import ExchangePair
from aitbc.modules.trading.service.exchange.makers import ChangeMarketMaker, MakeMarketMaker

READ, WRITE = "exchange:read", "exchange:write"
LOOK, ACT = {"permission": READ}, {"permission": WRITE}
RUN = {"permission": "ledger:write"}
NO_OTHERS = "Keys of other exchanges are of no use here: what is exchanged is exchanged in this ledger."
NO_BITCOIN = (
    "This platform sells nothing for Bitcoin: no node of Bitcoin stands behind it (there is no setting "
    "exchange.bitcoin_rpc_url yet). An operator's deposit or the faucet gives AITBC."
)
ID = "{id:str}"
Hours = FromQuery[Annotated[int, Meta(ge=1, le=24 * 366)]]


def exchange_at(path: str) -> type[Controller]:
    """The pairs of the exchange, at a path."""
    prefix = path

    class OlderExchange(Controller):
        """Pairs, and what they did."""

        path = prefix

        @get("/pairs", opt=LOOK)
        async def pairs(
            self, trading: Trading, pair: Word = None, exchange: Word = None, status: Word = None
        ) -> dict[str, object]:
            """List the pairs; `exchange` names this one, whatever it says."""
            found = [
                pair_shape(one)
                for one in await trading.exchange_pairs.all()
                if pair in (None, "") or one.id == ours(pair)
            ]
            found = [one for one in found if status in (None, "", one["status"])]
            return {"pairs": found, "total": len(found)}

        @get("/market-stats", opt=LOOK)
        async def stats(self, trading: Trading) -> dict[str, object]:
            """What each pair did in the last 24 hours: from its trades, null where there was none."""
            pairs = await trading.exchange_pairs.all()
            found = [stats_shape(await trading.market_data.stats(one.id)) for one in pairs[:SHOWN_MAX]]
            return {"markets": found, "pairs": len(pairs), "trades_24h": sum(_count(one) for one in found)}

        @post("/create-pair", status_code=200, opt=RUN | {"idempotency": "natural"})
        async def create(self, trading: Trading, who: Who, data: JSONBody[CreatePairBody]) -> dict[str, object]:
            """Let two assets be exchanged; both must be defined."""
            return pair_shape(await trading.exchange_pairs.make(who, data.command()))

        @post("/start-trading", status_code=200, opt=RUN | {"idempotency": "natural"})
        async def start(self, trading: Trading, who: Who, data: JSONBody[StartTradingBody]) -> dict[str, object]:
            """Take orders for a pair."""
            return pair_shape(await trading.exchange_pairs.change(who, ours(data.pair), "open"))

    return OlderExchange


SHOWN_MAX = 50
"""Of how many pairs the figures are shown."""
LegacyExchange = exchange_at("/api/v1/exchange")
CoordinatorExchange = exchange_at("/v1/exchange")


class CoordinatorMarketMakers(Controller):
    """Bots that quote from the caller's account."""

    path = "/api/v1/market-maker"

    @post("/create", status_code=200, opt=ACT)
    async def create(
        self, trading: Trading, who: Who, once: Once, data: JSONBody[CreateMakerBody]
    ) -> dict[str, object]:
        """Have a bot, which stands still until it is started."""
        data.check()
        pair = await trading.exchange_pairs.one(ours(data.pair))
        size = _size(pair, min(data.depth, data.max_order_size or data.depth))
        base = size if data.base_balance is None else units_of(data.base_balance, "/base_balance")
        quote = LARGEST if data.quote_balance is None else units_of(data.quote_balance, "/quote_balance")
        command = MakeMarketMaker(
            pair=pair.id,
            spread_basis_points=basis_points(data.spread),
            depth=1,
            size_units=size,
            base_limit_units=base,
            quote_limit_units=quote,
        )
        return maker_shape(await trading.market_makers.make(who, command, once))

    @post("/config/{bot:str}", status_code=200, opt=ACT | {"idempotency": "natural"})
    async def configure(
        self, trading: Trading, who: Who, bot: FromPath[str], data: JSONBody[ConfigureMakerBody]
    ) -> dict[str, object]:
        """Let a bot quote otherwise."""
        known = await trading.market_makers.get(who, bot)
        size = None
        if data.depth is not None:
            size = _size(await trading.exchange_pairs.one(known.pair), data.depth)
        spread = None if data.spread is None else basis_points(data.spread)
        command = ChangeMarketMaker(spread_basis_points=spread, size_units=size)
        return maker_shape(await trading.market_makers.change(who, bot, command))

    @post("/start/{bot:str}", status_code=200, opt=ACT | {"idempotency": "natural"})
    async def start(
        self, trading: Trading, who: Who, bot: FromPath[str], data: JSONBody[StartMakerBody]
    ) -> dict[str, object]:
        """Start a bot; a dry run says what it would quote, and starts nothing."""
        if not data.dry_run:
            return maker_shape(await trading.market_makers.start(who, bot)) | {"dry_run": False}
        quotes = await trading.market_makers.would_quote(who, bot)
        shown = [
            {"side": one.side, "price": float(render(one.price_units)), "size": float(render(one.quantity_units))}
            for one in quotes
        ]
        return maker_shape(await trading.market_makers.get(who, bot)) | {"dry_run": True, "orders": shown}

    @post("/stop/{bot:str}", status_code=200, opt=ACT | {"idempotency": "natural"})
    async def stop(self, trading: Trading, who: Who, bot: FromPath[str]) -> dict[str, object]:
        """Stop a bot: its orders are canceled."""
        return maker_shape(await trading.market_makers.stop(who, bot))

    @get("/status/{bot:str}", opt=LOOK)
    async def status(self, trading: Trading, who: Who, bot: FromPath[str]) -> dict[str, object]:
        """A bot of the caller's."""
        return maker_shape(await trading.market_makers.get(who, bot))

    @get("/list", opt=LOOK)
    async def bots(self, trading: Trading, who: Who, exchange: Word = None) -> dict[str, object]:
        """The caller's bots."""
        found = [maker_shape(one) for one in await trading.market_makers.all(who)]
        return {"bots": found, "total": len(found)}

    @get("/performance", opt=LOOK)
    async def performance(
        self,
        trading: Trading,
        who: Who,
        bot_id: Word = None,
        exchange: Word = None,
        pair: Word = None,
        status: Word = None,
    ) -> dict[str, object]:
        """What the caller's bots did, counted from their orders."""
        found = [
            performance_shape(one)
            for one in await trading.market_makers.all(who)
            if bot_id in (None, "", one.id)
            if pair in (None, "") or one.pair == ours(pair)
            if status in (None, "", one.state)
        ]
        return {"performance": found, "total": len(found)}

    @get("/history/{bot:str}", opt=LOOK)
    async def history(self, trading: Trading, who: Who, bot: FromPath[str], hours: Hours = 24) -> dict[str, object]:
        """What a bot traded in the last hours, the oldest first."""
        found = await trading.market_makers.traded_since(who, bot, now() - timedelta(hours=hours))
        trades = [
            {"side": side, "price": float(render(price)), "size": float(render(size)), "at": at.isoformat()}
            for side, price, size, at in found
        ]
        return {"bot_id": bot, "hours": hours, "trades": trades, "total": len(trades)}

    @get("/strategies", opt=LOOK)
    async def strategies(self, trading: Trading) -> dict[str, object]:
        """The one way of quoting that there is."""
        said = (
            "Quotes both sides around the middle of others' best prices, else around the last trade, within its limits."
        )
        return {"strategies": [{"name": SIMPLE, "description": said}]}


RegistrationRefused = not_done(NO_OTHERS, read=READ, write=WRITE, posts=("/api/v1/exchange/register",))
CoordinatorRegistrationRefused = not_done(NO_OTHERS, read=READ, write=WRITE, posts=("/v1/exchange/register",))
BitcoinRefused = not_done(
    NO_BITCOIN,
    read=READ,
    write=WRITE,
    gets=(
        "/api/v1/exchange/rates",
        f"/api/v1/exchange/payment-status/{ID}",
        "/api/v1/exchange/wallet/balance",
        "/api/v1/exchange/wallet/info",
    ),
    posts=("/api/v1/exchange/create-payment",),
)
CoordinatorBitcoin = not_done(
    NO_BITCOIN,
    read=READ,
    write=WRITE,
    gets=(
        "/v1/exchange/rates",
        f"/v1/exchange/payment-status/{ID}",
        "/exchange/wallet/balance",
        "/exchange/wallet/info",
    ),
    posts=("/v1/exchange/create-payment",),
)


def _size(pair: ExchangePair, amount: float) -> int:
    """A size that a pair takes: rounded down to its step, at most its most. Raises `Invalid` for what is no amount."""
    step, most = parse(pair.quantity_step), parse(pair.max_quantity)
    return min(units_of(amount, "/depth"), most) // step * step


def _count(stats: dict[str, object]) -> int:
    trades = stats["trades_24h"]
    return trades if isinstance(trades, int) else 0
