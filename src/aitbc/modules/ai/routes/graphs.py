"""The HTTP of graphs."""

from typing import Annotated, Literal

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.response import Stream
from msgspec import Meta

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.money import InvalidAmount
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.ai.models.graphs.check import GraphBudgetTooSmall, GraphInvalid, GraphTooLarge
from aitbc.modules.ai.models.graphs.shapes import Graph, GraphDetail, RerunGraph, RunGraph
from aitbc.modules.ai.routes.jobs import LastEventId, event_stream
from aitbc.modules.ai.service.graphs.commands import GraphNotFound, GraphNotKept, GraphStateConflict, TooManyGraphs
from aitbc.modules.ai.service.graphs.events import GraphEvents
from aitbc.modules.ai.service.graphs.graphs import Graphs
from aitbc.modules.ai.service.job_events import InvalidEventId

LIST = "ai.graphs"
Who = NamedDependency[Principal]
Once = NamedDependency[IdempotencyKey]
InState = Annotated[
    Literal["running", "paused", "canceling", "succeeded", "failed", "canceled"] | None, QueryParameter(name="state")
]
OfSchedule = Annotated[
    Annotated[str, Meta(max_length=32, pattern=r"^sched_[0-9a-z]{26}\Z")] | None, QueryParameter(name="schedule")
]
GRAPH_ERRORS = (GraphInvalid, GraphTooLarge, GraphBudgetTooSmall, InvalidAmount, AmountOverflow, TooManyGraphs)
CHANGE = {
    "permission": "jobs:create",
    "idempotency": "natural",
    "errors": (GraphNotFound, GraphStateConflict, GraphNotKept),
}


class GraphController(Controller):
    """Graphs of jobs: run, watched, paused, canceled and run again."""

    path = "/graphs"
    tags = ("ai",)

    @post(
        "/",
        operation_id="run_graph",
        summary="Run a graph",
        opt={"permission": "jobs:create", "idempotency": "required", "errors": GRAPH_ERRORS},
    )
    async def run(
        self, graphs: NamedDependency[Graphs], who: Who, once: Once, data: JSONBody[RunGraph]
    ) -> Response[GraphDetail]:
        """Run jobs that follow from each other: a node begins when those have ended that it names.

        What is held and was paid for all of them never passes the budget. A node whose parent fails ends as
        `upstream_failed`, and nothing is held for it. The graph goes on whatever happens to who began it.
        """
        graph = await graphs.run(who, data, once)
        return Response(graph, status_code=201, headers={"location": f"/api/v1/ai/graphs/{graph.id}"})

    @get(
        "/",
        operation_id="list_graphs",
        summary="List graphs",
        opt={"permission": "jobs:read", "errors": (InvalidCursor,)},
    )
    async def list_graphs(
        self,
        graphs: NamedDependency[Graphs],
        who: Who,
        in_state: InState = None,
        of_schedule: OfSchedule = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[Graph]:
        """List the caller's graphs from the newest on, if wished only those in one state or of one schedule."""
        filters = (in_state or "", of_schedule or "")
        after = after_id(LIST, cursor, "graph", bound_to=filters)
        if of_schedule is not None and not ids.is_id("sched", of_schedule):
            return Page.of(LIST, [], limit, lambda graph: graph.id, bound_to=filters)
        states = (in_state,) if in_state else ()
        found = await graphs.page(who, states=states, schedule=of_schedule, after=after, limit=limit + 1)
        return Page.of(LIST, found, limit, lambda graph: graph.id, bound_to=filters)

    @get(
        "/{graph:str}",
        operation_id="get_graph",
        summary="Get a graph",
        opt={"permission": "jobs:read", "errors": (GraphNotFound,)},
    )
    async def get_graph(self, graphs: NamedDependency[Graphs], who: Who, graph: FromPath[str]) -> GraphDetail:
        """Get a graph with each node: where it is, its job, and what it has cost."""
        return await graphs.get(who, graph)

    @post("/{graph:str}/pause", operation_id="pause_graph", summary="Pause a graph", status_code=200, opt=CHANGE)
    async def pause(self, graphs: NamedDependency[Graphs], who: Who, graph: FromPath[str]) -> GraphDetail:
        """Begin nothing more of a graph. Jobs that are under way go on, and are paid."""
        return await graphs.pause(who, graph)

    @post("/{graph:str}/resume", operation_id="resume_graph", summary="Resume a graph", status_code=200, opt=CHANGE)
    async def resume(self, graphs: NamedDependency[Graphs], who: Who, graph: FromPath[str]) -> GraphDetail:
        """Go on with a graph that was paused."""
        return await graphs.resume(who, graph)

    @post("/{graph:str}/cancel", operation_id="cancel_graph", summary="Cancel a graph", status_code=200, opt=CHANGE)
    async def cancel(self, graphs: NamedDependency[Graphs], who: Who, graph: FromPath[str]) -> GraphDetail:
        """End a graph: its jobs are canceled, and their money goes back. What was paid stays paid."""
        return await graphs.cancel(who, graph)

    @post(
        "/{graph:str}/rerun",
        operation_id="rerun_graph",
        summary="Run a graph again",
        status_code=200,
        opt={
            "permission": "jobs:create",
            "idempotency": "required",
            "errors": (
                *(GraphNotFound, GraphStateConflict, GraphNotKept, GraphInvalid, GraphBudgetTooSmall),
                *(InvalidAmount, AmountOverflow, TooManyGraphs),
            ),
        },
    )
    async def rerun(
        self, graphs: NamedDependency[Graphs], who: Who, once: Once, graph: FromPath[str], data: JSONBody[RerunGraph]
    ) -> GraphDetail:
        """Run a graph that has ended again, from what did not succeed or from some nodes on.

        Nodes that succeeded before and do not follow from those are not done again: their outputs are used, as long as
        they are kept.
        """
        return await graphs.rerun(who, graph, data, once)

    @get(
        "/{graph:str}/events",
        operation_id="follow_graph",
        summary="Follow a graph",
        media_type="text/event-stream",
        opt={"permission": "jobs:read", "lasts": True, "errors": (GraphNotFound, InvalidEventId)},
    )
    async def events(
        self,
        graph_events: NamedDependency[GraphEvents],
        who: Who,
        graph: FromPath[str],
        last_event_id: LastEventId = None,
    ) -> Stream:
        """Follow a graph as server-sent events until it has ended: `node` for each node that changed, then `state`.

        Send the last id that was seen as `Last-Event-ID` to go on where a broken connection stopped.
        """
        events = await graph_events.follow(who, graph, last_event_id)
        return Stream(event_stream(events), media_type="text/event-stream")
