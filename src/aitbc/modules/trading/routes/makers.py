"""The HTTP of market makers."""

from typing import Annotated

from litestar import Controller, Response, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.money import InvalidAmount, parse
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.trading.models.exchange.views import MarketMaker
from aitbc.modules.trading.routes.exchange_bodies import PairName
from aitbc.modules.trading.routes.ledger import Amount
from aitbc.modules.trading.routes.positions import short_page
from aitbc.modules.trading.service.exchange.makers import (
    ChangeMarketMaker,
    MakeMarketMaker,
    MarketMakerNotFound,
    MarketMakers,
    TooManyMarketMakers,
)
from aitbc.modules.trading.service.exchange.pairs import PairNotFound

Who = NamedDependency[Principal]
Makers = NamedDependency[MarketMakers]
Spread = Annotated[int, Meta(ge=1, le=5_000)]
Depth = Annotated[int, Meta(ge=1, le=10)]
CHANGES: dict[str, object] = {
    "permission": "exchange:write",
    "idempotency": "natural",
    "errors": (MarketMakerNotFound, InvalidAmount, AmountOverflow),
}


class MakeExchangeMaker(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a market maker is to quote."""

    pair: PairName
    """The pair. For example `GOLD-AITBC`."""
    spread_basis_points: Spread = 100
    """Between its best bid and its best ask, in 1/10 000 of the price. For example `100`."""
    depth: Depth = 1
    """How many prices of each side it quotes; each is a spread farther. For example `3`."""
    size: Amount
    """How much of the base it quotes at each price. For example `0.5`."""
    base_limit: Amount
    """The most of the base that lies in its orders. For example `10`."""
    quote_limit: Amount
    """The most of the quote that lies in its orders. For example `25`."""

    def command(self) -> MakeMarketMaker:
        """As the service takes it. Raises `InvalidAmount`, `AmountOverflow`."""
        return MakeMarketMaker(
            pair=self.pair,
            spread_basis_points=self.spread_basis_points,
            depth=self.depth,
            size_units=parse(self.size),
            base_limit_units=parse(self.base_limit),
            quote_limit_units=parse(self.quote_limit),
        )


class ChangeExchangeMaker(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a market maker is to quote from now on."""

    spread_basis_points: Spread
    """Between its best bid and its best ask, in 1/10 000 of the price. For example `50`."""
    depth: Depth
    """How many prices of each side it quotes. For example `2`."""
    size: Amount
    """How much of the base it quotes at each price. For example `0.5`."""
    base_limit: Amount
    """The most of the base that lies in its orders. For example `20`."""
    quote_limit: Amount
    """The most of the quote that lies in its orders. For example `50`."""

    def command(self) -> ChangeMarketMaker:
        """As the service takes it. Raises `InvalidAmount`, `AmountOverflow`."""
        return ChangeMarketMaker(
            spread_basis_points=self.spread_basis_points,
            depth=self.depth,
            size_units=parse(self.size),
            base_limit_units=parse(self.base_limit),
            quote_limit_units=parse(self.quote_limit),
        )


class ExchangeMakerController(Controller):
    """Programs that quote from the caller's account."""

    path = "/exchange/makers"
    tags = ("exchange",)

    @post(
        "/",
        operation_id="make_market_maker",
        summary="Make a market maker",
        opt={
            "permission": "exchange:write",
            "idempotency": "required",
            "errors": (InvalidAmount, AmountOverflow, PairNotFound, TooManyMarketMakers),
        },
    )
    async def make(
        self,
        market_makers: Makers,
        who: Who,
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[MakeExchangeMaker],
    ) -> Response[MarketMaker]:
        """Have a program quote both sides of a pair from the caller's account; it stands still until it is started.

        It quotes around the middle of others' best prices, else around the last trade, with orders that never take;
        what lies in them is never more than its limits, nor than the account has.
        """
        made = await market_makers.make(who, data.command(), once)
        return Response(made, status_code=201, headers={"location": f"/api/v1/trading/exchange/makers/{made.id}"})

    @get(
        "/",
        operation_id="list_market_makers",
        summary="List your market makers",
        opt={"permission": "exchange:read", "errors": (InvalidCursor,)},
    )
    async def mine(
        self, market_makers: Makers, who: Who, limit: FromQuery[Limit] = 50, cursor: FromQuery[Cursor] = None
    ) -> Page[MarketMaker]:
        """List the caller's market makers, the oldest first, with what each did."""
        return short_page("market_makers", await market_makers.all(who), limit, cursor, lambda one: one.id)

    @get(
        "/{market_maker:str}",
        operation_id="get_market_maker",
        summary="Read a market maker",
        opt={"permission": "exchange:read", "errors": (MarketMakerNotFound,)},
    )
    async def one(self, market_makers: Makers, who: Who, market_maker: FromPath[str]) -> MarketMaker:
        """Read a market maker of the caller's, and what its orders bought and sold."""
        return await market_makers.get(who, market_maker)

    @put("/{market_maker:str}", operation_id="change_market_maker", summary="Change a market maker", opt=CHANGES)
    async def change(
        self, market_makers: Makers, who: Who, market_maker: FromPath[str], data: JSONBody[ChangeExchangeMaker]
    ) -> MarketMaker:
        """Let it quote otherwise from its next round on, within five seconds."""
        return await market_makers.change(who, market_maker, data.command())

    @post(
        "/{market_maker:str}/start",
        status_code=200,
        operation_id="start_market_maker",
        summary="Start a market maker",
        opt=CHANGES,
    )
    async def start(self, market_makers: Makers, who: Who, market_maker: FromPath[str]) -> MarketMaker:
        """Let it quote, from within five seconds on until it is stopped."""
        return await market_makers.start(who, market_maker)

    @post(
        "/{market_maker:str}/stop",
        status_code=200,
        operation_id="stop_market_maker",
        summary="Stop a market maker",
        opt=CHANGES,
    )
    async def stop(self, market_makers: Makers, who: Who, market_maker: FromPath[str]) -> MarketMaker:
        """Let it quote no more: its orders are canceled before this is answered, and what they hold returns."""
        return await market_makers.stop(who, market_maker)
