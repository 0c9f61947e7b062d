"""What an operator looks at: places and readiness, events between modules, the audit trail, accounts."""

from typing import Annotated, Literal

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter
from msgspec import Meta

from aitbc.web.visit import READ, SEND, Visit, part, see

OPERATIONS = "/api/v1/operations"
PAGE = 50
State = Literal["pending", "stuck", "delivered", "dead"]
InState = Annotated[State | None, QueryParameter(name="state")]
Cursor = Annotated[str, Meta(max_length=500)]
Action = Annotated[str, Meta(max_length=100)]


class OperatorPages(Controller):
    """The operator's pages."""

    path = "/operator"
    include_in_schema = False

    @get("/", opt=READ)
    async def places(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Which process serves which module, and whether the server is ready."""
        return visit.page(
            "operations/places.html",
            places=(await visit.get(f"{OPERATIONS}/places"))["data"],
            ready=await visit.readiness(),
            version=await visit.get("/version"),
            cli=["aitbc places", "aitbc doctor", "aitbc status"],
        )

    @get("/events", opt=READ)
    async def events(
        self,
        visit: NamedDependency[Visit],
        in_state: InState = None,
        cursor: FromQuery[Cursor | None] = None,
    ) -> Response[bytes]:
        """Events between modules."""
        found = await visit.get(f"{OPERATIONS}/events", state=in_state, limit=PAGE, cursor=cursor)
        return visit.page("operations/events.html", events=found, state=in_state, cli=["aitbc events list"])

    @post("/events/{event:str}/replay", opt=SEND)
    async def replay(self, visit: NamedDependency[Visit], event: FromPath[str]) -> Response[bytes]:
        """Try a dead event again."""
        await visit.form()
        await visit.send(f"{OPERATIONS}/events/{part(event)}/replay")
        return see("/operator/events?state=dead")

    @get("/audit", opt=READ)
    async def audit(
        self,
        visit: NamedDependency[Visit],
        action: FromQuery[Action | None] = None,
        cursor: FromQuery[Cursor | None] = None,
    ) -> Response[bytes]:
        """Who did what to what."""
        found = await visit.get(f"{OPERATIONS}/audit", action=action, limit=PAGE, cursor=cursor)
        return visit.page("operations/audit.html", trail=found, action=action, cli=["aitbc audit"])

    @get("/accounts", opt=READ)
    async def accounts(self, visit: NamedDependency[Visit], cursor: FromQuery[Cursor | None] = None) -> Response[bytes]:
        """All accounts."""
        found = await visit.get("/api/v1/identity/accounts", limit=PAGE, cursor=cursor)
        return visit.page("operations/accounts.html", accounts=found, cli=["aitbc account list"])
