"""The market: offers with the search, one offer and its booking, bookings with their statement, one's own offers."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter
from msgspec import Meta

from aitbc.kernel.primitives.errors import AppError, NotFound
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.web.forms import Form
from aitbc.web.visit import READ, SEND, Visit, faults_of, part, see

MARKET = "/api/v1/marketplace"
PAGE = 25
RATINGS = 20
MINERS_READ = 200
Cursor = Annotated[str, Meta(max_length=500)]
Filter = Annotated[str, Meta(max_length=1000)]
Sort = Literal["price", "-price", "vram", "-vram", "created", "-created"]
BookingState = Literal["placed", "reserved", "active", "suspended", "ending", "ended"]
InState = Annotated[BookingState | None, QueryParameter(name="state")]
SIMPLE = frozenset({"end", "interrupt"})
"""What is done to a booking without more words."""


class MarketPages(Controller):
    """Offers, and booking one."""

    path = "/market"
    include_in_schema = False

    @get("/", opt=READ)
    async def search(
        self,
        visit: NamedDependency[Visit],
        q: FromQuery[Filter] = "",
        sort: FromQuery[Sort] = "price",
        cursor: FromQuery[Cursor | None] = None,
    ) -> Response[bytes]:
        """What can be taken now; a filter that cannot be read is shown with what is wrong about it."""
        offers, error = {"data": [], "has_more": False, "next_cursor": None}, None
        try:
            offers = await visit.get(f"{MARKET}/search", filter=q.strip(), sort=sort, limit=PAGE, cursor=cursor)
        except AppError as refusal:
            if refusal.status != 422:
                raise
            error = refusal
        return visit.page(
            "marketplace/search.html",
            offers=offers,
            q=q,
            sort=sort,
            error=error,
            status=error.status if error else 200,
            cli=["aitbc market search 'vram >= 24GB' --sort price"],
        )

    @get("/offers/{offer:str}", opt=READ)
    async def offer(self, visit: NamedDependency[Visit], offer: FromPath[str]) -> Response[bytes]:
        """One offer: what is known of it, how others rated its miner, and the form that books it."""
        return await _offer_page(visit, part(offer))

    @post("/offers/{offer:str}/book", opt=SEND)
    async def book(self, visit: NamedDependency[Visit], offer: FromPath[str]) -> Response[bytes]:
        """Quote a booking, which changes nothing, or book."""
        form = await visit.form()
        try:
            body = _booking(part(offer), form)
            if form.get("do") == "book":
                made = await visit.send(f"{MARKET}/bookings", body, once=form.get("once") or None)
                return see(f"/market/bookings/{made['id']}")
            quote = await visit.send(f"{MARKET}/booking-quotes", body)
        except AppError as refusal:
            return await _offer_page(visit, offer, form=form, error=refusal)
        return await _offer_page(visit, offer, form=form, quote=quote)

    @post("/offers/{offer:str}/withdraw", opt=SEND)
    async def withdraw(self, visit: NamedDependency[Visit], offer: FromPath[str]) -> Response[bytes]:
        """Sell it no more."""
        await visit.form()
        await visit.send(f"{MARKET}/offers/{part(offer)}/withdraw")
        return see(f"/market/offers/{offer}")

    @post("/offers/{offer:str}/price", opt=SEND)
    async def reprice(self, visit: NamedDependency[Visit], offer: FromPath[str]) -> Response[bytes]:
        """Ask another price for it."""
        form = await visit.form()
        try:
            change = {"version": form.whole("version"), "price": form.get("price")}
            await visit.send(f"{MARKET}/offers/{part(offer)}/change", change)
        except AppError as refusal:
            return await _offer_page(visit, offer, error=refusal)
        return see(f"/market/offers/{offer}")

    @get("/own", opt=READ)
    async def own(self, visit: NamedDependency[Visit], cursor: FromQuery[Cursor | None] = None) -> Response[bytes]:
        """One's own offers, and the form for a new one."""
        return await _own_page(visit, cursor=cursor)

    @post("/own", opt=SEND)
    async def make(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Put work or time of a miner on sale."""
        form = await visit.form()
        try:
            made = await visit.send(f"{MARKET}/offers", _offer(form), once=form.get("once") or None)
        except AppError as refusal:
            return await _own_page(visit, error=refusal, values=form.fields)
        return see(f"/market/offers/{made['id']}")

    @post("/own/bond", opt=SEND)
    async def lock(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Lock a bond, or want it back."""
        form = await visit.form()
        try:
            if form.get("do") == "leave":
                await visit.send(f"{MARKET}/bonds/leave")
            else:
                await visit.send(f"{MARKET}/bonds", form.given("amount"), once=form.get("once") or None)
        except AppError as refusal:
            return await _own_page(visit, error=refusal)
        return see("/market/own")


class BookingPages(Controller):
    """What is booked."""

    path = "/market/bookings"
    include_in_schema = False

    @get("/", opt=READ)
    async def bookings(
        self,
        visit: NamedDependency[Visit],
        in_state: InState = None,
        cursor: FromQuery[Cursor | None] = None,
    ) -> Response[bytes]:
        """What one pays, or whose miner is one's own; newest first."""
        found = await visit.get(f"{MARKET}/bookings", state=in_state, limit=PAGE, cursor=cursor)
        return visit.page("marketplace/bookings.html", bookings=found, state=in_state, cli=["aitbc booking list"])

    @get("/{booking:str}", opt=READ)
    async def booking(self, visit: NamedDependency[Visit], booking: FromPath[str]) -> Response[bytes]:
        """One booking with its statement, slice by slice."""
        return await _booking_page(visit, part(booking))

    @post("/{booking:str}/price", opt=SEND)
    async def price(self, visit: NamedDependency[Visit], booking: FromPath[str]) -> Response[bytes]:
        """Propose another price for an hour, as the owner."""
        body = {"price_hour": (await visit.form()).get("price_hour")}
        return await _done(visit, part(booking), "price", body)

    @post("/{booking:str}/answer", opt=SEND)
    async def answer(self, visit: NamedDependency[Visit], booking: FromPath[str]) -> Response[bytes]:
        """Accept or decline the price that the owner proposed, as it was shown."""
        form = await visit.form()
        body = {"price_hour": form.get("price_hour"), "accept": form.get("do") == "accept"}
        return await _done(visit, part(booking), "price/answer", body)

    @post("/{booking:str}/rate", opt=SEND)
    async def rate(self, visit: NamedDependency[Visit], booking: FromPath[str]) -> Response[bytes]:
        """Rate what was paid, once."""
        form = await visit.form()
        try:
            body = {"subject": part(booking), "stars": form.whole("stars"), "comment": form.get("comment")}
            await visit.send(f"{MARKET}/ratings", body)
        except AppError as refusal:
            return await _booking_page(visit, booking, error=refusal)
        return see(f"/market/bookings/{booking}")

    @post("/{booking:str}/{action:str}", opt=SEND)
    async def act(
        self, visit: NamedDependency[Visit], booking: FromPath[str], action: FromPath[str]
    ) -> Response[bytes]:
        """Give it back, or announce its end."""
        await visit.form()
        if action not in SIMPLE:
            raise NotFound
        return await _done(visit, part(booking), action)


async def _done(visit: Visit, booking: str, action: str, body: Any = None) -> Response[bytes]:
    try:
        await visit.send(f"{MARKET}/bookings/{booking}/{action}", body)
    except AppError as refusal:
        return await _booking_page(visit, booking, error=refusal)
    return see(f"/market/bookings/{booking}")


def _booking(offer: str, form: Form) -> dict[str, Any]:
    """What is booked. Raises `Invalid`."""
    body: dict[str, Any] = {
        "offer": offer,
        "duration_seconds": form.hours("hours", "/duration_seconds"),
        **form.given("max_price", "label"),
    }
    if form.get("starts_at"):
        body["starts_at"] = form.moment("starts_at")
    if form.get("idle_minutes"):
        body["idle_after_seconds"] = form.whole("idle_minutes", "/idle_after_seconds") * 60
    return body


def _offer(form: Form) -> dict[str, Any]:
    """What is put on sale. Raises `Invalid`."""
    body: dict[str, Any] = form.given("miner", "sells", "price", "note")
    if form.get("ceiling"):
        body["pricing"] = {"floor": body.pop("price", ""), "ceiling": form.get("ceiling")}
    if form.get("sells") == "work":
        return body | form.given("kind", "model")
    for name in ("device", "capacity"):
        if form.get(name):
            body[name] = form.whole(name)
    return body | {"interruptible": bool(form.get("interruptible"))}


async def _offer_page(
    visit: Visit, offer: str, *, form: Form | None = None, quote: Any = None, error: AppError | None = None
) -> Response[bytes]:
    found = await visit.get(f"{MARKET}/offers/{offer}")
    ratings = await visit.get(f"{MARKET}/ratings", miner=found["miner"], limit=RATINGS)
    balance = await visit.maybe(f"/api/v1/trading/accounts/{visit.who.account}", scope="ledger:read")
    bond = await visit.maybe(f"{MARKET}/bonds/{found['account']}", scope="market:read")
    books = f"aitbc booking create {offer} 2h --max-price {found['price']}"
    return visit.page(
        "marketplace/offer.html",
        offer=found,
        ratings=ratings,
        balance=balance,
        bond=bond,
        is_own=found["account"] == visit.who.account,
        values=form.fields if form else {},
        once=(form.get("once") if form else "") or new_uuid().hex,
        quote=quote,
        error=error,
        faults=faults_of(error) if error else {},
        status=error.status if error else 200,
        cli=[f"aitbc offer show {offer}", *([f"{books} --dry-run", books] if found["sells"] == "device" else [])],
    )


async def _own_page(
    visit: Visit,
    *,
    cursor: str | None = None,
    error: AppError | None = None,
    values: Mapping[str, str] | None = None,
) -> Response[bytes]:
    miners = await visit.maybe("/api/v1/gpu/miners", scope="miners:read", limit=MINERS_READ)
    own = [one for one in (miners["data"] if miners else ()) if one["account"] == visit.who.account]
    kinds = (await visit.get("/api/v1/ai/kinds"))["data"] if visit.who.may("jobs:read") else []
    return visit.page(
        "marketplace/own.html",
        offers=await visit.get(f"{MARKET}/offers", limit=PAGE, cursor=cursor),
        bond=await visit.maybe(f"{MARKET}/bonds/{visit.who.account}", scope="market:read"),
        miners=[one for one in own if one["status"] != "removed"],
        kinds=kinds,
        values=values or {},
        once=(values or {}).get("once") or new_uuid().hex,
        error=error,
        faults=faults_of(error) if error else {},
        status=error.status if error else 200,
        cli=["aitbc offer list", "aitbc offer create --price-hour 0.8", "aitbc offer create --kind chat=0.02/1k"],
    )


async def _booking_page(visit: Visit, booking: str, *, error: AppError | None = None) -> Response[bytes]:
    found = await visit.get(f"{MARKET}/bookings/{booking}/statement")
    one = found["booking"]
    ratings = (await visit.get(f"{MARKET}/ratings", miner=one["miner"], limit=RATINGS))["data"]
    commands = [f"aitbc booking {word} {booking}" for word in ("show", "statement")]
    return visit.page(
        "marketplace/booking.html",
        booking=one,
        machine=await _machine(visit, booking) if one["state"] in ("active", "suspended") else None,
        slices=found["slices"],
        refund_rule=found["refund_rule"],
        is_payer=one["account"] == visit.who.account,
        is_owner=one["owner"] == visit.who.account,
        rating=next((rating for rating in ratings if rating["subject"] == booking), None),
        error=error,
        status=error.status if error else 200,
        cli=commands if one["state"] == "ended" else [*commands, f"aitbc booking release {booking}"],
    )


async def _machine(visit: Visit, booking: str) -> Any:
    """What a booking gives of a machine; none to who may not see it."""
    try:
        return await visit.get(f"/api/v1/gpu/bookings/{booking}/machine")
    except AppError:
        return None
