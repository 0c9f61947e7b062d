"""What others see of graphs."""

from collections.abc import Sequence
from typing import Any

from aitbc.kernel.primitives import money
from aitbc.modules.ai.models.graphs.life import WHOLE, GraphValue, Node
from aitbc.modules.ai.models.graphs.shapes import Graph, GraphDetail, GraphNodeState


def graph_view(graph: GraphValue) -> Graph:
    """A graph without its nodes."""
    return Graph(**_fields(graph))


def detail_view(graph: GraphValue, nodes: Sequence[Node], order: Sequence[str]) -> GraphDetail:
    """A graph with its nodes, in the order of these names, then of their items."""
    places = {name: number for number, name in enumerate(order)}
    in_order = sorted(nodes, key=lambda node: (places.get(node.name, len(places)), node.name, node.index))
    return GraphDetail(**_fields(graph), nodes=tuple(map(node_view, in_order)))


def node_view(node: Node) -> GraphNodeState:
    """A node, or an item of one."""
    return GraphNodeState(
        name=node.name,
        index=None if node.index == WHOLE else node.index,
        state=node.state,
        reason=node.reason,
        message=node.message,
        job=node.job,
        attempt=node.attempt,
        reserved=money.render(node.reserved_units),
        spent=money.render(node.spent_units),
        output_digest=node.output_digest,
        started_at=node.started_at,
        ended_at=node.ended_at,
    )


def _fields(graph: GraphValue) -> dict[str, Any]:
    return {
        "id": graph.id,
        "name": graph.name,
        "state": graph.state,
        "reason": graph.reason,
        "schedule": graph.schedule,
        "budget": money.render(graph.budget_units),
        "reserved": money.render(graph.reserved_units),
        "spent": money.render(graph.spent_units),
        "version": graph.version,
        "created_at": graph.created_at,
        "ended_at": graph.ended_at,
    }
