"""Service classes: what can be bought, how one's own periods go, and what came back; for operators, what is sold."""

from collections.abc import Mapping
from typing import Annotated, Any

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from msgspec import Meta

from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.web.forms import Form
from aitbc.web.visit import READ, SEND, Visit, faults_of, part, see

CLASSES = "/api/v1/monitoring/service-classes"
BOUGHT = "/api/v1/monitoring/class-purchases"
PAGE = "/account/classes"
LISTED = 25
FOLLOWED = 5
"""Of how many periods that go on the page tells how they stand now."""
WHOLE = ("finish_seconds", "start_seconds", "first_text_seconds", "period_days", "credit_percent")
Cursor = Annotated[str, Meta(max_length=500)]


class ServiceClassPages(Controller):
    """What is promised, what was bought, and what came back."""

    path = PAGE
    include_in_schema = False

    @get("/", opt=READ)
    async def classes(self, visit: NamedDependency[Visit], cursor: FromQuery[Cursor | None] = None) -> Response[bytes]:
        """The classes that can be bought, and what was."""
        return await _page(visit, cursor=cursor)

    @post("/buy", opt=SEND)
    async def buy(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Buy a period of a class."""
        form = await visit.form()
        try:
            wanted = {"service_class": form.get("service_class"), "renews": form.get("renews") == "yes"}
            await visit.send(BOUGHT, wanted, once=form.get("once") or None)
        except AppError as refusal:
            return await _page(visit, error=refusal)
        return see(PAGE)

    @post("/bought/{purchase:str}/renewal", opt=SEND)
    async def choose_renewal(self, visit: NamedDependency[Visit], purchase: FromPath[str]) -> Response[bytes]:
        """Say whether the next period is bought by itself."""
        form = await visit.form()
        try:
            body = {"renews": form.get("renews") == "yes"}
            await visit.send(f"{BOUGHT}/{part(purchase)}/renewal", body, method="PUT")
        except AppError as refusal:
            return await _page(visit, error=refusal)
        return see(PAGE)

    @post("/declare", opt=SEND)
    async def declare(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Declare a class that accounts may buy."""
        form = await visit.form()
        try:
            await visit.send(CLASSES, _wanted(form), once=form.get("once") or None)
        except AppError as refusal:
            return await _page(visit, error=refusal, values=form.fields)
        return see(PAGE)

    @post("/{service_class:str}/withdraw", opt=SEND)
    async def withdraw(self, visit: NamedDependency[Visit], service_class: FromPath[str]) -> Response[bytes]:
        """Sell a class no more."""
        await visit.form()
        await visit.send(f"{CLASSES}/{part(service_class)}", method="DELETE")
        return see(PAGE)


def _wanted(form: Form) -> dict[str, Any]:
    """The class that a form declares. Raises `Invalid`."""
    wanted: dict[str, Any] = dict(form.given("name", "work", "price"))
    wanted |= {name: form.whole(name) for name in WHOLE if form.get(name)}
    if form.get("percent"):
        wanted["target"] = form.share("percent", "/percent")
    return wanted


async def _kinds(visit: Visit) -> list[tuple[str, str]]:
    """The kinds of work that there are, for who may sell a class."""
    found = await visit.maybe("/api/v1/ai/kinds", scope="monitors:write")
    return [(kind["name"], kind["name"]) for kind in found["data"]] if found else []


async def _page(
    visit: Visit,
    *,
    cursor: str | None = None,
    error: AppError | None = None,
    values: Mapping[str, str] | None = None,
) -> Response[bytes]:
    bought = await visit.get(BOUGHT, limit=LISTED, cursor=cursor)
    going_on = [one["id"] for one in bought["data"] if one["state"] == "active"][:FOLLOWED]
    now_known = {one: await visit.ask_quietly(f"{BOUGHT}/{one}") for one in going_on}
    return visit.page(
        "service_classes/classes.html",
        classes=(await visit.get(CLASSES))["data"],
        bought={**bought, "data": [now_known.get(one["id"], one) for one in bought["data"]]},
        kinds=await _kinds(visit),
        values=values or {},
        once=new_uuid().hex,
        error=error,
        faults=faults_of(error) if error else {},
        status=error.status if error else 200,
        cli=["aitbc class list", "aitbc class buy CLASS", "aitbc class bought", "aitbc class renew PURCHASE"],
    )
