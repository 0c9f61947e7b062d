"""What can be asked of graphs, what it refuses, and how their texts are read."""

from collections.abc import Mapping
from functools import lru_cache

import msgspec

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import Conflict, NotFound, TooMany
from aitbc.modules.ai.models.graphs.check import rules_of
from aitbc.modules.ai.models.graphs.life import GraphValue, Rules
from aitbc.modules.ai.models.graphs.shapes import GraphNode, RunGraph


class GraphNotFound(NotFound):
    """There is no such graph."""

    code = "graph_not_found"


class GraphStateConflict(Conflict):
    """The graph is not in a state that allows this."""

    code = "graph_state_conflict"


class GraphNotKept(Conflict):
    """What this graph was written with is past its retention; run it as a new one."""

    code = "graph_not_kept"


class TooManyGraphs(TooMany):
    """This account has as many graphs under way as it may have; some must end first."""

    code = "too_many_graphs"


class Written(msgspec.Struct, frozen=True):
    """A graph as it was written, with the rules of its nodes."""

    spec: RunGraph
    nodes: Mapping[str, GraphNode]
    rules: Mapping[str, Rules]


@lru_cache(64)
def written(text: str) -> Written:
    """A graph as its row keeps it."""
    spec = msgspec.json.decode(text, type=RunGraph)
    return Written(spec, {node.name: node for node in spec.nodes}, rules_of(spec))


def payer_of(graph: GraphValue) -> Principal:
    """In whose name the jobs of a graph are submitted."""
    return Principal(graph.account, graph.key, "live", frozenset())
