"""Quorums and graphs: what a job that three miners answer, and a node of a graph, cost beside a plain paid job."""

import asyncio
import uuid
from collections.abc import Sequence

import msgspec

from tests.bench.crowd import Buyer, Rig
from tests.bench.figures import Measured
from tests.bench.ground import SLOTS, Ground
from tests.bench.lives import SENTENCE, Client, Miner
from tests.bench.machine import Cpu
from tests.bench.stage import Server
from tests.bench.wire import UnixConnection, head, with_body

KEYS = ("quorum_3_cpu", "graph_node_overhead")
JOBS = 120
NODES = 120
QUORUM = msgspec.json.encode(
    {"kind": "embed", "input": {"texts": [SENTENCE]}, "max_price": "0.15", "verification": "quorum:3"}
)
GRAPH = msgspec.json.encode(
    {
        "budget": "10",
        "nodes": [
            {"name": f"n{number}", "kind": "embed", "input": {"texts": [SENTENCE]}, "max_price": "0.05"}
            for number in range(NODES)
        ],
    }
)


def measure(ground: Ground) -> dict[str, Measured]:
    """`quorum_3_cpu` and `graph_node_overhead`: CPU of server and PostgreSQL, each ÷ that of a plain life."""
    rounds = asyncio.run(_rounds(ground))
    life = Measured.of([one[0] for one in rounds]).value or 0.0
    return {
        "quorum_3_cpu": Measured.of([quorum / plain for plain, quorum, _ in rounds], **{"CPU ms of a life": life}),
        "graph_node_overhead": Measured.of([node / plain for plain, _, node in rounds], **{"CPU ms of a life": life}),
    }


async def _rounds(ground: Ground) -> list[tuple[float, float, float]]:
    """The CPU milliseconds of a plain life, a quorum and a node, for each round; the first warms up."""
    server = ground.server
    clerk = server.clerk
    (buyer,) = await clerk.buyers(1)
    rigs = [(await clerk.rigs(1, SLOTS))[0] for _ in range(3)]  # each of an owner of its own
    found = []
    for number in range(ground.rounds + 1):
        name = f"chained-{uuid.uuid4().hex[:8]}-{number}"
        wire = await UnixConnection.open(server.port)
        plain = await _plain(server, wire, buyer, rigs[0], name)
        quorum = await _quorum(server, wire, buyer, rigs, name)
        node = await _graph(server, wire, buyer, rigs[0], name)
        wire.close()
        found.append((plain, quorum, node))
    return found[1:]


async def _plain(server: Server, wire: UnixConnection, buyer: Buyer, rig: Rig, name: str) -> float:
    client, used = Client(wire, buyer, rig, name), server.cpu()
    await client.beat()
    for _ in range(JOBS):
        await client.live()
    return await _cpu_ms(server, used, JOBS)


async def _quorum(server: Server, wire: UnixConnection, buyer: Buyer, rigs: Sequence[Rig], name: str) -> float:
    submit, miners, used = head("POST", "/api/v1/ai/jobs", buyer.key), [Miner(rig) for rig in rigs], server.cpu()
    for number in range(JOBS):
        once = b"idempotency-key: %b-q%d\r\n" % (name.encode(), number)
        status, body = await wire.ask(with_body(submit, QUORUM, once))
        assert status == 201, body
        for miner in miners:
            await _work(wire, miner)
    return await _cpu_ms(server, used, JOBS)


async def _graph(server: Server, wire: UnixConnection, buyer: Buyer, rig: Rig, name: str) -> float:
    miner, used = Miner(rig), server.cpu()
    once = b"idempotency-key: %b-g\r\n" % name.encode()
    status, body = await wire.ask(with_body(head("POST", "/api/v1/ai/graphs", buyer.key), GRAPH, once))
    assert status == 201, body
    for _ in range(NODES):
        await _work(wire, miner)
    return await _cpu_ms(server, used, NODES)


async def _work(wire: UnixConnection, miner: Miner) -> None:
    """Take a job and deliver it."""
    while not (leases := Miner.leases(await wire.ask(miner.poll(5)))):
        pass
    status, body = await wire.ask(miner.result(leases[0]))
    assert status == 200, body


async def _cpu_ms(server: Server, used: Cpu, count: int) -> float:
    """What was used since then for each, with all that is left to be done afterwards."""
    await asyncio.to_thread(server.wait_until_quiet)
    return (server.cpu() - used).total * 1000 / count
