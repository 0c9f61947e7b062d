"""Graphs as their owners begin, see and change them."""

from collections.abc import Callable, Sequence

import msgspec
from sqlalchemy import func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import FieldError
from aitbc.modules.ai.batched.graphs import Seen, read_graph
from aitbc.modules.ai.models.graphs.check import GraphBudgetTooSmall, GraphInvalid, check
from aitbc.modules.ai.models.graphs.life import OVER, Board, GraphState, GraphValue, Node
from aitbc.modules.ai.models.graphs.shapes import Graph, GraphDetail, RerunGraph, RunGraph
from aitbc.modules.ai.models.graphs.tables import GraphNodeRow, GraphRow
from aitbc.modules.ai.models.graphs.views import detail_view, graph_view
from aitbc.modules.ai.service.graphs.commands import (
    GraphNotFound,
    GraphNotKept,
    GraphStateConflict,
    TooManyGraphs,
    written,
)
from aitbc.modules.ai.service.graphs.driver import changed
from aitbc.modules.ai.service.graphs.watch import GraphWatch
from aitbc.modules.ai.service.limits import Limits

_GRAPH_FIELDS = tuple(GraphValue.__struct_fields__)
_NODE_FIELDS = tuple(Node.__struct_fields__)


class Graphs:
    """Begins graphs, and shows, pauses, cancels and reruns them."""

    def __init__(self, db: Database, watch: GraphWatch, limits: Limits) -> None:
        self._db = db
        self._watch = watch
        self._limits = limits

    async def run(self, who: Principal, command: RunGraph, once: IdempotencyKey) -> GraphDetail:
        """Begin a graph: its nodes are driven on from now on.

        Raises `GraphInvalid`, `GraphTooLarge`, `GraphBudgetTooSmall`, `InvalidAmount`, `TooManyGraphs`.
        """
        check(command)
        answer = await self._run(who, command, once)
        self._watch.wake(answer.id)
        return answer

    @retrying
    async def _run(self, who: Principal, command: RunGraph, once: IdempotencyKey) -> GraphDetail:
        async with self._db.unit_of_work() as uow:
            earlier = await uow.replay(once, GraphDetail)
            if earlier is not None:
                return earlier
            await self.require_room(uow, who.account)
            value, nodes = await add_graph(uow, who, command)
            await uow.audit(who.account, who.key, "graph.run", value.id)
            return await uow.answer(once, detail_view(value, nodes, [node.name for node in command.nodes]))

    async def require_room(self, uow: UnitOfWork, account: str) -> None:
        """Raises `TooManyGraphs` where an account has as many graphs under way as it may have."""
        still_open = select(func.count()).select_from(GraphRow)
        still_open = still_open.where(GraphRow.account == account, GraphRow.ended_at.is_(None))
        if (await uow.session.scalar(still_open) or 0) >= self._limits.open_graphs_per_account:
            raise TooManyGraphs(open_graphs_max=self._limits.open_graphs_per_account)

    async def get(self, who: Principal, graph: str) -> GraphDetail:
        """A graph with its nodes. Raises `GraphNotFound`."""
        return detail_of(await self.find(who, graph))

    async def find(self, who: Principal, graph: str) -> Seen:
        """A graph as it is now, if the caller may see it. Raises `GraphNotFound`."""
        seen = await read_graph(self._db, graph) if ids.is_id("graph", graph) else None
        if seen is None or not who.owns(seen.graph.account):
            raise GraphNotFound
        return seen

    async def page(
        self, who: Principal, *, states: Sequence[str], schedule: str | None, after: str | None, limit: int
    ) -> Sequence[Graph]:
        """The caller's graphs from the newest on; an operator sees everybody's. None in `states` means any."""
        wanted = select(GraphRow).order_by(GraphRow.id.desc()).limit(limit)
        if not who.is_admin:
            wanted = wanted.where(GraphRow.account == who.account)
        if states:
            wanted = wanted.where(GraphRow.state.in_(states))
        if schedule is not None:
            wanted = wanted.where(GraphRow.schedule == schedule)
        if after is not None:
            wanted = wanted.where(GraphRow.id < after)
        async with self._db.reading() as session:
            return [graph_view(_value(row)) for row in await session.scalars(wanted)]

    async def pause(self, who: Principal, graph: str) -> GraphDetail:
        """Begin nothing more of a graph; what is under way goes on. Again changes nothing.

        Raises `GraphNotFound`, `GraphStateConflict`.
        """

        def act(board: Board) -> bool:
            return _move(board, GraphState.PAUSED, (GraphState.RUNNING,))

        return await self._change(who, graph, "graph.pause", act)

    async def resume(self, who: Principal, graph: str) -> GraphDetail:
        """Go on with a paused graph. Again changes nothing. Raises `GraphNotFound`, `GraphStateConflict`."""

        def act(board: Board) -> bool:
            return _move(board, GraphState.RUNNING, (GraphState.PAUSED,))

        return await self._change(who, graph, "graph.resume", act)

    async def cancel(self, who: Principal, graph: str) -> GraphDetail:
        """End a graph: what waits is canceled, what is under way is stopped, and its money goes back.

        Again changes nothing. Raises `GraphNotFound`, `GraphStateConflict` for one that ended otherwise.
        """

        def act(board: Board) -> bool:
            if board.graph.state in (GraphState.CANCELED, GraphState.CANCELING):
                return False
            if board.graph.state in OVER:
                raise _conflict(board.graph)
            board.cancel()
            board.settle()
            return True

        return await self._change(who, graph, "graph.cancel", act)

    async def rerun(self, who: Principal, graph: str, command: RerunGraph, once: IdempotencyKey) -> GraphDetail:
        """Take a graph that has ended up again; what succeeded before is not done again.

        Raises `GraphNotFound`, `GraphStateConflict`, `GraphNotKept`, `GraphInvalid`, `GraphBudgetTooSmall`,
        `InvalidAmount`, `TooManyGraphs`.
        """
        budget = None if command.budget is None else money.parse(command.budget)

        def act(board: Board) -> bool:
            _require_rerun(board, command, budget)
            if budget is not None:
                board.graph.budget_units = budget
            board.graph.kept_until = None
            board.rerun(command.nodes)
            return True

        return await self._change(who, graph, "graph.rerun", act, once=once, opens=True)

    async def _change(
        self,
        who: Principal,
        graph: str,
        action: str,
        act: Callable[[Board], bool],
        *,
        once: IdempotencyKey = IdempotencyKey.NONE,
        opens: bool = False,
    ) -> GraphDetail:
        answer = await self._save(who, graph, action, act, once, opens=opens)
        self._watch.wake(answer.id)
        self._watch.followers.notify([answer.id])
        return answer

    @retrying
    async def _save(
        self,
        who: Principal,
        graph: str,
        action: str,
        act: Callable[[Board], bool],
        once: IdempotencyKey,
        *,
        opens: bool,
    ) -> GraphDetail:
        async with self._db.unit_of_work() as uow:
            earlier = await uow.replay(once, GraphDetail)
            if earlier is not None:
                return earlier
            row = await uow.find(GraphRow, graph, lock=True, missing=GraphNotFound)
            if not who.owns(row.account):
                raise GraphNotFound
            rows = (await uow.session.scalars(select(GraphNodeRow).where(GraphNodeRow.graph == graph))).all()
            if row.spec is None:
                raise GraphNotKept if row.state in OVER else GraphStateConflict
            board = Board(_value(row), [_node(one) for one in rows], written(row.spec).rules, now())
            if act(board):
                if opens:
                    await self.require_room(uow, row.account)
                _store(row, rows, board)
                uow.publish(changed(board.graph))
                await uow.audit(who.account, who.key, action, graph)
            nodes = list(board.nodes.values())
            return await uow.answer(once, detail_view(board.graph, nodes, list(written(row.spec).nodes)))


async def add_graph(
    uow: UnitOfWork, who: Principal, command: RunGraph, *, schedule: str | None = None
) -> tuple[GraphValue, list[Node]]:
    """Write a graph that was checked, with the event that it runs."""
    at = now()
    value = GraphValue(
        id=ids.new_id("graph"),
        account=who.account,
        key=who.key,
        name=command.name,
        state=GraphState.RUNNING.value,
        reason="",
        spec=msgspec.json.encode(command).decode(),
        schedule=schedule,
        budget_units=money.parse(command.budget),
        reserved_units=0,
        spent_units=0,
        parallel=command.parallel,
        version=1,
        due_at=at,
        created_at=at,
        ended_at=None,
        kept_until=None,
    )
    nodes = [Node(graph=value.id, name=node.name, changed=1) for node in command.nodes]
    uow.add(GraphRow(**{name: getattr(value, name) for name in _GRAPH_FIELDS}))
    await uow.session.flush()
    for node in nodes:
        uow.add(GraphNodeRow(**{name: getattr(node, name) for name in _NODE_FIELDS}))
    uow.publish(changed(value))
    return value, nodes


def detail_of(seen: Seen) -> GraphDetail:
    """A graph as it was read."""
    order = [] if seen.graph.spec is None else list(written(seen.graph.spec).nodes)
    return detail_view(seen.graph, seen.nodes, order)


def _value(row: GraphRow) -> GraphValue:
    return GraphValue(**{name: getattr(row, name) for name in _GRAPH_FIELDS})


def _node(row: GraphNodeRow) -> Node:
    return Node(**{name: getattr(row, name) for name in _NODE_FIELDS})


def _store(row: GraphRow, rows: Sequence[GraphNodeRow], board: Board) -> None:
    """Write what a board has changed into its rows; the graph is to be looked at now."""
    graph = board.graph
    graph.version += 1
    graph.due_at = board.at if graph.state not in OVER else None
    for name in _GRAPH_FIELDS:
        setattr(row, name, getattr(graph, name))
    by_place = {(one.name, one.index): one for one in rows}
    for place, node in board.changed.items():
        node.changed = graph.version
        for name in _NODE_FIELDS:
            setattr(by_place[place], name, getattr(node, name))


def _move(board: Board, to: GraphState, origins: Sequence[GraphState]) -> bool:
    """Take a graph to another state; false where it is there. Raises `GraphStateConflict`."""
    if board.graph.state == to:
        return False
    if board.graph.state not in origins:
        raise _conflict(board.graph)
    board.graph.state = to.value
    return True


def _conflict(graph: GraphValue) -> GraphStateConflict:
    return GraphStateConflict(f"The graph is {graph.state}.", state=str(graph.state))


def _require_rerun(board: Board, command: RerunGraph, budget: int | None) -> None:
    if board.graph.state not in OVER:
        raise _conflict(board.graph)
    for number, name in enumerate(command.nodes):
        if name not in board.rules:
            message = f"There is no node {name}."
            raise GraphInvalid(message, fields=(FieldError(f"/nodes/{number}", message),))
    if board.graph.state == GraphState.SUCCEEDED and not command.nodes:
        raise GraphStateConflict("Every node has succeeded; name those that are to be done again.", state="succeeded")
    if budget is not None and budget < board.graph.spent_units:
        message = f"{money.render(board.graph.spent_units)} of the budget is spent already."
        raise GraphBudgetTooSmall(message, fields=(FieldError("/budget", message),))
