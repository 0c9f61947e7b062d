"""Server, database and miners are killed at random under load: nothing acknowledged is lost, and nobody pays twice."""

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.chaos.audit import connected, faults, open_work
from tests.chaos.beside import Renter, follow, upload, uploads_lost
from tests.chaos.load import Acknowledged, Client, enrol, mine, submit
from tests.chaos.server_process import ServerProcess
from tests.scale import scaled

SERVER_KILLS = int(os.environ.get("CHAOS_SERVER_KILLS", scaled(2, 20)))
DATABASE_KILLS = int(os.environ.get("CHAOS_DATABASE_KILLS", scaled(1, 5)))
MINER_KILLS = int(os.environ.get("CHAOS_MINER_KILLS", scaled(1, 10)))
KEYS_REVOKED = int(os.environ.get("CHAOS_KEYS_REVOKED", scaled(1, 6)))
DONE_MIN = scaled(10, 100)
"""So many jobs are submitted, and so many delivered, at least: else nothing was under way when something died."""
SUBMITTERS = scaled(2, 8)
MINERS = scaled(3, 6)
PAUSE_SECONDS = scaled(0.3, 0.0)
"""After each job that was submitted: without it the load takes all there is of the machine."""
BESIDE_MIN = scaled(2, 10)
"""So many bookings, uploads and followed jobs, at least."""
ENOUGH_SECONDS = 120
"""How long a slow machine may take for that."""
RENTERS = 2
SETTLE_SECONDS = 90.0
QUICK = {"AITBC_AI__GRACE_SECONDS": "3"}


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


async def funded(admin: Client, name: str, amount: str) -> tuple[str, str]:
    """An account with money: its id and a key."""
    _, account = await admin.until_known("/api/v1/identity/accounts", {"name": name}, f"account-{name}")
    body = {"account": account["id"], "amount": amount, "reason": "chaos"}
    status, told = await admin.until_known("/api/v1/trading/deposits", body, f"deposit-{name}")
    assert status == 201, told
    _, key = await admin.until_known("/api/v1/identity/keys", {"name": name, "account": account["id"]})
    return str(account["id"]), str(key["secret"])


class Fleet:
    """Miners that are killed and replaced."""

    def __init__(
        self, owner: Client, server: ServerProcess, session: aiohttp.ClientSession, told: Acknowledged
    ) -> None:
        self._owner = owner
        self._server = server
        self._session = session
        self._told = told
        self.tasks: list[asyncio.Task[None]] = []
        self._clients: list[Client] = []

    async def add(self) -> None:
        """One more miner."""
        stranger = Client(self._server.url, "", self._session, self._told)
        key, miner, secret = await enrol(self._owner, stranger, f"miner {len(self.tasks)}", 4)
        client = Client(self._server.url, secret, self._session, self._told)
        self.tasks.append(asyncio.create_task(mine(client, key, miner, self._told, pause=0.05)))
        self._clients.append(client)

    async def kill_one(self) -> None:
        """End a miner in the middle of whatever it does, without a word; another takes its place."""
        number = random.randrange(len(self.tasks))
        self.tasks.pop(number).cancel()
        self._clients.pop(number)
        await self.add()

    async def revoke_one(self) -> None:
        """Revoke the key of a miner, which goes on asking with it; another joins."""
        number = random.randrange(len(self.tasks))
        client = self._clients[number]
        status, key = await client.get("/api/v1/identity/keys/self")
        if status == 200:  # else it was revoked before
            client.ends = True
            status, told = await self._owner.until_known(f"/api/v1/identity/keys/{key['key']}/revoke", {})
            assert status == 200, told
            client.ended_at = asyncio.get_running_loop().time()
            self._told.revoked += 1
            await self.add()


@pytest.mark.timeout(420)
async def test_nothing_is_lost_or_paid_twice_whatever_is_killed(
    server: ServerProcess, session: aiohttp.ClientSession
) -> None:
    told = Acknowledged()
    admin = Client(server.url, server.admin_key, session, told)
    _, payer_key = await funded(admin, "payer", "1000")
    _, owner_key = await funded(admin, "owner", "1")
    payer = Client(server.url, payer_key, session, told)
    fleet = Fleet(Client(server.url, owner_key, session, told), server, session, told)
    for _ in range(MINERS):
        await fleet.add()
    over = asyncio.Event()
    renting = await rented(server, admin, session, told, over)
    load = [asyncio.create_task(submit(payer, told, 1_000_000, pause=PAUSE_SECONDS)) for _ in range(SUBMITTERS)]
    load += [asyncio.create_task(beside(payer, told)) for beside in (upload, upload, follow, follow)]
    kills = ["server"] * SERVER_KILLS + ["database"] * DATABASE_KILLS + ["miner"] * MINER_KILLS
    kills += ["key"] * KEYS_REVOKED
    random.shuffle(kills)
    for victim in kills:
        await asyncio.sleep(random.uniform(0.1, 0.8))
        if victim == "server":
            server.kill()
            await asyncio.to_thread(server.start)
        elif victim == "database":
            server.kill_database()
        elif victim == "key":
            await fleet.revoke_one()
        else:
            await fleet.kill_one()
    async with asyncio.timeout(ENOUGH_SECONDS):  # the load goes on until it has done something of each kind
        while not enough(told):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert not [task for task in load if task.done()], "a submitter gave up"
    for task in load:
        task.cancel()
    await asyncio.gather(*load, return_exceptions=True)
    over.set()
    await asyncio.gather(*renting)
    await settled(server)
    server.kill()
    await asyncio.to_thread(server.start)  # its first round frees what uploads left
    await no_uploads(server)
    found = [fault for fault in await faults(server.database, told) if not fault.endswith("nobody was told of")]
    for task in fleet.tasks:
        task.cancel()
    await asyncio.gather(*fleet.tasks, return_exceptions=True)
    status, report = await admin.once("/api/v1/trading/ledger/verify", None)
    assert (found, told.unexpected) == ([], [])
    assert status == 200, report
    assert report["ok"], report
    assert enough(told) and told.revoked > 0, told
    assert await uploads_lost(payer, told) == []
    assert not list((server.state / "artifacts").glob("incoming-*"))


def enough(told: Acknowledged) -> bool:
    """Whether what happened is worth to be examined."""
    beside = min(len(told.bookings), len(told.uploads), told.followed)
    return min(len(told.jobs), len(told.delivered)) > DONE_MIN and beside >= BESIDE_MIN


async def no_uploads(server: ServerProcess) -> None:
    """Until nothing is left of uploads that are over; what never goes is found by the audit."""
    end = asyncio.get_running_loop().time() + 60
    connection = await connected(server.database)
    while await connection.fetchval("SELECT count(*) FROM ai.artifacts WHERE digest = 'uploading'"):
        if asyncio.get_running_loop().time() > end:
            break
        await asyncio.sleep(0.1)
    await connection.close()


async def rented(
    server: ServerProcess, admin: Client, session: aiohttp.ClientSession, told: Acknowledged, over: asyncio.Event
) -> list[asyncio.Task[None]]:
    """Renters at work, each with a GPU of its own."""
    _, key = await funded(admin, "renter", "1000")
    _, owner_key = await funded(admin, "landlord", "1")
    tasks = []
    for number in range(RENTERS):
        buyer, owner, rig, stranger = (Client(server.url, secret, session, told) for secret in (key, owner_key, "", ""))
        renter = Renter(buyer, owner, rig, told)
        await renter.open(f"rig {number}", stranger)
        tasks.append(asyncio.create_task(renter.run(over)))
    return tasks


async def settled(server: ServerProcess) -> None:
    """Until every job has ended and every event is delivered."""
    end = asyncio.get_running_loop().time() + SETTLE_SECONDS
    while left := await open_work(server.database):
        assert asyncio.get_running_loop().time() < end, f"{left} things are still open"
        await asyncio.sleep(0.25)
