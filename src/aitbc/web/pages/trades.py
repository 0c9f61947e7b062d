"""Trades: what people ask for and offer, what fits, prices named in turn, agreements, and how they are settled."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from msgspec import Meta

from aitbc.kernel.primitives.errors import AppError, FieldError, Invalid, NotFound
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.web.forms import Form
from aitbc.web.visit import READ, SEND, Visit, faults_of, part, see

TRADING = "/api/v1/trading"
PAGE = 25
Cursor = Annotated[str, Meta(max_length=500)]
TradeType = Literal[
    "ai_power", "compute_resources", "data_services", "inference_tasks", "model_services", "training_tasks"
]
TYPES: tuple[str, ...] = get_args(TradeType)
NOUNS = ("requests", "offers", "matches", "negotiations", "agreements", "settlements")
ACTIONS: Mapping[str, frozenset[str]] = {
    "requests": frozenset({"matches", "cancel"}),
    "offers": frozenset({"close"}),
    "matches": frozenset({"accept", "negotiations"}),
    "negotiations": frozenset({"accept", "counter", "reject"}),
    "agreements": frozenset({"cancel", "settlement", "feedback"}),
    "settlements": frozenset({"confirm", "deliver", "refund", "stop", "dispute", "evidence", "decision"}),
}
"""What can be done to each: the last part of the API's path."""


class TradePages(Controller):
    """Trades."""

    path = "/trades"
    include_in_schema = False

    @get("/", opt=READ)
    async def overview(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Where one's trades stand: what waits for somebody, and what was agreed on last."""
        lists = {noun: await visit.get(f"{TRADING}/{noun}", limit=10) for noun in NOUNS if noun != "offers"}
        return visit.page("trades/overview.html", lists=lists, cli=["aitbc trade list agreements"])

    @get("/new-request", opt=READ)
    async def new_request(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """The form that asks for something."""
        return _request_form(visit)

    @post("/new-request", opt=SEND)
    async def ask(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """See what a request would be matched with, which changes nothing, or make it."""
        form = await visit.form()
        try:
            body = _request(form)
            if form.get("do") == "ask":
                made = await visit.send(f"{TRADING}/requests", body, once=form.get("once") or None)
                await visit.send(f"{TRADING}/requests/{made['id']}/matches")
                return see(f"/trades/requests/{made['id']}")
            preview = await visit.send(f"{TRADING}/requests/preview", body)
        except AppError as refusal:
            return _request_form(visit, form=form, error=refusal)
        return _request_form(visit, form=form, preview=preview)

    @get("/new-offer", opt=READ)
    async def new_offer(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """The form that offers something."""
        return _offer_form(visit)

    @post("/new-offer", opt=SEND)
    async def offer(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Offer something to whoever asks for the like of it."""
        form = await visit.form()
        try:
            body: dict[str, Any] = form.given("trade_type", "title", "description", "price", "service_level")
            body |= {"specifications": _specifications(form), "regions": form.get("regions").replace(",", " ").split()}
            if form.get("capacity"):
                body["capacity"] = form.whole("capacity")
            made = await visit.send(f"{TRADING}/offers", body, once=form.get("once") or None)
        except AppError as refusal:
            return _offer_form(visit, form=form, error=refusal)
        return see(f"/trades/offers/{made['id']}")

    @get("/{noun:str}", opt=READ)
    async def page(
        self, visit: NamedDependency[Visit], noun: FromPath[str], cursor: FromQuery[Cursor | None] = None
    ) -> Response[bytes]:
        """All of one noun, newest first."""
        if noun not in NOUNS:
            raise NotFound
        found = await visit.get(f"{TRADING}/{noun}", limit=PAGE, cursor=cursor)
        return visit.page("trades/list.html", noun=noun, found=found, cli=[f"aitbc trade list {noun}"])

    @get("/{noun:str}/{thing:str}", opt=READ)
    async def thing(self, visit: NamedDependency[Visit], noun: FromPath[str], thing: FromPath[str]) -> Response[bytes]:
        """One request, offer, match, negotiation, agreement or settlement, with what can be done now."""
        return await _thing_page(visit, noun, part(thing))

    @post("/{noun:str}/{thing:str}/{action:str}", opt=SEND)
    async def act(
        self, visit: NamedDependency[Visit], noun: FromPath[str], thing: FromPath[str], action: FromPath[str]
    ) -> Response[bytes]:
        """Do what the page of a thing offers, and show what came of it."""
        form = await visit.form()
        if action not in ACTIONS.get(noun, ()):
            raise NotFound
        try:
            path = f"{TRADING}/{noun}/{part(thing)}/{action}"
            made = await visit.send(path, _words_of(noun, action, form), once=form.get("once") or None)
        except AppError as refusal:
            return await _thing_page(visit, noun, thing, error=refusal)
        return see(_after(noun, thing, made))


def _words_of(noun: str, action: str, form: Form) -> Any:
    """The body of an action; none where it has none. Raises `Invalid`."""
    if action in ("confirm", "deliver", "refund"):
        return {"payment": form.whole("payment")} if form.get("payment") else {}
    if action in ("accept", "negotiations") and noun == "matches":
        body: dict[str, Any] = form.given("settlement_type", "strategy", "price")
        if form.get("settlement_type") == "subscription":
            body |= {name: form.whole(name) for name in ("periods", "period_hours")}
        return body | ({"milestones": _milestones(form)} if form.get("milestones") else {})
    if action == "counter":
        return {"price": form.get("price")}
    if action == "feedback":
        return {"rating": form.whole("rating"), "text": form.get("text")}
    if action == "decision":
        return {"seller_basis_points": form.whole("seller_percent") * 100, "reason": form.get("reason")}
    if action == "dispute":
        return {"reason": form.get("reason")}
    return {"text": form.get("text")} if action == "evidence" else None


def _after(noun: str, thing: str, made: Any) -> str:
    """Where to look after an action: at what came of it, where that has a page."""
    pages = {"tneg": "negotiations", "tagr": "agreements", "tset": "settlements"}
    made_id = str(made.get("id", "")) if isinstance(made, Mapping) else ""
    return f"/trades/{pages.get(made_id.partition('_')[0], noun)}/{made_id or thing}"


def _lines(form: Form, name: str) -> list[tuple[str, str]]:
    """A field with `NAME=VALUE` on each line. Raises `Invalid`."""
    pairs = []
    for line in form.text(name).splitlines():
        if line.strip():
            left, mark, right = line.partition("=")
            if not mark:
                raise Invalid(fields=(FieldError(f"/{name}", "Expected NAME=VALUE on each line"),))
            pairs.append((left.strip(), right.strip()))
    return pairs


def _specifications(form: Form) -> dict[str, Any]:
    """What something has or must have: a number, or words divided by commas. Raises `Invalid`."""
    found: dict[str, Any] = {}
    for name, text in _lines(form, "specifications"):
        try:
            found[name] = float(text) if "." in text else int(text)
        except ValueError:
            found[name] = [word.strip() for word in text.split(",")]
    return found


def _milestones(form: Form) -> list[dict[str, Any]]:
    shares = _lines(form, "milestones")
    if not all(text.isascii() and text.isdigit() for _, text in shares):
        raise Invalid(fields=(FieldError("/milestones", "Expected NAME=SHARE on each line"),))
    return [{"name": name, "share": int(text)} for name, text in shares]


def _request(form: Form) -> dict[str, Any]:
    """What is asked for. Raises `Invalid`."""
    names = ("trade_type", "title", "description", "budget_min", "budget_max", "service_level", "urgency")
    regions = form.get("preferred_regions").replace(",", " ").split()
    return form.given(*names) | {
        "specifications": _specifications(form),
        "preferred_regions": regions,
        "negotiable": bool(form.get("negotiable")),
    }


def _request_form(
    visit: Visit, *, form: Form | None = None, preview: Any = None, error: AppError | None = None
) -> Response[bytes]:
    command = "aitbc trade request compute_resources 'A GPU for a day' --budget-max 5"
    return visit.page(
        "trades/new_request.html",
        types=TYPES,
        preview=preview,
        cli=[f"{command} --dry-run", command],
        **_form(form, error),
    )


def _offer_form(visit: Visit, *, form: Form | None = None, error: AppError | None = None) -> Response[bytes]:
    return visit.page("trades/new_offer.html", types=TYPES, cli=["aitbc trade offer --help"], **_form(form, error))


def _form(form: Form | None, error: AppError | None) -> dict[str, Any]:
    return {
        "values": form.fields if form else {},
        "once": (form.get("once") if form else "") or new_uuid().hex,
        "error": error,
        "faults": faults_of(error) if error else {},
        "status": error.status if error else 200,
    }


async def _thing_page(visit: Visit, noun: str, thing: str, *, error: AppError | None = None) -> Response[bytes]:
    if noun not in NOUNS:
        raise NotFound
    found = await visit.get(f"{TRADING}/{noun}/{thing}")
    matches = feedback = None
    if noun == "requests":
        matches = (await visit.get(f"{TRADING}/requests/{thing}/matches"))["data"]
    if noun == "agreements":
        feedback = (await visit.get(f"{TRADING}/agreements/{thing}/feedback"))["data"]
    sides = {found.get("buyer"): "buyer", found.get("seller"): "seller"}
    return visit.page(
        f"trades/{noun[:-2] if noun == 'matches' else noun[:-1]}.html",
        noun=noun,
        thing=found,
        matches=matches,
        feedback=feedback,
        side=sides.get(visit.who.account),
        once=new_uuid().hex,
        error=error,
        status=error.status if error else 200,
        cli=[f"aitbc trade show {thing}"],
    )
