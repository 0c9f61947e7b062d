"""The exchange in the older dialect: its bodies and answers; amounts are JSON numbers, pairs are `GOLD/AITBC`."""

from typing import Annotated

from msgspec import Meta, Struct

from aitbc.kernel.legacy.amounts import PositiveAmount, units_of
from aitbc.kernel.legacy.errors import invalid
from aitbc.kernel.primitives.money import UNIT
from aitbc.kernel.primitives.text import Name
from aitbc.modules.trading.models.exchange.views import ExchangePair, ExchangeStats, MarketMaker
from aitbc.modules.trading.service.exchange.pairs import MakePair

OURS = "aitbc"
"""The name of this exchange, the only one that bots can be on."""
SIMPLE = "simple"
PLACES = 4
"""So many decimal places prices and sizes have where a client asks for more than both can have together."""
WORD = r"^[A-Z][A-Z0-9]{1,11}\Z"
Code = Annotated[str, Meta(pattern=WORD, max_length=12)]
Precision = Annotated[int, Meta(ge=0, le=8)]
Fraction = Annotated[float, Meta(gt=0, le=0.5)]


class CreatePairBody(Struct, frozen=True, kw_only=True):
    """Two assets that are to be exchanged."""

    pair: Name
    base_asset: Code
    quote_asset: Code
    price_precision: Precision = PLACES
    size_precision: Precision = PLACES
    min_order_size: PositiveAmount | None = None
    max_order_size: PositiveAmount | None = None

    def command(self) -> MakePair:
        """As the service takes it. Raises `Invalid`."""
        if ours(self.pair) != f"{self.base_asset}-{self.quote_asset}":
            raise invalid("/pair", "Expected the base, a slash and the quote")
        price, size = self.price_precision, self.size_precision
        if price + size > 8:  # more than all places: then not every cost would be whole
            price = min(price, max(PLACES, 8 - size))
            size = min(size, 8 - price)
        step = 10 ** (8 - size)
        least = (
            step if self.min_order_size is None else -(-units_of(self.min_order_size, "/min_order_size") // step) * step
        )
        most = 1_000_000 * UNIT if self.max_order_size is None else units_of(self.max_order_size, "/max_order_size")
        return MakePair(
            base=self.base_asset,
            quote=self.quote_asset,
            price_step_units=10 ** (8 - price),
            quantity_step_units=step,
            min_quantity_units=least,
            max_quantity_units=most // step * step,
        )


class StartTradingBody(Struct, frozen=True, kw_only=True):
    """A pair that is to take orders."""

    pair: Name


class CreateMakerBody(Struct, frozen=True, kw_only=True):
    """A bot that is to make a market."""

    exchange: Name
    pair: Name
    spread: Fraction = 0.005
    """As a share of the price."""
    depth: PositiveAmount = 1_000_000.0
    """How much of the base it quotes on each side, as far as its money goes."""
    strategy: Name = SIMPLE
    status: Name | None = None
    base_balance: PositiveAmount | None = None
    quote_balance: PositiveAmount | None = None
    min_order_size: PositiveAmount | None = None
    max_order_size: PositiveAmount | None = None

    def check(self) -> None:
        """Raises `Invalid` for another exchange than this one, and for another way of quoting."""
        if self.exchange.lower() != OURS:
            raise invalid("/exchange", "Expected `aitbc`: bots quote on this exchange only")
        if self.strategy.lower() != SIMPLE:
            raise invalid("/strategy", "Expected `simple`")


class ConfigureMakerBody(Struct, frozen=True, kw_only=True):
    """What a bot is to do otherwise."""

    spread: Fraction | None = None
    depth: PositiveAmount | None = None


class StartMakerBody(Struct, frozen=True, kw_only=True):
    """Whether a bot only says what it would quote."""

    dry_run: bool = False


def ours(pair: str) -> str:
    """The name of a pair here: older clients put a slash, a dash or an underscore between its assets."""
    return pair.strip().upper().replace("/", "-").replace("_", "-")


def theirs(pair: str) -> str:
    """The name of a pair in the older dialect."""
    return pair.replace("-", "/")


def basis_points(spread: float) -> int:
    """A spread in 1/10 000 of the price, at least one."""
    return max(1, round(spread * 10_000))


def pair_shape(pair: ExchangePair) -> dict[str, object]:
    """A pair."""
    return {
        "pair_id": pair.id,
        "pair": theirs(pair.id),
        "base_asset": pair.base,
        "quote_asset": pair.quote,
        "price_precision": _places(pair.price_step),
        "size_precision": _places(pair.quantity_step),
        "min_order_size": float(pair.min_quantity),
        "max_order_size": float(pair.max_quantity),
        "status": "active" if pair.state == "open" else "halted",
        "exchange": OURS,
        "created_at": pair.created_at.isoformat(),
    }


def stats_shape(stats: ExchangeStats) -> dict[str, object]:
    """What a pair did: null where nothing was traded."""
    return {
        "pair": theirs(stats.pair),
        "last_price": _number(stats.last),
        "bid": _number(stats.bid),
        "ask": _number(stats.ask),
        "high_24h": _number(stats.high),
        "low_24h": _number(stats.low),
        "volume_24h": _number(stats.volume),
        "turnover_24h": _number(stats.turnover),
        "trades_24h": stats.trades,
    }


def maker_shape(maker: MarketMaker) -> dict[str, object]:
    """A bot."""
    return {
        "bot_id": maker.id,
        "exchange": OURS,
        "pair": theirs(maker.pair),
        "strategy": SIMPLE,
        "spread": maker.spread_basis_points / 10_000,
        "depth": _number(maker.size),
        "base_balance": _number(maker.base_limit),
        "quote_balance": _number(maker.quote_limit),
        "status": maker.state,
        "reason": maker.reason,
        "open_orders": maker.open_orders,
        "created_at": maker.created_at.isoformat(),
    }


def performance_shape(maker: MarketMaker) -> dict[str, object]:
    """What a bot did, from its orders."""
    return {
        "bot_id": maker.id,
        "pair": theirs(maker.pair),
        "status": maker.state,
        "bought": _number(maker.bought),
        "sold": _number(maker.sold),
        "base_change": _number(maker.base_change),
        "quote_change": _number(maker.quote_change),
        "total_pnl": _number(maker.result),
    }


def _number(amount: str | None) -> float | None:
    return None if amount is None else float(amount)


def _places(step: str) -> int:
    return len(step.partition(".")[2])
