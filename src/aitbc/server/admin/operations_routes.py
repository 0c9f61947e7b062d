"""The HTTP of operations: events between modules and the audit trail, for those who run the platform."""

from datetime import datetime
from operator import attrgetter
from typing import Literal

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page, decode_cursor
from aitbc.server.admin.operations import AuditEntry, EventNotDead, EventNotFound, Operations, ToldEvent, UnknownModule
from aitbc.server.cluster.directory import Directory, Placed

AUDIT = "audit"


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
        status: FromQuery[Literal["pending", "delivered", "dead"] | None] = None,
        module: FromQuery[str | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[ToldEvent]:
        """List the events that modules published, from the newest on; dead ones wait for a replay."""
        filters = (status or "", module or "")
        before = Page.position("events", cursor, bound_to=filters)
        found = await operations.events(state=status, module=module, limit=limit + 1, before=before)
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
