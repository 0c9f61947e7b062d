"""Webhooks of one's account: endpoints, deliveries, and sending one again."""

from collections.abc import Mapping
from typing import Annotated, Any

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from msgspec import Meta

from aitbc.kernel.primitives.errors import AppError, NotFound
from aitbc.web.visit import READ, SEND, Visit, part, see

WEBHOOKS = "/api/v1/webhooks"
PAGE = 25
SWITCHES = frozenset({"test", "enable", "disable"})
Cursor = Annotated[str, Meta(max_length=500)]


class WebhookPages(Controller):
    """Webhooks."""

    path = "/account/webhooks"
    include_in_schema = False

    @get("/", opt=READ)
    async def webhooks(self, visit: NamedDependency[Visit], cursor: FromQuery[Cursor | None] = None) -> Response[bytes]:
        """Endpoints and the log of deliveries."""
        return await _page(visit, cursor=cursor)

    @post("/", opt=SEND)
    async def create(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Make an endpoint; its secret is shown on the answer, once."""
        form = await visit.form()
        events = [name[6:] for name in form.fields if name.startswith("event:")]
        body = {"url": form.get("url"), "events": events, "description": form.get("description")}
        try:
            issued = await visit.send(f"{WEBHOOKS}/endpoints", body)
        except AppError as refusal:
            return await _page(visit, error=refusal, values=form.fields, status=refusal.status)
        return await _page(visit, issued=issued)

    @post("/deliveries/{delivery:str}/replay", opt=SEND)
    async def replay(self, visit: NamedDependency[Visit], delivery: FromPath[str]) -> Response[bytes]:
        """Send a delivery again."""
        await visit.form()
        await visit.send(f"{WEBHOOKS}/deliveries/{part(delivery)}/replay")
        return see("/account/webhooks")

    @post("/{endpoint:str}/delete", opt=SEND)
    async def delete(self, visit: NamedDependency[Visit], endpoint: FromPath[str]) -> Response[bytes]:
        """Delete an endpoint."""
        await visit.form()
        await visit.send(f"{WEBHOOKS}/endpoints/{part(endpoint)}", method="DELETE")
        return see("/account/webhooks")

    @post("/{endpoint:str}/{action:str}", opt=SEND)
    async def switch(
        self, visit: NamedDependency[Visit], endpoint: FromPath[str], action: FromPath[str]
    ) -> Response[bytes]:
        """Send a test, or have an endpoint rest or go on."""
        if action not in SWITCHES:
            raise NotFound
        await visit.form()
        await visit.send(f"{WEBHOOKS}/endpoints/{part(endpoint)}/{action}")
        return see("/account/webhooks")


async def _page(
    visit: Visit,
    *,
    cursor: str | None = None,
    issued: Any = None,
    error: AppError | None = None,
    values: Mapping[str, str] | None = None,
    status: int = 200,
) -> Response[bytes]:
    return visit.page(
        "webhooks/webhooks.html",
        endpoints=await visit.get(f"{WEBHOOKS}/endpoints", limit=100),
        deliveries=await visit.get(f"{WEBHOOKS}/deliveries", limit=PAGE, cursor=cursor),
        types=(await visit.get(f"{WEBHOOKS}/types"))["data"],
        issued=issued,
        error=error,
        values=values or {},
        status=status,
        cli=["aitbc webhook list", "aitbc webhook create URL", "aitbc webhook deliveries"],
    )
