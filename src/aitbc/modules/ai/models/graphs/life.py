"""The life of a graph and of its nodes: what the rows alone decide. Nothing here reads, writes or waits."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from aitbc.kernel.primitives import money
from aitbc.modules.ai.models.life import State

WHOLE = -1
"""The index of the row that stands for a node as a whole; the items of its list count from 0."""
BACKOFF_SECONDS_MAX = 60.0
SUBMIT_AGAIN = timedelta(seconds=5)
"""After so long a node that began and has no job is submitted again, under the same key."""


class GraphState(StrEnum):
    """Where a graph is."""

    RUNNING = "running"
    PAUSED = "paused"
    """Nothing is begun; what was under way goes on."""
    CANCELING = "canceling"
    """Nothing is begun, and what is under way is being stopped."""
    SUCCEEDED = "succeeded"
    """Every node has succeeded or was skipped."""
    FAILED = "failed"
    CANCELED = "canceled"


class NodeState(StrEnum):
    """Where a node of a graph is."""

    PENDING = "pending"
    """It waits for its parents, for room in the budget, or for the pause before another try."""
    STARTING = "starting"
    """Its money is reserved in the budget, and its job is about to be submitted."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UPSTREAM_FAILED = "upstream_failed"
    """A parent did not succeed, so it was never begun."""
    SKIPPED = "skipped"
    """Its condition did not hold, or it needs what was skipped."""
    CANCELED = "canceled"


OVER = frozenset({GraphState.SUCCEEDED, GraphState.FAILED, GraphState.CANCELED})
ENDED = frozenset(
    {NodeState.SUCCEEDED, NodeState.FAILED, NodeState.UPSTREAM_FAILED, NodeState.SKIPPED, NodeState.CANCELED}
)
UNDER_WAY = frozenset({NodeState.STARTING, NodeState.RUNNING})
Place = tuple[str, int]
"""Name and index of a node."""


class Node(Struct, kw_only=True):
    """A node by value, with the names of its row."""

    graph: str
    name: str
    index: int = WHOLE
    state: str = NodeState.PENDING.value
    reason: str = ""
    message: str = ""
    job: str | None = None
    attempt: int = 0
    """How many jobs were tried for it, in all its rounds: each has a key of its own."""
    earlier: int = 0
    """How many of them in rounds before the present one."""
    reserved_units: int = 0
    spent_units: int = 0
    output_digest: str | None = None
    due_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    changed: int = 0
    """The version of its graph at which it last changed."""

    @property
    def place(self) -> Place:
        """By which it is known in its graph."""
        return self.name, self.index


class GraphValue(Struct, kw_only=True):
    """A graph by value, with the names of its row."""

    id: str
    account: str
    key: str
    name: str
    state: str
    reason: str
    spec: str | None
    schedule: str | None
    budget_units: int
    reserved_units: int
    spent_units: int
    parallel: int
    version: int
    due_at: datetime | None
    created_at: datetime
    ended_at: datetime | None
    kept_until: datetime | None


class JobEnd(Struct, frozen=True):
    """What became of the job of a node."""

    state: str
    reason: str
    price_units: int
    output_digest: str | None


class Rules(Struct, frozen=True):
    """What the rules know of how a node was written."""

    parents: tuple[str, ...]
    fans_out: bool
    takes_any: bool
    retries: int


class Begin(Struct, frozen=True):
    """A node is to begin, and its job may cost so much."""

    limit_units: int


class FanOut(Struct, frozen=True):
    """A node is to become so many."""

    count: int


class End(Struct, frozen=True):
    """A node is to end without a job."""

    state: NodeState
    reason: str
    message: str = ""


Decision = Begin | FanOut | End
"""What is to be done with a node that is ready: made outside of the rules, for outputs are read for it."""


class Board:
    """A graph with its nodes while a step of it is worked out: what it changes is written by one compare-and-set."""

    def __init__(self, graph: GraphValue, nodes: Sequence[Node], rules: Mapping[str, Rules], at: datetime) -> None:
        self.graph = graph
        self.nodes = {node.place: node for node in nodes}
        self.rules = rules
        self.at = at
        self.changed: dict[Place, Node] = {}
        self.added: list[Node] = []
        self._items: dict[str, list[Node]] = defaultdict(list)
        for node in nodes:
            if node.index != WHOLE:
                self._items[node.name].append(node)

    @property
    def has_changed(self) -> bool:
        """Whether there is something to write."""
        return bool(self.changed or self.added)

    def jobs(self) -> Sequence[Node]:
        """What is a job and not the frame of others."""
        return [node for node in self.nodes.values() if node.index != WHOLE or not self.rules[node.name].fans_out]

    def under_way(self) -> Sequence[Node]:
        """The nodes that have a job, or are about to."""
        return [node for node in self.jobs() if node.state in UNDER_WAY]

    # What ends

    def note_ends(self, ends: Mapping[str, JobEnd], refused: Mapping[tuple[str, int, int], End]) -> None:
        """Note the ends of jobs, and the refusals of submissions by name, index and attempt."""
        for node in self.under_way():
            end = ends.get(node.job) if node.job is not None else None
            if node.state == NodeState.RUNNING and end is not None:
                self._note_end(node, end)
            elif node.state == NodeState.STARTING:
                refusal = refused.get((node.name, node.index, node.attempt))
                if refusal is not None:
                    self._end(node, self._failure, refusal.reason, refusal.message)

    @property
    def _failure(self) -> NodeState:
        return NodeState.CANCELED if self.graph.state == GraphState.CANCELING else NodeState.FAILED

    def _note_end(self, node: Node, end: JobEnd) -> None:
        if end.state == State.SUCCEEDED:
            node.output_digest = end.output_digest
            node.spent_units += end.price_units
            self.graph.spent_units += end.price_units
            self._end(node, NodeState.SUCCEEDED, "")
        elif self._tries(node) <= self.rules[node.name].retries and self.graph.state != GraphState.CANCELING:
            self._release(node)
            node.state, node.reason, node.message = NodeState.PENDING.value, f"job_{end.state}", end.reason
            node.due_at = self.at + timedelta(seconds=min(2.0 ** (self._tries(node) - 1), BACKOFF_SECONDS_MAX))
            self._touch(node)
        else:
            self._end(node, self._failure, f"job_{end.state}", end.reason)

    @staticmethod
    def _tries(node: Node) -> int:
        return node.attempt - node.earlier

    def _end(self, node: Node, state: NodeState, reason: str, message: str = "") -> None:
        assert node.state not in ENDED
        self._release(node)
        node.state, node.reason, node.message = state.value, reason, message
        node.due_at, node.ended_at = None, self.at
        self._touch(node)

    def _release(self, node: Node) -> None:
        self.graph.reserved_units -= node.reserved_units
        node.reserved_units = 0

    def _touch(self, node: Node) -> None:
        if node not in self.added:
            self.changed[node.place] = node

    # What follows from it

    def settle(self) -> None:
        """End what follows from what has ended, until nothing more does: frames, children, the graph itself."""
        while self._end_frames() or self._end_children():
            pass
        if self.graph.state not in OVER and all(node.state in ENDED for node in self.nodes.values()):
            self._end_graph()

    def _end_frames(self) -> bool:
        """Frames whose items have all ended."""
        ended = False
        for name, items in self._items.items():
            frame = self.nodes[name, WHOLE]
            if frame.state != NodeState.RUNNING or any(item.state not in ENDED for item in items):
                continue
            states = {item.state for item in items}
            if states <= {NodeState.SUCCEEDED, NodeState.SKIPPED}:
                self._end(frame, NodeState.SUCCEEDED, "")
            elif NodeState.CANCELED in states and self.graph.state == GraphState.CANCELING:
                self._end(frame, NodeState.CANCELED, "canceled")
            else:
                failed = sum(item.state not in (NodeState.SUCCEEDED, NodeState.SKIPPED) for item in items)
                self._end(frame, NodeState.FAILED, "items_failed", f"{failed} of {len(items)} did not succeed.")
            ended = True
        return ended

    def _end_children(self) -> bool:
        """Nodes that can never begin, for want of what their parents should have made."""
        ended = False
        for name, rules in self.rules.items():
            node = self.nodes[name, WHOLE]
            if node.state != NodeState.PENDING:
                continue
            parents = {parent: self.nodes[parent, WHOLE].state for parent in rules.parents}
            lacking = [parent for parent, state in parents.items() if state in ENDED - {NodeState.SUCCEEDED}]
            if rules.takes_any and len(lacking) < len(parents):
                continue
            if lacking:
                is_skipped = all(parents[parent] == NodeState.SKIPPED for parent in lacking)
                state = NodeState.SKIPPED if is_skipped else NodeState.UPSTREAM_FAILED
                self._end_whole(node, state, f"parent_{parents[lacking[0]]}", lacking[0])
                ended = True
        return ended

    def _end_whole(self, frame: Node, state: NodeState, reason: str, message: str) -> None:
        """End a node that is not to begin, with the items that it had in an earlier round."""
        for node in (frame, *self._items[frame.name]):
            if node.state not in ENDED:
                self._end(node, state, reason, message)

    def _end_graph(self) -> None:
        states = {node.state for node in self.nodes.values()}
        if self.graph.state == GraphState.CANCELING:
            self.graph.state, self.graph.reason = GraphState.CANCELED.value, "canceled_by_owner"
        elif states <= {NodeState.SUCCEEDED, NodeState.SKIPPED}:
            self.graph.state, self.graph.reason = GraphState.SUCCEEDED.value, ""
        else:
            self.graph.state, self.graph.reason = GraphState.FAILED.value, "node_failed"
        self.graph.ended_at = self.at

    # What begins

    def ready(self) -> Sequence[Node]:
        """The nodes that may begin now, in the order in which they were written, no more than may be under way."""
        if self.graph.state != GraphState.RUNNING:
            return ()
        room = self.graph.parallel - len(self.under_way())
        found: list[Node] = []
        for name, rules in self.rules.items():
            frame = self.nodes[name, WHOLE]
            if frame.state == NodeState.PENDING and not self._is_blocked(rules):
                found.append(frame)
            elif rules.fans_out and frame.state == NodeState.RUNNING:
                found += [item for item in self._items[name] if item.state == NodeState.PENDING]
        return [node for node in found if node.due_at is None or node.due_at <= self.at][: max(room, 0)]

    def _is_blocked(self, rules: Rules) -> bool:
        return any(self.nodes[parent, WHOLE].state not in ENDED for parent in rules.parents)

    def decide(self, decisions: Mapping[Place, Decision]) -> None:
        """Do what was decided about nodes that were ready. What the budget has no room for waits for what is held."""
        for place, decision in decisions.items():
            node = self.nodes[place]
            match decision:
                case Begin():
                    self._begin(node, decision.limit_units)
                case FanOut():
                    self._fan_out(node, decision.count)
                case End() if node.index == WHOLE:
                    self._end_whole(node, decision.state, decision.reason, decision.message)
                case End():
                    self._end(node, decision.state, decision.reason, decision.message)

    def _begin(self, node: Node, limit_units: int) -> None:
        graph = self.graph
        if graph.reserved_units + graph.spent_units + limit_units > graph.budget_units:
            if not graph.reserved_units:
                left = graph.budget_units - graph.spent_units
                message = (
                    f"It may cost {money.render(limit_units)}, and {money.render(max(left, 0))} of the budget is left."
                )
                self._end(node, NodeState.FAILED, "budget_exhausted", message)
            return
        graph.reserved_units += limit_units
        node.reserved_units = limit_units
        node.state, node.reason, node.message = NodeState.STARTING.value, "", ""
        node.attempt, node.job = node.attempt + 1, None
        node.due_at, node.started_at = None, self.at
        self._touch(node)

    def _fan_out(self, frame: Node, count: int) -> None:
        self._touch(frame)
        frame.started_at = self.at
        for item in self._items[frame.name][count:]:
            if item.state not in ENDED:
                self._end(item, NodeState.SKIPPED, "no_such_item")
        if count == 0:
            self._end(frame, NodeState.SUCCEEDED, "no_items")
            return
        frame.state = NodeState.RUNNING.value
        for index in range(count):
            known = self.nodes.get((frame.name, index))
            if known is None:
                item = Node(graph=frame.graph, name=frame.name, index=index)
                self.nodes[item.place] = item
                self._items[frame.name].append(item)
                self.added.append(item)

    # What is asked of it

    def cancel(self) -> None:
        """Begin nothing more, and stop what is under way."""
        self.graph.state = GraphState.CANCELING.value
        for node in self.nodes.values():
            if node.state == NodeState.PENDING:
                self._end(node, NodeState.CANCELED, "canceled")

    def rerun(self, names: Sequence[str]) -> None:
        """Take a graph that has ended up again: these nodes and all that follows from them, or what did not succeed."""
        chosen = self._following(names) if names else None
        self.graph.state, self.graph.reason, self.graph.ended_at = GraphState.RUNNING.value, "", None
        for node in self.nodes.values():
            again = node.state != NodeState.SUCCEEDED if chosen is None else node.name in chosen
            if not again:
                continue
            node.state, node.reason, node.message = NodeState.PENDING.value, "", ""
            node.output_digest, node.job, node.ended_at, node.due_at = None, None, None, None
            node.earlier = node.attempt
            self._touch(node)

    def _following(self, names: Sequence[str]) -> set[str]:
        chosen = set(names)
        grown = True
        while grown:
            more = {name for name, rules in self.rules.items() if chosen & set(rules.parents)} - chosen
            chosen |= more
            grown = bool(more)
        return chosen

    # When to look again

    def next_look(self) -> datetime | None:
        """When the graph is to be looked at though no job of it ends before; none where only such an end matters."""
        if self.graph.state in OVER:
            return None
        times: list[datetime] = []
        if self.graph.state == GraphState.RUNNING:
            due = [node.due_at for node in self.nodes.values() if node.state == NodeState.PENDING]
            times = [due_at for due_at in due if due_at is not None and due_at > self.at]
        is_starting = any(node.state == NodeState.STARTING for node in self.nodes.values())
        if is_starting or self.graph.state == GraphState.CANCELING:
            times.append(self.at + SUBMIT_AGAIN)
        return min(times, default=None)
