"""An edge: it serves on while it is cut off, signs what it did, and the server has each receipt once."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aitbc.kernel.crypto.signing import verify
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc_cli.miner.client import MinerClient
from aitbc_cli.miner.edge.edge import Edge
from aitbc_cli.miner.edge.journal import Journal
from aitbc_cli.miner.edge.work import Steps
from aitbc_cli.miner.event_log import EventLog
from aitbc_cli.miner.executors.pool import ExecutorPool
from aitbc_cli.miner.options import EdgeOptions
from tests.app import Caller
from tests.listening import listening
from tests.modules.gpu.make import Rig
from tests.modules.hermes.edge_make import DEPLOYMENTS, EDGES, MODEL, deployed, seen
from tests.modules.hermes.make import Town, town_on

WORK = {"kinds": ["embed"], "models": {"embed": ["wordllama-256"]}}


class Link:
    """The line between edges and the server: a proxy of bytes that can be cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.is_cut = False
        self._open: set[asyncio.StreamWriter] = set()
        self.connections = 0
        self.url = ""

    async def start(self) -> asyncio.Server:
        """Begin to carry."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.is_cut:
            writer.close()
            return
        there = await asyncio.open_connection("127.0.0.1", self._port)
        self._open |= {writer, there[1]}
        await asyncio.gather(_pipe(reader, there[1]), _pipe(there[0], writer))

    def cut(self) -> None:
        """Carry nothing any more."""
        self.is_cut = True
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while piece := await source.read(65536):
            sink.write(piece)
            await sink.drain()
    except (ConnectionError, OSError):
        pass
    finally:
        sink.close()


class Place:
    """A server behind a link, and edges of one owner that a test syncs itself."""

    def __init__(self, town: Town, link: Link, pool: ExecutorPool, folder: Path) -> None:
        self.town = town
        self.link = link
        self.pool = pool
        self.folder = folder

    async def rig(self, owner: Caller, location: str) -> Rig:
        """A miner that is an edge."""
        rig = await self.town.fleet.rig(owner)
        assert (await owner.post(EDGES, {"miner": rig.id, "location": location})).status_code == 201
        return rig

    @asynccontextmanager
    async def edge(self, rig: Rig, work: Any = WORK) -> AsyncIterator[tuple[Edge, MinerClient]]:
        """The process of an edge, as far as it matters: what it keeps is in a folder of its own."""
        folder = self.folder / rig.id
        (folder / "work").mkdir(parents=True, exist_ok=True)
        edge = Edge(
            EdgeOptions(port=0),
            miner=rig.id,
            key=rig.key,
            folder=folder,
            steps=Steps(self.pool, folder / "work"),
            can=lambda: work,
            event_log=EventLog(json_events=True),
        )
        await edge.door.open("127.0.0.1", 0, EventLog(json_events=True))
        client = MinerClient(self.link.url, rig.secret)
        try:
            yield edge, client
        finally:
            await edge.close()
            await client.close()

    async def until_live(self, owner: Caller, deployment: str, edge: Edge, client: MinerClient) -> None:
        """Have it report until what it serves is live."""
        for _ in range(600):
            await edge.sync(client)
            await self.town.service.roll_out()
            if (await seen(owner, deployment))["state"] == "live":
                return
            await asyncio.sleep(0.05)
        raise AssertionError(await seen(owner, deployment))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for the file."""
    return "asyncio"


@pytest.fixture(scope="module")
async def place(target: Target, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """A server on a socket, a line to it, and workers."""
    folder = tmp_path_factory.mktemp("edges")
    async with town_on(target, tmp_path_factory.mktemp("app")) as town, listening(town.stage.asgi) as port:
        link = Link(port)
        pool = ExecutorPool(slots=2, kinds={"embed": {}}, scratch=folder)
        async with await link.start():
            yield Place(town, link, pool, folder)
        await pool.stop()
    clock.reset()


async def asked(edge: Edge, deployment: str, token: str, body: Any) -> tuple[int, dict[str, Any]]:
    """What somebody near gets."""
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
        session.post(f"{edge.door.url}/deployments/{deployment}/run", json=body) as answer,
    ):
        return answer.status, await answer.json()


async def test_an_edge_serves_on_for_ten_minutes_without_the_server_and_syncs_once(place: Place) -> None:
    owner = await place.town.owner()
    rig = await place.rig(owner, "eu-central")
    deployment = (await deployed(owner, "eu-central", plan={"gate_seconds": 0}))["id"]
    token = (await owner.get(f"{DEPLOYMENTS}/{deployment}/token")).json()["token"]
    async with place.edge(rig) as (edge, client):
        await place.until_live(owner, deployment, edge, client)
        status, answer = await asked(edge, deployment, token, {"text": "near"})
        assert (status, len(answer["output"]["vectors"][0])) == (200, 256)
        assert (await asked(edge, deployment, "wrong", {"text": "x"}))[0] == 401
        assert (await asked(edge, deployment, token, {"txt": "x"}))[0] == 422
        assert (await asked(edge, deployment, token, {"text": ["x"]}))[0] == 422
        await edge.sync(client)
        place.link.cut()
        before = place.link.connections
        for minute in range(10):
            clock.move(timedelta(minutes=1))
            await edge.sync(client)
            status, answer = await asked(edge, deployment, token, {"text": f"alone {minute}"})
            assert status == 200
        assert not edge.is_connected and edge.health()["receipts_waiting"] == 10
        assert place.link.connections - before <= 11, "one try a report, and no storm"
        assert (await owner.get(f"{EDGES}/{rig.id}")).json()["presence"] == "failed"
    async with place.edge(rig) as (edge, client):  # started again, still alone
        await edge.sync(client)
        status, answer = await asked(edge, deployment, token, {"text": "after a restart"})
        assert status == 200 and edge.health()["receipts_waiting"] == 11
        place.link.is_cut = False
        await _bring_and_lose_the_answer(edge, client)
        assert edge.health()["receipts_waiting"] == 11
        await edge.sync(client)
        assert (edge.is_connected, edge.health()["receipts_waiting"]) == (True, 0)
        found = await seen(owner, deployment)
        assert (found["served"], found["broken"], found["served_cut_off"]) == (12, 0, 11)
        assert (found["state"], found["locations"][0]["status"]) == ("live", "ready"), "nothing was rolled out again"
    receipts = (await owner.get(f"{DEPLOYMENTS}/{deployment}/receipts")).json()["data"]
    assert [one["sequence"] for one in receipts] == list(range(1, 13))
    for one in receipts:
        assert verify(rig.key.public, one["statement"].encode(), one["signature"])
    assert receipts[-1]["statement"] == answer["receipt"]["statement"], "the caller has the same"


async def _bring_and_lose_the_answer(edge: Edge, client: MinerClient) -> None:
    """The receipts come to the server, and the edge does not learn it."""
    body = {"receipts": [{"statement": one.statement, "signature": one.signature} for one in edge.journal.oldest(100)]}
    await client.call("POST", "/hermes/edge/receipts", body, expects={"kept": int})


async def test_a_version_that_cannot_be_served_is_rolled_back_while_the_old_one_is(place: Place) -> None:
    owner = await place.town.owner()
    rig = await place.rig(owner, "us-west")
    deployment = (await deployed(owner, "us-west", plan={"gate_seconds": 0}))["id"]
    path = f"{DEPLOYMENTS}/{deployment}"
    token = (await owner.get(f"{path}/token")).json()["token"]
    async with place.edge(rig) as (edge, client):
        await place.until_live(owner, deployment, edge, client)
        bad = {"model": {"kind": "embed", "name": "wordllama-256", "input": {"texts": [], "dimensions": 7}}}
        for content in ({"model": {"kind": "embed", "name": "unheard-of"}}, bad):
            assert (await owner.post(f"{path}/versions", content)).status_code == 201
            for _ in range(600):
                await edge.sync(client)
                await place.town.service.roll_out()
                if (await seen(owner, deployment))["state"] == "rolled_back":
                    break
                status, answer = await asked(edge, deployment, token, {"text": "meanwhile"})
                assert (status, answer["version"]) == (200, 1)
            found = await seen(owner, deployment)
            assert (found["state"], found["target"]) == ("rolled_back", 1) and found["problem"]
        taking_data = {"model": {**MODEL["model"], "input": {"texts": "{{data.t}}"}}}
        assert (await owner.post(f"{path}/versions", taking_data)).status_code == 201
        await place.until_live(owner, deployment, edge, client)
        status, answer = await asked(edge, deployment, token, {"data": {"t": ["a", "b"]}})
        assert (status, len(answer["output"]["vectors"]), answer["version"]) == (200, 2, 4)
        status, answer = await asked(edge, deployment, token, {"data": {"t": 7}})
        assert status == 422 and json.loads(answer["receipt"]["statement"])["problem"] == answer["code"]
        assert (await owner.post(f"{path}/end")).status_code == 200
        await edge.sync(client)
        assert (await asked(edge, deployment, token, {"text": "x"}))[0] == 401
        assert (await seen(owner, deployment))["broken"] == 1


async def test_an_edge_that_is_cut_off_alone_is_known_by_its_neighbour(place: Place) -> None:
    owner = await place.town.owner()
    first, second = [await place.rig(owner, "asia") for _ in range(2)]
    async with place.edge(first) as (alone, client), place.edge(second) as (near, other):
        for _ in range(2):
            await alone.sync(client)
            await near.sync(other)
        clock.move(timedelta(seconds=60))
        await client.close()
        broken = MinerClient("http://127.0.0.1:9", first.secret)
        await alone.sync(broken)
        await broken.close()
        await near.sync(other)
        assert (await owner.get(f"{EDGES}/{first.id}")).json()["presence"] == "cut_off"
        assert (await owner.get(f"{EDGES}/{second.id}")).json()["presence"] == "healthy"
        assert not near.hear({"edge": "mnr_x", "at": 1, "signature": "x" * 86})


def test_a_book_never_uses_a_number_twice(tmp_path: Path) -> None:
    book = Journal(tmp_path / "edge.db")
    kept = [book.add(lambda number: (f"s{number}", "x")) for _ in range(3)]
    with pytest.raises(ZeroDivisionError):
        book.add(lambda _: (str(1 // 0), "x"))
    book.forget(kept)
    name = book.id
    book.close()
    book = Journal(tmp_path / "edge.db")
    assert (book.id, book.waiting) == (name, 0)
    assert book.add(lambda number: (f"s{number}", "x")).sequence == 4
    book.close()
    assert (tmp_path / "edge.db").stat().st_mode & 0o077 == 0
    other = Journal(tmp_path / "other.db")
    assert other.id != name
    other.close()
