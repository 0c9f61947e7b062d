"""Nodes that are ready: whether they are to begin, what their jobs are asked, and what those may cost."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.errors import AppError, Unavailable
from aitbc.modules.ai.batched.graphs import read_outputs
from aitbc.modules.ai.models.graphs.life import (
    WHOLE,
    Begin,
    Board,
    Decision,
    End,
    FanOut,
    Node,
    NodeState,
    Place,
)
from aitbc.modules.ai.models.graphs.places import Made, PlaceUnknown, Values, names_item
from aitbc.modules.ai.models.graphs.shapes import INSTANCES_MAX, GraphNode
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.ai.service.graphs.commands import Written, payer_of
from aitbc.modules.ai.service.ordered_jobs import LEAST
from aitbc.modules.ai.service.planner import Planner


class _OutputGone(Exception):
    """What a parent made is past its retention; the text names the parent."""


class Preparation:
    """Fills in what nodes are asked, for one step of a graph after the other."""

    def __init__(self, db: Database, planner: Planner) -> None:
        self._db = db
        self._planner = planner

    async def of(self, board: Board, written: Written) -> "Prepared":
        """For a step of this graph."""
        return Prepared(self._db, self._planner, board, written)


class Prepared:
    """What was decided and filled in for one step, with the outputs that were read for it."""

    def __init__(self, db: Database, planner: Planner, board: Board, written: Written) -> None:
        self._db = db
        self._planner = planner
        self._board = board
        self._written = written
        self._made: dict[str, Made | Sequence[Made]] = {}
        self._gone: set[str] = set()
        self._lists: dict[str, list[Any]] = {}
        self.commands: dict[Place, SubmitJob] = {}
        """What is to be submitted for nodes that begin."""

    async def decide(self, ready: Sequence[Node]) -> dict[Place, Decision]:
        """What is to be done with nodes that are ready; those that cannot be judged now are left out."""
        await self._read_parents(ready)
        decided: dict[Place, Decision] = {}
        for node in ready:
            try:
                decided[node.place] = await self._decide(node)
            except Unavailable:
                continue
            except AppError as error:
                decided[node.place] = End(NodeState.FAILED, error.code, error.message)
            except PlaceUnknown as place:
                decided[node.place] = End(NodeState.FAILED, "input_missing", f"There is nothing at {place}.")
            except _OutputGone as parent:
                decided[node.place] = End(NodeState.FAILED, "output_gone", f"What {parent} made is not kept any more.")
        return decided

    async def refill(self, nodes: Sequence[Node]) -> dict[Place, End]:
        """Fill in anew what nodes that had begun are asked; answers those for which that cannot be done any more."""
        await self._read_parents(nodes)
        failed: dict[Place, End] = {}
        for node in nodes:
            try:
                self.commands[node.place] = self._command(node, self._filled(node), node.reserved_units)
            except (PlaceUnknown, _OutputGone) as trouble:
                failed[node.place] = End(NodeState.FAILED, "output_gone", f"What {trouble} made is not kept any more.")
        return failed

    async def _decide(self, node: Node) -> Decision:
        spec = self._written.nodes[node.name]
        is_frame = node.index == WHOLE and spec.for_each is not None
        is_asked = spec.when is not None and names_item(spec) == (node.index != WHOLE)
        if is_asked and spec.when is not None and not self._values(node).holds(spec.when):
            return End(NodeState.SKIPPED, "condition")
        if is_frame:
            return self._fan_out(node)
        command = self._command(node, self._filled(node), None)
        limit_units = await self._limit(command, spec)
        self.commands[node.place] = msgspec.structs.replace(command, max_price=money.render(limit_units))
        return Begin(limit_units)

    def _fan_out(self, node: Node) -> Decision:
        found = self._list_of(node.name)
        if found is None:
            return End(NodeState.FAILED, "not_a_list", "What for_each names is no list.")
        known = len([other for other in self._board.jobs() if other.name != node.name])
        if known + len(found) > INSTANCES_MAX:
            message = f"With {len(found)} items the graph would come to more than {INSTANCES_MAX} jobs."
            return End(NodeState.FAILED, "too_many_nodes", message)
        return FanOut(len(found))

    async def _limit(self, command: SubmitJob, spec: GraphNode) -> int:
        if spec.max_price is not None:
            return money.parse(spec.max_price)
        plan = await self._planner.plan(self._payer, command)
        return await self._planner.limit_units(plan)

    @property
    def _payer(self) -> Principal:
        return payer_of(self._board.graph)

    def _command(self, node: Node, filled: dict[str, Any], limit_units: int | None) -> SubmitJob:
        spec = self._written.nodes[node.name]
        return SubmitJob(
            kind=spec.kind,
            input=filled,
            max_price=LEAST if limit_units is None else money.render(limit_units),
            requirements=spec.requirements,
            prefer=spec.prefer,
            priority=spec.priority,
            clocks=spec.clocks,
            retry=spec.retry,
        )

    def _filled(self, node: Node) -> dict[str, Any]:
        filled = self._values(node).fill(self._written.nodes[node.name].input)
        assert isinstance(filled, dict)
        return filled

    def _values(self, node: Node) -> Values:
        spec = self._written.nodes[node.name]
        inputs = self._written.spec.inputs
        parents = self._written.rules[node.name].parents
        for parent in parents:
            if parent in self._gone:
                raise _OutputGone(parent)
        made = {parent: self._made[parent] for parent in parents}
        if node.index == WHOLE or spec.for_each is None:
            return Values(inputs, made)
        items = self._list_of(node.name)
        if items is None or node.index >= len(items):
            raise PlaceUnknown("item")
        return Values(inputs, made, items[node.index], node.index)

    def _list_of(self, name: str) -> list[Any] | None:
        """The items of a node; none where what it names is no list. Worked out once for all of them."""
        if name not in self._lists:
            found = self._values(self._board.nodes[name, WHOLE]).fill(self._written.nodes[name].for_each)
            if not isinstance(found, list):
                return None
            self._lists[name] = found
        return self._lists[name]

    async def _read_parents(self, nodes: Iterable[Node]) -> None:
        """Read what the parents of these nodes have made, where it was not read before."""
        wanted = {parent for node in nodes for parent in self._written.rules[node.name].parents} - set(self._made)
        rows = {name: self._rows_of(name) for name in wanted}
        succeeded = [row for each in rows.values() for row in each if row.state == NodeState.SUCCEEDED]
        outputs = await read_outputs(self._db, succeeded)
        for name, each in rows.items():
            made = [self._made_of(row, outputs) for row in each]
            self._made[name] = made if self._written.rules[name].fans_out else made[0]

    def _rows_of(self, name: str) -> list[Node]:
        """The jobs of a node in the order of their items; items that were skipped are none."""
        if not self._written.rules[name].fans_out:
            return [self._board.nodes[name, WHOLE]]
        items = [node for node in self._board.nodes.values() if node.name == name and node.index != WHOLE]
        return sorted((one for one in items if one.state != NodeState.SKIPPED), key=lambda one: one.index)

    def _made_of(self, node: Node, outputs: Mapping[str, tuple[str | None, str | None]]) -> Made:
        if node.state != NodeState.SUCCEEDED:
            return Made(None, None, node.job, node.state)
        text, _ = outputs.get(node.job or "", (None, None))
        if text is None:
            self._gone.add(node.name)
            return Made(None, node.output_digest, node.job, node.state)
        return Made(msgspec.json.decode(text), node.output_digest, node.job, node.state)
