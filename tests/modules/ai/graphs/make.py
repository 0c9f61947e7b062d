"""Builders for the tests of graphs: nodes, graphs that run, and miners that do what they are asked."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.modules.ai.api import Lease
from aitbc.modules.ai.models.graphs.shapes import GraphDetail, GraphNodeState, RerunGraph, RunGraph
from tests.modules.ai.make import Market, Worker, a_key, embedding

UNSOUND = """
    SELECT g.id FROM ai.graphs g LEFT JOIN ai.graph_nodes n ON n.graph = g.id GROUP BY g.id
    HAVING g.reserved_units <> coalesce(sum(n.reserved_units), 0) OR g.spent_units <> coalesce(sum(n.spent_units), 0)"""
"""Graphs whose money is not what their nodes' is together."""


def node(name: str, text: str = "a text", **fields: Any) -> dict[str, Any]:
    """A node that embeds a text."""
    asked = {"kind": "embed", "input": {"texts": [text]}, "max_price": "0.05", "retry": {"attempts_max": 1}}
    return {"name": name} | asked | fields


def a_graph(*nodes: dict[str, Any], budget: str = "1", **fields: Any) -> RunGraph:
    """A graph to be run."""
    return msgspec.convert({"nodes": nodes, "budget": budget} | fields, RunGraph)


async def begin(market: Market, who: Principal, *nodes: dict[str, Any], **fields: Any) -> str:
    """A graph that runs; answers its id."""
    graph = await market.ai.graphs.run(who, a_graph(*nodes, **fields), a_key(who))
    await market.ai.drive_graphs()
    return graph.id


async def look(market: Market, who: Principal, graph: str) -> GraphDetail:
    """A graph as it is."""
    return await market.ai.graphs.get(who, graph)


async def states(market: Market, who: Principal, graph: str) -> dict[str, str]:
    """The states of its nodes, items as `name.index`."""
    nodes = (await look(market, who, graph)).nodes
    return {one.name if one.index is None else f"{one.name}.{one.index}": one.state for one in nodes}


async def the_node(market: Market, who: Principal, graph: str, name: str, index: int | None = None) -> GraphNodeState:
    """One node of it."""
    nodes = (await look(market, who, graph)).nodes
    return next(one for one in nodes if (one.name, one.index) == (name, index))


async def rerun(market: Market, who: Principal, graph: str, *nodes: str, budget: str | None = None) -> GraphDetail:
    """Run it again."""
    found = await market.ai.graphs.rerun(who, graph, RerunGraph(nodes=nodes, budget=budget), a_key(who))
    await market.ai.drive_graphs()
    return found


def echo(lease: Lease) -> Any:
    """An embedding that depends on nothing but how many texts there are."""
    return embedding(len(lease.input["texts"]))


async def work(market: Market, worker: Worker, does: Callable[[Lease], Any] = echo, rounds: int = 50) -> list[Lease]:
    """Do all that waits, and what follows from it; what `does` answers none for fails. Answers what was asked."""
    done: list[Lease] = []
    for _ in range(rounds):
        await market.ai.drive_graphs()
        leases = await worker.claim(64)
        if not leases:
            return done
        for lease in leases:
            output = does(lease)
            if output is None:
                await worker.fail(lease, "requester")
            else:
                await worker.deliver(lease, output)
        done += leases
    raise AssertionError("there is no end to it")


async def require_sound(market: Market) -> None:
    """What holds of every graph, at any time: its money is its nodes', and what the jobs cost."""
    assert await market.sql(UNSOUND) == []
    await market.require_sound()


async def jobs_of(market: Market) -> Sequence[str]:
    """Every job that there is."""
    return [ids.encode("job", row["id"]) for row in await market.sql("SELECT id FROM ai.jobs ORDER BY id")]
