"""What happens to a graph, as a stream of events that a client follows and goes on with where its connection broke."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from msgspec import to_builtins

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import Unavailable
from aitbc.modules.ai.batched.graphs import Seen
from aitbc.modules.ai.models.graphs.life import OVER
from aitbc.modules.ai.models.graphs.views import graph_view, node_view
from aitbc.modules.ai.service.graphs.graphs import Graphs
from aitbc.modules.ai.service.graphs.watch import GraphWatch
from aitbc.modules.ai.service.job_events import HEARTBEAT_SECONDS, RETRY_SECONDS, InvalidEventId, JobEvent

LOOK_SECONDS = 1.0
"""How often a graph is looked at that may be driven in another process."""


class GraphEvents:
    """Follows graphs."""

    def __init__(self, graphs: Graphs, watch: GraphWatch, draining: asyncio.Event) -> None:
        self._graphs = graphs
        self._watch = watch
        self._draining = draining

    async def follow(self, who: Principal, graph: str, last_event_id: str | None) -> AsyncIterator[JobEvent]:
        """How a graph and its nodes are, from its beginning or after an event that was seen, until its end.

        Of changes between two looks only the last is told. Raises `GraphNotFound`, `InvalidEventId`.
        """
        seen = _version_of(last_event_id)
        await self._graphs.find(who, graph)
        return self._follow(who, graph, seen)

    async def _follow(self, who: Principal, graph: str, version: int) -> AsyncIterator[JobEvent]:
        loop = asyncio.get_running_loop()
        quiet_since = loop.time()
        while True:
            changed = self._watch.followers.watch(graph)
            pause = LOOK_SECONDS
            try:
                try:
                    found = await self._graphs.find(who, graph)
                    for event in _events_after(found, version):
                        quiet_since = loop.time()
                        yield event
                    version = max(version, found.graph.version)
                    if found.graph.state in OVER:
                        return
                except Unavailable:
                    pause = RETRY_SECONDS
                if self._draining.is_set():
                    return
                if loop.time() - quiet_since >= HEARTBEAT_SECONDS:
                    quiet_since = loop.time()
                    yield JobEvent(id=None, event="heartbeat", data={})
                await asyncio.wait([changed], timeout=pause)
            finally:
                self._watch.followers.unwatch(graph, changed)


def _events_after(found: Seen, version: int) -> Sequence[JobEvent]:
    """The nodes that changed since a version, and then the graph. Only its event has a place to go on from."""
    if found.graph.version <= version:
        return ()
    nodes = sorted((node for node in found.nodes if node.changed > version), key=lambda node: node.changed)
    told = [JobEvent(id=None, event="node", data=to_builtins(node_view(node), str_keys=True)) for node in nodes]
    graph = to_builtins(graph_view(found.graph), str_keys=True)
    return [*told, JobEvent(id=str(found.graph.version), event="state", data=graph)]


def _version_of(event_id: str | None) -> int:
    if not event_id:
        return 0
    if not (event_id.isascii() and event_id.isdigit() and len(event_id) < 16):
        raise InvalidEventId
    return int(event_id)
