"""The exchange and the book of the market: what rests, one's own orders and bids, and the forms for new ones."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter
from msgspec import Meta

from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.web.forms import Form
from aitbc.web.visit import READ, SEND, Visit, faults_of, part, see

EXCHANGE = "/api/v1/trading/exchange"
MARKET = "/api/v1/marketplace"
PAGE = 25
DEPTH = 15
"""So many prices of each side of a book are shown."""
TRADES = 15
PAIRS_WITH_FIGURES = 12
"""Of so many pairs the figures stand beside their names; of further ones on their own pages."""
Cursor = Annotated[str, Meta(max_length=500)]
OrderState = Literal["open", "filled", "canceled"]
InState = Annotated[OrderState | None, QueryParameter(name="state")]


class ExchangePages(Controller):
    """Assets that are exchanged for each other."""

    path = "/market/exchange"
    include_in_schema = False

    @get("/", opt=READ)
    async def pairs(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Every pair with its figures, and what one has of each asset."""
        pairs = (await visit.get(f"{EXCHANGE}/pairs", limit=200))["data"]
        for one in pairs[:PAIRS_WITH_FIGURES]:
            one["stats"] = await visit.get(f"{EXCHANGE}/pairs/{one['id']}/stats")
        return visit.page(
            "exchange/pairs.html",
            pairs=pairs,
            balances=await _balances(visit),
            cli=["aitbc exchange pairs", "aitbc asset balances"],
        )

    @get("/pairs/{pair:str}", opt=READ)
    async def pair(self, visit: NamedDependency[Visit], pair: FromPath[str]) -> Response[bytes]:
        """One pair: its book, its trades, one's open orders, and the form for a new one."""
        return await _pair_page(visit, part(pair))

    @post("/pairs/{pair:str}/orders", opt=SEND)
    async def place(self, visit: NamedDependency[Visit], pair: FromPath[str]) -> Response[bytes]:
        """Buy or sell."""
        form = await visit.form()
        body = {"pair": part(pair), **form.given("side", "quantity", "price", "lasts", "label")}
        try:
            made = await visit.send(f"{EXCHANGE}/orders", body, once=form.get("once") or None)
        except AppError as refusal:
            return await _pair_page(visit, pair, form=form, error=refusal)
        return see(f"/market/exchange/orders/{made['id']}")

    @get("/orders", opt=READ)
    async def orders(
        self, visit: NamedDependency[Visit], in_state: InState = None, cursor: FromQuery[Cursor | None] = None
    ) -> Response[bytes]:
        """One's own orders, newest first."""
        found = await visit.get(f"{EXCHANGE}/orders", state=in_state, limit=PAGE, cursor=cursor)
        return visit.page("exchange/orders.html", orders=found, state=in_state, cli=["aitbc exchange orders"])

    @get("/orders/{order:str}", opt=READ)
    async def order(self, visit: NamedDependency[Visit], order: FromPath[str]) -> Response[bytes]:
        """One order with what was bought or sold of it."""
        found = await visit.get(f"{EXCHANGE}/orders/{part(order)}")
        fills = await visit.get(f"{EXCHANGE}/orders/{order}/fills", limit=PAGE)
        return visit.page("exchange/order.html", order=found, fills=fills, cli=[f"aitbc exchange show {order}"])

    @post("/orders/{order:str}/cancel", opt=SEND)
    async def cancel(self, visit: NamedDependency[Visit], order: FromPath[str]) -> Response[bytes]:
        """Take back what is left of an order."""
        await visit.form()
        await visit.send(f"{EXCHANGE}/orders/{part(order)}/cancel")
        return see(f"/market/exchange/orders/{order}")


class MarketBookPages(Controller):
    """What people would give for the time of miners."""

    path = "/market/book"
    include_in_schema = False

    @get("/", opt=READ)
    async def book(self, visit: NamedDependency[Visit], cursor: FromQuery[Cursor | None] = None) -> Response[bytes]:
        """What rests, one's own bids, and the form for a new one."""
        return await _book_page(visit, cursor=cursor)

    @post("/", opt=SEND)
    async def place(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Bid, or ask owners for prices until a deadline."""
        form = await visit.form()
        try:
            path, body = _bid(form)
            made = await visit.send(f"{MARKET}/{path}", body, once=form.get("once") or None)
        except AppError as refusal:
            return await _book_page(visit, values=form.fields, error=refusal)
        return see(f"/market/book/{made['id']}")

    @get("/{bid:str}", opt=READ)
    async def bid(self, visit: NamedDependency[Visit], bid: FromPath[str]) -> Response[bytes]:
        """One bid or request, with what it got and what is asked for it."""
        return await _bid_page(visit, part(bid))

    @post("/{bid:str}/cancel", opt=SEND)
    async def cancel(self, visit: NamedDependency[Visit], bid: FromPath[str]) -> Response[bytes]:
        """Take back what is left of a bid."""
        await visit.form()
        return await _done(visit, part(bid), "cancel", None)

    @post("/{bid:str}/ask", opt=SEND)
    async def ask(self, visit: NamedDependency[Visit], bid: FromPath[str]) -> Response[bytes]:
        """Ask a price for somebody's request."""
        return await _done(visit, part(bid), "ask", (await visit.form()).given("offer", "price_hour"))


async def _balances(visit: Visit) -> list[dict[str, Any]]:
    """What one has of each asset."""
    path = f"/api/v1/trading/accounts/{visit.who.account}/assets"
    found = await visit.maybe(path, scope="ledger:read", limit=200)
    return list(found["data"]) if found else []


async def _pair_page(
    visit: Visit, pair: str, *, form: Form | None = None, error: AppError | None = None
) -> Response[bytes]:
    found = await visit.get(f"{EXCHANGE}/pairs/{pair}")
    return visit.page(
        "exchange/pair.html",
        pair=found,
        stats=await visit.get(f"{EXCHANGE}/pairs/{pair}/stats"),
        book=await visit.get(f"{EXCHANGE}/pairs/{pair}/book", depth=DEPTH),
        trades=await visit.get(f"{EXCHANGE}/pairs/{pair}/trades", limit=TRADES),
        orders=await visit.get(f"{EXCHANGE}/orders", pair=pair, state="open", limit=PAGE),
        balances=[one for one in await _balances(visit) if one["asset"] in (found["base"], found["quote"])],
        values=form.fields if form else {},
        once=(form.get("once") if form else "") or new_uuid().hex,
        error=error,
        faults=faults_of(error) if error else {},
        status=error.status if error else 200,
        cli=[f"aitbc exchange book {pair}", f"aitbc exchange buy {pair} 1 --price {found['price_step']}"],
    )


def _bid(form: Form) -> tuple[str, dict[str, Any]]:
    """Where a bid goes, and what it says. Raises `Invalid`."""
    body: dict[str, Any] = {
        **form.given("filter", "price_hour", "label"),
        "duration_seconds": form.hours("hours", "/duration_seconds"),
        "quantity": form.whole("quantity") if form.get("quantity") else 1,
    }
    if form.get("does") == "request":
        return "requests", body | {"deadline": form.moment("deadline")}
    return "bids", body | form.given("lasts")


async def _book_page(
    visit: Visit,
    *,
    cursor: str | None = None,
    values: Mapping[str, str] | None = None,
    error: AppError | None = None,
) -> Response[bytes]:
    return visit.page(
        "exchange/book.html",
        book=await visit.get(f"{MARKET}/book", limit=PAGE, cursor=cursor),
        own=await visit.get(f"{MARKET}/bids", limit=PAGE),
        values=values or {},
        once=(values or {}).get("once") or new_uuid().hex,
        error=error,
        faults=faults_of(error) if error else {},
        status=error.status if error else 200,
        cli=["aitbc market book", "aitbc market bids", "aitbc market bid 'vram >= 24GB' --for 2h --price-hour 0.9"],
    )


async def _bid_page(visit: Visit, bid: str, *, error: AppError | None = None) -> Response[bytes]:
    found = await visit.get(f"{MARKET}/bids/{bid}")
    return visit.page(
        "exchange/bid.html",
        bid=found,
        is_own=found["account"] == visit.who.account,
        error=error,
        status=error.status if error else 200,
        cli=[f"aitbc market show {bid}"],
    )


async def _done(visit: Visit, bid: str, action: str, body: Any) -> Response[bytes]:
    try:
        await visit.send(f"{MARKET}/bids/{bid}/{action}", body)
    except AppError as refusal:
        return await _bid_page(visit, bid, error=refusal)
    return see(f"/market/book/{bid}")
