"""The HTTP of schedules."""

from litestar import Controller, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.money import InvalidAmount
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.ai.models.graphs.check import GraphBudgetTooSmall, GraphInvalid, GraphTooLarge
from aitbc.modules.ai.models.graphs.schedules import CreateSchedule, Schedule
from aitbc.modules.ai.service.graphs.schedules import (
    ScheduleEnded,
    ScheduleInvalid,
    ScheduleNotFound,
    Schedules,
    TooManySchedules,
)

LIST = "ai.schedules"
Part = NamedDependency[Schedules]
Who = NamedDependency[Principal]
CHANGE = {"permission": "jobs:create", "idempotency": "natural", "errors": (ScheduleNotFound, ScheduleEnded)}
REFUSALS = (
    ScheduleInvalid,
    TooManySchedules,
    GraphInvalid,
    GraphTooLarge,
    GraphBudgetTooSmall,
    InvalidAmount,
    AmountOverflow,
)


class ScheduleController(Controller):
    """Graphs and jobs that are begun again and again."""

    path = "/schedules"
    tags = ("ai",)

    @post(
        "/",
        operation_id="create_schedule",
        summary="Create a schedule",
        opt={"permission": "jobs:create", "idempotency": "required", "errors": REFUSALS},
    )
    async def create(
        self, schedules: Part, who: Who, once: NamedDependency[IdempotencyKey], data: JSONBody[CreateSchedule]
    ) -> Response[Schedule]:
        """Run a graph or a job at the times of a cron expression in a time zone.

        Where clocks are put forward, what falls into the hour that is left out runs right after it; where they are put
        back, what names its hour runs once. The schedule ends with the API key that made it.
        """
        made = await schedules.create(who, data, once)
        return Response(made, status_code=201, headers={"location": f"/api/v1/ai/schedules/{made.id}"})

    @get(
        "/",
        operation_id="list_schedules",
        summary="List schedules",
        opt={"permission": "jobs:read", "errors": (InvalidCursor,)},
    )
    async def list_schedules(
        self, schedules: Part, who: Who, limit: FromQuery[Limit] = 50, cursor: FromQuery[Cursor] = None
    ) -> Page[Schedule]:
        """List the caller's schedules from the newest on."""
        after = after_id(LIST, cursor, "sched")
        found = await schedules.page(who, after=after, limit=limit + 1)
        return Page.of(LIST, found, limit, lambda one: one.id)

    @get(
        "/{schedule:str}",
        operation_id="get_schedule",
        summary="Get a schedule",
        opt={"permission": "jobs:read", "errors": (ScheduleNotFound,)},
    )
    async def get_schedule(self, schedules: Part, who: Who, schedule: FromPath[str]) -> Schedule:
        """Get one schedule: when it is due next, and what it did last."""
        return await schedules.get(who, schedule)

    @post(
        "/{schedule:str}/pause", operation_id="pause_schedule", summary="Pause a schedule", status_code=200, opt=CHANGE
    )
    async def pause(self, schedules: Part, who: Who, schedule: FromPath[str]) -> Schedule:
        """Begin nothing until it is resumed. What runs goes on."""
        return await schedules.pause(who, schedule)

    @post(
        "/{schedule:str}/resume",
        operation_id="resume_schedule",
        summary="Resume a schedule",
        status_code=200,
        opt=CHANGE,
    )
    async def resume(self, schedules: Part, who: Who, schedule: FromPath[str]) -> Schedule:
        """Go on with the times from now on."""
        return await schedules.resume(who, schedule)

    @delete(
        "/{schedule:str}",
        status_code=200,
        operation_id="remove_schedule",
        summary="Remove a schedule",
        opt={"permission": "jobs:create", "idempotency": "natural", "errors": (ScheduleNotFound,)},
    )
    async def remove(self, schedules: Part, who: Who, schedule: FromPath[str]) -> Schedule:
        """Begin nothing by it any more. What runs goes on."""
        return await schedules.remove(who, schedule)
