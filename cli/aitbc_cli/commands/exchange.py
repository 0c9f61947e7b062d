"""The exchange: pairs, the book, and one's own orders."""

from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND
from aitbc_cli.output import Column, column, columns

PAIRS, ORDERS = "/api/v1/trading/exchange/pairs", "/api/v1/trading/exchange/orders"


def _numbers(*names: str) -> tuple[Column, ...]:
    return tuple(column(name, kind="number") for name in names)


PAIR = (*columns("id", "state"), *_numbers("price_step", "quantity_step", "min_quantity", "max_quantity"))
ORDER = (
    *columns("id", "pair", "side", "kind", "state", "reason"),
    *_numbers("price", "quantity", "filled", "cost", "held"),
    *columns("held_asset", "created_at"),
)
LEVEL = (*columns("side"), *_numbers("price", "quantity", "orders"))
FILL = (*columns("at"), *_numbers("price", "quantity", "cost", "fee"), *columns("is_maker", "transaction"))
TRADE = (*_numbers("number", "price", "quantity", "cost"), *columns("taker_side", "at"))
CANDLE = (*columns("begins_at"), *_numbers("open", "high", "low", "close", "volume", "turnover", "trades"))
STATS = (*columns("pair"), *_numbers("last", "bid", "ask", "open", "high", "low", "volume", "turnover", "trades"))
PairName = Annotated[str, typer.Argument(metavar="PAIR", help="The pair, for instance GOLD-AITBC.")]
OrderId = Annotated[str, typer.Argument(metavar="ORDER", help="The order's id, ordr_…")]
Quantity = Annotated[str, typer.Argument(help="How much of the pair's first asset.")]
Price = Annotated[
    str | None, typer.Option("--price", help="The most you give, or the least you take, for one; any if left out.")
]
Lasts = Annotated[
    str | None, typer.Option("--lasts", help="gtc: the rest stays; ioc: it is canceled; fok: all at once or nothing.")
]
PostOnly = Annotated[bool, typer.Option("--post-only", help="End it where it would take something at once.")]
Label = Annotated[str | None, typer.Option("--label", help="What it is for, in your words.")]
app = noun("exchange", "The exchange: buy and sell assets at a limit or at once, see the book.")


@command(
    app,
    "buy",
    examples=["aitbc exchange buy GOLD-AITBC 10 --price 2.5", "aitbc exchange buy GOLD-AITBC 1"],
    changes=True,
    ends=[NOT_FOUND],
)
def buy(
    call: Call,
    pair: PairName,
    quantity: Quantity,
    price: Price = None,
    lasts: Lasts = None,
    post_only: PostOnly = False,
    label: Label = None,
) -> None:
    """Buy at the best prices that rest; with --price up to a limit, and what is left waits."""
    _place(call, "buy", pair, quantity, price=price, lasts=lasts, post_only=post_only, label=label)


@command(
    app,
    "sell",
    examples=["aitbc exchange sell GOLD-AITBC 10 --price 2.6 --post-only", "aitbc exchange sell GOLD-AITBC 1"],
    changes=True,
    ends=[NOT_FOUND],
)
def sell(
    call: Call,
    pair: PairName,
    quantity: Quantity,
    price: Price = None,
    lasts: Lasts = None,
    post_only: PostOnly = False,
    label: Label = None,
) -> None:
    """Sell at the best prices that rest; with --price down to a limit, and what is left waits."""
    _place(call, "sell", pair, quantity, price=price, lasts=lasts, post_only=post_only, label=label)


def _place(call: Call, side: str, pair: str, quantity: str, **how: Any) -> None:
    body = {"pair": pair, "side": side, "quantity": quantity}
    body |= {name: value for name, value in how.items() if value}
    call.out.one(call.change("POST", ORDERS, body), ORDER)


@command(app, "cancel", examples=["aitbc exchange cancel ordr_01…"], changes=True, ends=[NOT_FOUND])
def cancel(call: Call, order: OrderId) -> None:
    """Take back what is left of an order: what is held for it returns."""
    call.out.one(call.change("POST", f"{ORDERS}/{part(order)}/cancel", natural=True), ORDER)


@command(app, "orders", examples=["aitbc exchange orders", "aitbc exchange orders --state open"], lists=True)
def orders(
    call: Call,
    pair: Annotated[str | None, typer.Option("--pair", help="Only of this pair.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="open, filled or canceled.")] = None,
) -> None:
    """List your orders from the newest on."""
    call.list(ORDERS, ORDER, pair=pair, state=state)


@command(app, "show", examples=["aitbc exchange show ordr_01…"], ends=[NOT_FOUND])
def show(call: Call, order: OrderId) -> None:
    """Show an order: what is filled, what it cost, and what is held for the rest."""
    call.out.one(call.api.get(f"{ORDERS}/{part(order)}"), (*ORDER, *columns("fee", "fee_asset", "label", "ended_at")))


@command(app, "fills", examples=["aitbc exchange fills ordr_01…"], lists=True, ends=[NOT_FOUND])
def fills(call: Call, order: OrderId) -> None:
    """List what was bought or sold of an order, each part with its fee."""
    call.list(f"{ORDERS}/{part(order)}/fills", FILL, name="trade")


@command(app, "pairs", examples=["aitbc exchange pairs"], lists=True)
def pairs(call: Call) -> None:
    """List what is exchanged for what."""
    call.list(PAIRS, PAIR)


@command(app, "book", examples=["aitbc exchange book GOLD-AITBC"], ends=[NOT_FOUND])
def book(
    call: Call,
    pair: PairName,
    depth: Annotated[int, typer.Option("--depth", help="How many prices of each side, at most 500.")] = 10,
) -> None:
    """List what rests by price: what is for sale from the dearest, then what is wanted from the highest."""
    found = call.api.get(f"{PAIRS}/{part(pair)}/book", depth=depth)
    rows = [{"side": "sell", **level} for level in reversed(found["asks"])]
    rows += [{"side": "buy", **level} for level in found["bids"]]
    call.out.rows(rows, LEVEL, name="price")


@command(app, "trades", examples=["aitbc exchange trades GOLD-AITBC"], lists=True, ends=[NOT_FOUND])
def trades(call: Call, pair: PairName) -> None:
    """List what was traded, from the newest on."""
    call.list(f"{PAIRS}/{part(pair)}/trades", TRADE)


@command(app, "candles", examples=["aitbc exchange candles GOLD-AITBC --interval 1h"], lists=True, ends=[NOT_FOUND])
def candles(
    call: Call,
    pair: PairName,
    interval: Annotated[str, typer.Option("--interval", help="1m, 5m, 15m, 1h, 4h or 1d.")] = "1h",
) -> None:
    """List the trades summed by stretches of time; a stretch without a trade is left out."""
    call.list(f"{PAIRS}/{part(pair)}/candles", CANDLE, name="begins_at", interval=interval)


@command(app, "stats", examples=["aitbc exchange stats GOLD-AITBC"], ends=[NOT_FOUND])
def stats(call: Call, pair: PairName) -> None:
    """Show the last price, the best prices now, and what was traded in the last 24 hours."""
    call.out.one(call.api.get(f"{PAIRS}/{part(pair)}/stats"), STATS, name="pair")


@command(
    app,
    "create",
    examples=["aitbc exchange create GOLD", "aitbc exchange create GOLD IRON --price-step 0.01"],
    changes=True,
    ends=[NOT_FOUND],
)
def create(
    call: Call,
    base: Annotated[str, typer.Argument(help="What is bought and sold.")],
    quote: Annotated[str, typer.Argument(help="What it is paid in.")] = "AITBC",
    price_step: Annotated[str | None, typer.Option("--price-step", help="Prices are multiples of it.")] = None,
    quantity_step: Annotated[str | None, typer.Option("--quantity-step", help="Quantities are, too.")] = None,
    min_quantity: Annotated[str | None, typer.Option("--min-quantity", help="The least of an order.")] = None,
    max_quantity: Annotated[str | None, typer.Option("--max-quantity", help="The most of an order.")] = None,
) -> None:
    """Let two assets be exchanged for each other (admins). Both steps multiplied must be whole minor units."""
    given = {"price_step": price_step, "quantity_step": quantity_step}
    given |= {"min_quantity": min_quantity, "max_quantity": max_quantity}
    body = {"base": base, "quote": quote} | {name: value for name, value in given.items() if value is not None}
    call.out.one(call.change("POST", PAIRS, body, natural=True), PAIR)


@command(app, "halt", examples=["aitbc exchange halt GOLD-AITBC"], changes=True, ends=[NOT_FOUND])
def halt(call: Call, pair: PairName) -> None:
    """Take no new orders for a pair (admins); open ones stay, and can be canceled."""
    call.out.one(call.change("PUT", f"{PAIRS}/{part(pair)}", {"state": "halted"}, natural=True), PAIR)


@command(app, "open", examples=["aitbc exchange open GOLD-AITBC"], changes=True, ends=[NOT_FOUND])
def reopen(call: Call, pair: PairName) -> None:
    """Take orders for a pair again (admins)."""
    call.out.one(call.change("PUT", f"{PAIRS}/{part(pair)}", {"state": "open"}, natural=True), PAIR)
