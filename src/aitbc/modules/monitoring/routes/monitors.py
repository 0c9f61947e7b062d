"""Monitors, their history, maintenance, objectives, and what is pushed."""

from typing import Annotated, Literal

from litestar import Controller, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import PUBLIC, Principal
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.kernel.primitives.text import Name
from aitbc.modules.monitoring.api import Monitor, MonitorNotFound, MonitorPoint, StateChange, Window
from aitbc.modules.monitoring.models.declarations import (
    UnusableDeclaration,
    WantedMonitor,
    WantedObjective,
    WantedWindow,
)
from aitbc.modules.monitoring.service.history import MonitorHistory
from aitbc.modules.monitoring.service.monitors import (
    CreatedMonitor,
    DeclaredElsewhere,
    MonitorExists,
    Monitors,
    Pushed,
    PushRefused,
    TooManyMonitors,
)
from aitbc.modules.monitoring.service.objectives import (
    Objective,
    ObjectiveExists,
    ObjectiveNotFound,
    Objectives,
    TooManyObjectives,
)
from aitbc.modules.monitoring.service.windows import TooManyWindows, WindowNotFound, WindowOver, Windows

READ, WRITE = "monitors:read", "monitors:write"
Width = Literal["minute", "hour", "day"]


class Push(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a watched thing says of itself."""

    token: Annotated[str, Meta(min_length=20, max_length=100)]
    """The token that came with the monitor. For example `3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAA`."""
    works: bool = True
    """Whether all is well. For example `true`."""
    reason: Name | None = None
    """What is wrong, or not as it should be. For example `disk nearly full`."""


class MonitorController(Controller):
    """What is watched."""

    path = "/monitors"
    tags = ("monitoring",)

    @post(
        "/",
        operation_id="create_monitor",
        summary="Create a monitor",
        opt={"permission": WRITE, "errors": (MonitorExists, TooManyMonitors, UnusableDeclaration)},
    )
    async def create(
        self,
        monitor_registry: NamedDependency[Monitors],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[WantedMonitor],
    ) -> CreatedMonitor:
        """Declare a monitor; it is looked at within seconds.

        URLs and addresses are subject to the egress policy of webhooks. The token of a push monitor is in this answer
        only.
        """
        return await monitor_registry.create(who, data, once)

    @get("/", operation_id="list_monitors", summary="List monitors", opt={"permission": READ})
    async def list_monitors(self, monitor_registry: NamedDependency[Monitors]) -> Page[Monitor]:
        """List every monitor as it stands, by name, with where it was declared; one page has them all."""
        return Page(data=list(await monitor_registry.list_all()))

    @get(
        "/{monitor:str}",
        operation_id="get_monitor",
        summary="Get a monitor",
        opt={"permission": READ, "errors": (MonitorNotFound,)},
    )
    async def get_monitor(self, monitor_registry: NamedDependency[Monitors], monitor: FromPath[str]) -> Monitor:
        """Get one monitor, by its id."""
        return await monitor_registry.get(monitor)

    @delete(
        "/{monitor:str}",
        operation_id="delete_monitor",
        summary="Delete a monitor",
        status_code=200,
        opt={"permission": WRITE, "idempotency": "natural", "errors": (MonitorNotFound, DeclaredElsewhere)},
    )
    async def remove(
        self, monitor_registry: NamedDependency[Monitors], who: NamedDependency[Principal], monitor: FromPath[str]
    ) -> Monitor:
        """Delete a monitor that was declared over the API, by its id; others are changed where they are declared."""
        return await monitor_registry.remove(who, monitor)

    @get(
        "/{monitor:str}/history",
        operation_id="get_monitor_history",
        summary="Get the history of a monitor",
        opt={"permission": READ, "errors": (MonitorNotFound,)},
    )
    async def history(
        self, monitor_history: NamedDependency[MonitorHistory], monitor: FromPath[str], by: FromQuery[Width] = "minute"
    ) -> Page[MonitorPoint]:
        """The looks by minute (of 24 hours), hour (of 30 days) or day (of a year), oldest first, all in one page."""
        return Page(data=list(await monitor_history.points(monitor, by)))


class ChangeController(Controller):
    """What changed, and what is pushed here."""

    path = "/"
    tags = ("monitoring",)

    @get(
        "/changes",
        operation_id="list_monitor_changes",
        summary="List changes of monitors",
        opt={"permission": READ, "errors": (MonitorNotFound, InvalidCursor)},
    )
    async def changes(
        self,
        monitor_history: NamedDependency[MonitorHistory],
        monitor: FromQuery[str | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[StateChange]:
        """List the changes of states, newest first; of one monitor by its id or name, or of all."""
        before = after_id("monitor changes", cursor, "mchg", bound_to=(monitor or "",))
        found = await monitor_history.changes(monitor=monitor, limit=limit + 1, before=before)
        return Page.of("monitor changes", found, limit, lambda change: change.id, bound_to=(monitor or "",))

    @post(
        "/push",
        operation_id="push_to_monitor",
        summary="Tell a push monitor how things are",
        status_code=200,
        opt={"permission": PUBLIC, "idempotency": "natural", "errors": (PushRefused,)},
    )
    async def push(self, monitor_registry: NamedDependency[Monitors], data: JSONBody[Push]) -> Pushed:
        """Tell a push monitor that all is well, or that it is not. The token is all that it takes."""
        return await monitor_registry.push(data.token, works=data.works, reason=data.reason or "")


class MaintenanceController(Controller):
    """Maintenance windows."""

    path = "/maintenance"
    tags = ("monitoring",)

    @post(
        "/",
        operation_id="plan_maintenance",
        summary="Plan maintenance",
        opt={"permission": WRITE, "errors": (UnusableDeclaration, TooManyWindows)},
    )
    async def plan(
        self,
        monitor_windows: NamedDependency[Windows],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[WantedWindow],
    ) -> Window:
        """Plan a time in which monitors are maintained: nobody is alarmed, and nothing counts as an outage."""
        return await monitor_windows.create(who, data, once)

    @get(
        "/",
        operation_id="list_maintenance",
        summary="List maintenance",
        opt={"permission": READ, "errors": (InvalidCursor,)},
    )
    async def list_windows(
        self,
        monitor_windows: NamedDependency[Windows],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[Window]:
        """List maintenance windows, the one planned last first."""
        found = await monitor_windows.list_page(limit + 1, after_id("maintenance", cursor, "mwin"))
        return Page.of("maintenance", found, limit, lambda window: window.id)

    @post(
        "/{window:str}/cancel",
        operation_id="cancel_maintenance",
        summary="Cancel maintenance",
        status_code=200,
        opt={
            "permission": WRITE,
            "idempotency": "natural",
            "errors": (WindowNotFound, WindowOver, DeclaredElsewhere),
        },
    )
    async def cancel(
        self, monitor_windows: NamedDependency[Windows], who: NamedDependency[Principal], window: FromPath[str]
    ) -> Window:
        """Call maintenance off, or end what goes on now."""
        return await monitor_windows.cancel(who, window)


class ObjectiveController(Controller):
    """Objectives (SLOs)."""

    path = "/objectives"
    tags = ("monitoring",)

    @post(
        "/",
        operation_id="create_objective",
        summary="Create an objective",
        opt={"permission": WRITE, "errors": (ObjectiveExists, TooManyObjectives, UnusableDeclaration)},
    )
    async def create(
        self,
        objectives: NamedDependency[Objectives],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[WantedObjective],
    ) -> Objective:
        """Declare what share of the looks at a monitor, or of the attempts at a kind of work, is to be good."""
        return await objectives.create(who, data, once)

    @get("/", operation_id="list_objectives", summary="List objectives", opt={"permission": READ})
    async def list_objectives(self, objectives: NamedDependency[Objectives]) -> Page[Objective]:
        """List the objectives with their error budgets and burn rates, by name; one page has them all."""
        return Page(data=list(await objectives.list_all()))

    @delete(
        "/{objective:str}",
        operation_id="delete_objective",
        summary="Delete an objective",
        status_code=200,
        opt={"permission": WRITE, "idempotency": "natural", "errors": (ObjectiveNotFound, DeclaredElsewhere)},
    )
    async def remove(
        self, objectives: NamedDependency[Objectives], who: NamedDependency[Principal], objective: FromPath[str]
    ) -> Objective:
        """Delete an objective that was declared over the API."""
        return await objectives.remove(who, objective)
