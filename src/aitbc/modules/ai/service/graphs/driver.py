"""Drives graphs on, one step after the other. Any process may drive any graph at any time, and may die at any point.

A step is: read the graph and the ends of its jobs; work out what follows; write that, if the graph is still what was
read. What the step has begun is then submitted, under keys that are made of graph, node and attempt. Nothing else is
kept anywhere, so a graph goes on from its rows wherever it was left.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from msgspec import structs

from aitbc.kernel.database.retry import retry
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.batched.graphs import (
    Seen,
    Submitted,
    due_graphs,
    forget_specs,
    note_jobs,
    read_graph,
    save_due,
    save_step,
)
from aitbc.modules.ai.events import GraphChanged
from aitbc.modules.ai.models.graphs.life import OVER, SUBMIT_AGAIN, Board, End, GraphState, GraphValue, NodeState
from aitbc.modules.ai.service.graphs.commands import Written, written
from aitbc.modules.ai.service.graphs.node_jobs import NodeJobs
from aitbc.modules.ai.service.graphs.preparing import Preparation, Prepared
from aitbc.modules.ai.service.graphs.watch import GraphWatch

ROUNDS_MAX = 100
"""After so many steps at a time a graph waits for the next round, so that others get their turn."""
PAGE = 200
AT_ONCE = 8
"""How many graphs are driven at the same time."""
STUCK = timedelta(seconds=30)
Refusals = dict[tuple[str, int, int], End]
log = structlog.get_logger("aitbc.ai")


class GraphDriver:
    """Drives graphs on."""

    def __init__(self, db: Database, preparation: Preparation, jobs: NodeJobs, watch: GraphWatch) -> None:
        self._db = db
        self._preparation = preparation
        self._jobs = jobs
        self._watch = watch
        self._driven: set[str] = set()
        self._again: set[str] = set()

    async def drive_due(self) -> None:
        """Drive on every graph of which something has ended, or whose time it is."""
        await self._drive_all([*self._watch.take(), *await due_graphs(self._db, now(), PAGE)])

    async def run(self) -> None:
        """Drive on, for ever, the graphs that are woken in this process."""
        while True:
            await self._drive_all(await self._watch.wait())

    async def _drive_all(self, graphs: Sequence[str]) -> None:
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(graph: str) -> None:
            async with turn:
                await self._drive_safely(graph)

        await asyncio.gather(*map(one, dict.fromkeys(graphs)))

    async def _drive_safely(self, graph: str) -> None:
        """One graph that cannot be driven on must not keep the others."""
        try:
            await self.drive(graph)
        except AppError as error:  # the next round tries again
            log.warning("graph_postponed", graph=graph, reason=error.message)
        except Exception:
            log.exception("graph_stuck", graph=graph)
            await self._postpone(graph)

    async def _postpone(self, graph: str) -> None:
        try:
            seen = await read_graph(self._db, graph)
            if seen is not None and seen.graph.ended_at is None:
                await save_due(self._db, structs.replace(seen.graph, due_at=now() + STUCK))
        except AppError as error:
            log.warning("graph_postponed", graph=graph, reason=error.message)

    async def drive(self, graph: str) -> None:
        """Drive a graph on until it waits for the end of a job, or for a time; at once nobody else does here."""
        if graph in self._driven:
            self._again.add(graph)
            return
        self._driven.add(graph)
        try:
            for _ in range(ROUNDS_MAX):
                self._again.discard(graph)
                await self._drive(graph)
                if graph not in self._again:
                    break
        finally:
            self._driven.discard(graph)

    async def _drive(self, graph: str) -> None:
        refused: Refusals = {}
        for _ in range(ROUNDS_MAX):
            seen = await read_graph(self._db, graph)
            if seen is None or seen.graph.state in OVER or seen.graph.spec is None:
                return
            plan = written(seen.graph.spec)
            board = Board(seen.graph, seen.nodes, plan.rules, now())
            prepared = await self._preparation.of(board, plan)
            if not await self._step(board, seen, plan, prepared, refused):
                continue
            if board.graph.state in OVER:
                return
            found = await self._submit(board, prepared)
            stopped = await self._stop(board)
            if not found and not stopped:
                return
            refused |= found

    async def _step(self, board: Board, seen: Seen, plan: Written, prepared: Prepared, refused: Refusals) -> bool:
        """Work out a step and write it; false where the graph has moved on meanwhile."""
        graph, before, due_at = board.graph, seen.graph.state, seen.graph.due_at
        board.note_ends(seen.ends, refused)
        board.settle()
        undecided = await _decide(board, prepared)
        graph.due_at = _earliest(board.next_look(), now() + SUBMIT_AGAIN if undecided else None)
        if not board.has_changed:
            if graph.due_at != due_at:
                await save_due(self._db, graph)
            return True
        events: list[GraphChanged] = []
        if graph.state != before:
            events.append(changed(graph))
        if graph.state in OVER:
            graph.kept_until = kept_until(graph, plan)
        done = await retry(lambda: save_step(self._db, board, events))
        if done:
            if events:
                self._db.notify_published()
            self._watch.followers.notify([graph.id])
        return done

    async def _submit(self, board: Board, prepared: Prepared) -> Refusals:
        """Submit the jobs of what has begun, and note them; answers those that were refused."""
        starting = [node for node in board.jobs() if node.state == NodeState.STARTING]
        if not starting:
            return {}
        lost = await prepared.refill([node for node in starting if node.place not in prepared.commands])
        refused = {(node.name, node.index, node.attempt): lost[node.place] for node in starting if node.place in lost}
        going = [node for node in starting if node.place not in lost]
        results = await self._jobs.submit(board, going, prepared.commands)
        if results.submitted:
            self._watch.expect((one.job for one in results.submitted), board.graph.id)
            await self._note(board, results.submitted)
        return refused | results.refused

    async def _note(self, board: Board, submitted: Sequence[Submitted]) -> None:
        graph = board.graph
        for one in submitted:
            node = board.nodes[one.place]
            node.state, node.job = NodeState.RUNNING.value, one.job
        orphans = await note_jobs(self._db, graph.id, graph.version, board.next_look(), submitted)
        self._watch.followers.notify([graph.id])
        if orphans:
            await self._jobs.cancel(graph, orphans)

    async def _stop(self, board: Board) -> bool:
        """Where a graph is to end, cancel what is under way; whether any of it has ended by that."""
        if board.graph.state != GraphState.CANCELING:
            return False
        return await self._jobs.cancel(board.graph, [node.job for node in board.under_way() if node.job is not None])

    async def forget(self) -> None:
        """Remove what graphs were written with whose retention is over."""
        while await forget_specs(self._db, now(), PAGE) == PAGE:
            pass


async def _decide(board: Board, prepared: Prepared) -> bool:
    """Decide about all that is ready, and about what becomes ready by that; whether something could not be judged."""
    decided: set[tuple[str, int]] = set()
    undecided = False
    while ready := [node for node in board.ready() if node.place not in decided]:
        decided |= {node.place for node in ready}
        decisions = await prepared.decide(ready)
        undecided = undecided or len(decisions) < len(ready)
        board.decide(decisions)
        board.settle()
    return undecided


def changed(graph: GraphValue) -> GraphChanged:
    """The event that a graph came to the state in which it is."""
    return GraphChanged(
        graph=graph.id,
        account=graph.account,
        state=graph.state,
        reason=graph.reason,
        spent_units=graph.spent_units,
        schedule=graph.schedule,
    )


def kept_until(graph: GraphValue, plan: Written) -> datetime:
    """Until when it is kept how a graph was written that has ended: as long as what its nodes made."""
    assert graph.ended_at is not None
    return graph.ended_at + timedelta(seconds=max(node.clocks.retention_seconds for node in plan.spec.nodes))


def _earliest(*times: datetime | None) -> datetime | None:
    return min((time for time in times if time is not None), default=None)
