"""A server that runs graphs is killed at random, again and again: each node is done once and paid once."""

import asyncio
import os
import random
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.chaos.audit import connected, faults
from tests.chaos.load import Acknowledged, Client
from tests.chaos.server_process import ServerProcess
from tests.chaos.test_crashes import QUICK, Fleet, free_port, funded, settled
from tests.scale import only_in_full, scaled

KILLS = int(os.environ.get("CHAOS_GRAPH_KILLS", scaled(4, 100)))
AT_ONCE = 3
ITEMS = 6
JOBS_OF_A_GRAPH = ITEMS + 2
OVER = ("succeeded", "failed", "canceled")
END_SECONDS = 120.0
JOB = {
    "kind": "embed",
    "max_price": "0.01",
    "retry": {"attempts_max": 10},
    "clocks": {"queue_seconds": 3600, "start_seconds": 8},
}
GRAPH: dict[str, Any] = {
    "budget": "1",
    "nodes": [
        {"name": "first", "input": {"texts": ["one"]}, **JOB},
        {"name": "each", "for_each": list(range(ITEMS)), "input": {"texts": ["{{first.digest}} {{item}}"]}, **JOB},
        {"name": "last", "input": {"texts": "{{each.digest}}"}, **JOB},
    ],
}


@pytest.fixture
def server(tmp_path: Path) -> Any:
    """An installation of its own, started."""
    made = ServerProcess(tmp_path / "state", free_port(), **QUICK)
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Connections for the load."""
    timeout = aiohttp.ClientTimeout(total=8)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


async def run_graphs(payer: Client, begun: list[str], over: asyncio.Event) -> None:
    """Run one graph after the other, each to its end."""
    while not over.is_set():
        status, graph = await payer.until_known("/api/v1/ai/graphs", GRAPH, uuid.uuid4().hex)
        assert status == 201, graph
        begun.append(graph["id"])
        await ended(payer, graph["id"])


async def ended(payer: Client, graph: str) -> dict[str, Any]:
    """A graph once it has ended."""
    async with asyncio.timeout(END_SECONDS + KILLS * 4):
        while True:
            status, told = await payer.get(f"/api/v1/ai/graphs/{graph}")
            assert status == 200, told
            if told["state"] in OVER:
                return dict(told)
            await asyncio.sleep(0.1)


@only_in_full
@pytest.mark.timeout(900)
async def test_each_node_is_done_once_however_often_the_server_is_killed(
    server: ServerProcess, session: aiohttp.ClientSession
) -> None:
    told = Acknowledged()
    admin = Client(server.url, server.admin_key, session, told)
    _, payer_key = await funded(admin, "payer", "1000")
    _, owner_key = await funded(admin, "owner", "1")
    payer = Client(server.url, payer_key, session, told)
    fleet = Fleet(Client(server.url, owner_key, session, told), server, session, told)
    for _ in range(3):
        await fleet.add()
    over, begun = asyncio.Event(), list[str]()
    running = [asyncio.create_task(run_graphs(payer, begun, over)) for _ in range(AT_ONCE)]
    for _ in range(KILLS):
        await asyncio.sleep(random.uniform(0.05, 0.9))
        server.kill()
        await asyncio.to_thread(server.start)
    over.set()
    await asyncio.gather(*running)
    await settled(server)
    graphs = [await ended(payer, graph) for graph in begun]
    assert {graph["state"] for graph in graphs} == {"succeeded"}, graphs
    assert {node["attempt"] for graph in graphs for node in graph["nodes"] if node["job"]} == {1}
    jobs = {node["job"] for graph in graphs for node in graph["nodes"] if node["job"]}
    assert len(jobs) == len(graphs) * JOBS_OF_A_GRAPH
    connection = await connected(server.database)
    assert await connection.fetchval("SELECT count(*) FROM ai.jobs") == len(jobs), "no job belongs to no node"
    await connection.close()
    for task in fleet.tasks:
        task.cancel()
    await asyncio.gather(*fleet.tasks, return_exceptions=True)
    found = [fault for fault in await faults(server.database, told) if not fault.endswith("nobody was told of")]
    assert (found, told.unexpected) == ([], [])
    status, report = await admin.once("/api/v1/trading/ledger/verify", None)
    assert (status, report["ok"]) == (200, True), report
