"""The HTTP of operations: events between modules and the audit trail, for those who run the platform."""

from datetime import datetime
from operator import attrgetter
from typing import Annotated, Literal

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page, decode_cursor
from aitbc.kernel.primitives.text import Name
from aitbc.server.admin.operations import (
    AuditEntry,
    EventNotDead,
    EventNotFound,
    EventNotStuck,
    Operations,
    ToldEvent,
    UnknownModule,
)
from aitbc.server.cluster.directory import Directory, Placed

StateName = Literal["pending", "stuck", "delivered", "dead"]
InState = Annotated[StateName | None, QueryParameter(name="state")]
AUDIT = "audit"


class EndEvent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why an event is given up."""

    reason: Name
    """Why, for the audit. For example `paid by hand`."""


class OperationsController(Controller):
    """The operator's routes: events, placement of modules, audit trail."""

    tags = ("operations",)

    @get(
        "/events",
        operation_id="list_events",
        opt={"permission": "events:read", "errors": (UnknownModule, EventNotFound)},
    )
    async def events(
        self,
        operations: NamedDependency[Operations],
        in_state: InState = None,
        status: FromQuery[StateName | None] = None,
        module: FromQuery[str | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[ToldEvent]:
        """List the events that modules published, from the newest on; dead ones wait for a replay.

        A `stuck` one is `pending` too: money waits for it, so it is tried for ever.
        `status` is the older name of `state`.
        """
        state = in_state or status
        filters = (state or "", module or "")
        before = Page.position("events", cursor, bound_to=filters)
        found = await operations.events(state=state, module=module, limit=limit + 1, before=before)
        return Page.of("events", found, limit, lambda event: event.id, bound_to=filters)

    @post(
        "/events/{event:str}/replay",
        operation_id="replay_event",
        status_code=200,
        opt={"permission": "events:replay", "idempotency": "natural", "errors": (EventNotFound, EventNotDead)},
    )
    async def replay(
        self, operations: NamedDependency[Operations], who: NamedDependency[Principal], event: FromPath[str]
    ) -> ToldEvent:
        """Try a dead event again from its first attempt.

        The inboxes of its handlers keep it from having an effect twice.
        """
        return await operations.replay(who, event)

    @post(
        "/events/{event:str}/end",
        operation_id="end_event",
        status_code=200,
        opt={"permission": "events:replay", "idempotency": "natural", "errors": (EventNotFound, EventNotStuck)},
    )
    async def end(
        self,
        operations: NamedDependency[Operations],
        who: NamedDependency[Principal],
        event: FromPath[str],
        data: JSONBody[EndEvent],
    ) -> ToldEvent:
        """Give up a stuck event, for a reason that the audit trail keeps: it is dead, unless it is replayed.

        What it should have done is not done: `aitbc ledger verify` goes on naming a job that it did not pay.
        """
        return await operations.end(who, event, data.reason)

    @get("/places", operation_id="list_places", opt={"permission": "places:read"})
    async def places(self, directory: NamedDependency[Directory]) -> Page[Placed]:
        """List for every module the process that serves it and its ports, as the processes report it now.

        There are few, and one page has them all.
        """
        return Page(data=await directory.placements())

    @get(
        "/audit", operation_id="list_audit", opt={"permission": "audit:read", "errors": (UnknownModule, InvalidCursor)}
    )
    async def audit(
        self,
        operations: NamedDependency[Operations],
        module: FromQuery[str | None] = None,
        action: FromQuery[str | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[AuditEntry]:
        """List who did what to what, from the newest on."""
        filters = (module or "", action or "")
        after = None
        if cursor is not None:
            at, place, number = decode_cursor(AUDIT, cursor, datetime, str, int, bound_to=filters)
            after = (at, place, number)
        found = await operations.audit(module=module, limit=limit + 1, after=after, action=action)
        position = attrgetter("at", "module", "number")
        return Page.of(AUDIT, found, limit, position, bound_to=filters)
