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

from tests.chaos.audit import faults, open_work
from tests.chaos.load import Acknowledged, Client, enrol, mine, submit
from tests.chaos.server_process import ServerProcess
from tests.scale import scaled

SERVER_KILLS = int(os.environ.get("CHAOS_SERVER_KILLS", scaled(3, 20)))
DATABASE_KILLS = int(os.environ.get("CHAOS_DATABASE_KILLS", scaled(1, 5)))
MINER_KILLS = int(os.environ.get("CHAOS_MINER_KILLS", scaled(2, 10)))
DONE_MIN = scaled(10, 100)
"""So many jobs are submitted, and so many delivered, at least: else nothing was under way when something died."""
SUBMITTERS = 8
MINERS = 6
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

    async def add(self) -> None:
        """One more miner."""
        stranger = Client(self._server.url, "", self._session, self._told)
        key, miner, secret = await enrol(self._owner, stranger, f"miner {len(self.tasks)}", 4)
        client = Client(self._server.url, secret, self._session, self._told)
        self.tasks.append(asyncio.create_task(mine(client, key, miner, self._told, pause=0.05)))

    async def kill_one(self) -> None:
        """End a miner in the middle of whatever it does, without a word; another takes its place."""
        self.tasks.pop(random.randrange(len(self.tasks))).cancel()
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
    load = [asyncio.create_task(submit(payer, told, 1_000_000)) for _ in range(SUBMITTERS)]
    kills = ["server"] * SERVER_KILLS + ["database"] * DATABASE_KILLS + ["miner"] * MINER_KILLS
    random.shuffle(kills)
    for victim in kills:
        await asyncio.sleep(random.uniform(0.1, 0.8))
        if victim == "server":
            server.kill()
            await asyncio.to_thread(server.start)
        elif victim == "database":
            server.kill_database()
        else:
            await fleet.kill_one()
    await asyncio.sleep(1)
    assert not [task for task in load if task.done()], "a submitter gave up"
    for task in load:
        task.cancel()
    await asyncio.gather(*load, return_exceptions=True)
    await settled(server)
    found = [fault for fault in await faults(server.database, told) if not fault.endswith("nobody was told of")]
    for task in fleet.tasks:
        task.cancel()
    await asyncio.gather(*fleet.tasks, return_exceptions=True)
    status, report = await admin.once("/api/v1/trading/ledger/verify", None)
    assert (found, told.unexpected) == ([], [])
    assert status == 200, report
    assert report["ok"], report
    assert len(told.jobs) > DONE_MIN
    assert len(told.delivered) > DONE_MIN


async def settled(server: ServerProcess) -> None:
    """Until every job has ended and every event is delivered."""
    end = asyncio.get_running_loop().time() + SETTLE_SECONDS
    while left := await open_work(server.database):
        assert asyncio.get_running_loop().time() < end, f"{left} things are still open"
        await asyncio.sleep(0.25)
