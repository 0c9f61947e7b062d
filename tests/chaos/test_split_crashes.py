"""Every module in a process of its own, and all of them killed at random under load: the others go on, and the books are right."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.chaos.audit import faults
from tests.chaos.load import Acknowledged, Client, submit
from tests.chaos.server_process import ServerProcess, descendants_of, name_of
from tests.chaos.test_crashes import ENOUGH_SECONDS, PAUSE_SECONDS, QUICK, Fleet, free_port, funded, rented, settled
from tests.nats_server import NatsServer
from tests.scale import only_in_full, scaled

KILLS = int(os.environ.get("CHAOS_SPLIT_KILLS", scaled(2, 12)))
MODULES = ("gpu", "ai", "trading")
MAIN_SHARE = 0.05
"""How many of the kills meet the main process, which takes the others with it."""
SUBMITTERS = scaled(2, 4)
MINERS = scaled(3, 4)
NATS_SHARE = 0.25
"""How many of them meet the NATS server, where there is one; every other time it forgets all that it kept."""
LOOKS = {"gpu": "/api/v1/gpu/miners", "ai": "/api/v1/ai/jobs", "trading": "/api/v1/trading/blocks"}
"""One read of each module that needs nothing of the others."""
AFTER = 0.02
ANSWERED_SHARE = scaled(0.98, 0.999)
DIRECT = "published directly"
WAYS = (DIRECT, "published over NATS")
ONE_WAY = WAYS[1:] if NatsServer.is_installed() else WAYS[:1]


@pytest.fixture(params=scaled(ONE_WAY, WAYS))
def nats(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NatsServer | None]:
    """The NATS server between the processes, or none."""
    if request.param == DIRECT:
        yield None
        return
    made = NatsServer(tmp_path / "nats")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def server(tmp_path: Path, nats: NatsServer | None) -> Any:
    """An installation whose modules all run in processes of their own, started."""
    split = {f"AITBC_MODULES__{name.upper()}__PLACE": "split" for name in MODULES}
    ports = {f"AITBC_MODULES__{name.upper()}__PORT": str(free_port()) for name in MODULES}
    bus = {"AITBC_NATS_URL": nats.url} if nats is not None else {}
    made = ServerProcess(tmp_path / "state", free_port(), **QUICK, **split, **ports, **bus)
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Connections for the load."""
    timeout = aiohttp.ClientTimeout(total=8)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


class Watch:
    """Reads of every module, one after the other, and which of them were answered while all that they need was there."""

    def __init__(self, server: ServerProcess, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session
        self._headers = {"Authorization": f"Bearer {server.admin_key}"}
        self.down: set[str] = set()
        """What was killed and has not answered since; `main` stands for everything."""
        self.answers: Counter[str] = Counter()
        """Of modules that were there: by status."""
        self.refusals: Counter[str] = Counter()
        """Of modules that were not: by status, with or without a time to come again."""

    async def run(self) -> None:
        """Look for ever."""
        while True:
            for module in MODULES:
                await self._look(module)
            await asyncio.sleep(AFTER)

    async def _look(self, module: str) -> None:
        before = set(self.down)
        status, comes_again = await self.status(module)
        if status == 200 and module in before and "main" not in before:
            self.down.discard(module)
        if "main" in before | self.down:
            return
        if module in before | self.down:
            self.refusals[f"{status}{' with Retry-After' if comes_again else ''}"] += 1
        else:
            self.answers[str(status)] += 1

    async def until_all_answer(self) -> None:
        """Until one round over all modules succeeds."""
        while [(await self.status(module))[0] for module in MODULES] != [200] * len(MODULES):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def status(self, module: str) -> tuple[int, bool]:
        """One read: its status, 0 when the connection broke, and whether the answer says when to come again."""
        try:
            async with self._session.get(self._server.url + LOOKS[module], headers=self._headers) as answer:
                await answer.read()
                return answer.status, "Retry-After" in answer.headers
        except (aiohttp.ClientError, TimeoutError):
            return 0, False


def process_of(server: ServerProcess, module: str) -> int | None:
    """The process of a module; none while it is being started again."""
    return next((pid for pid in descendants_of(server.pid) if name_of(pid) == f"aitbc {module}"), None)


def victims(nats: NatsServer | None) -> "list[str | NatsServer]":
    """Whom to kill: each module, and NATS where there is one; the others by chance."""
    chosen: list[str | NatsServer] = [*MODULES, *([nats] if nats is not None else [])]
    while len(chosen) < KILLS:
        if nats is not None and random.random() < NATS_SHARE:
            chosen.append(nats)
        else:
            chosen.append("main" if random.random() < MAIN_SHARE else random.choice(MODULES))
    random.shuffle(chosen)
    return chosen


async def kill(server: ServerProcess, watch: Watch, victim: str) -> bool:
    """SIGKILL one process, the main one with a restart; false when there was nothing to kill."""
    if victim == "main":
        watch.down.add("main")
        server.kill()
        await asyncio.to_thread(server.start)
        await watch.until_all_answer()
        watch.down.clear()
        return True
    pid = process_of(server, victim)
    if pid is None or victim in watch.down:
        return False
    watch.down.add(victim)
    os.kill(pid, signal.SIGKILL)
    return True


async def kill_nats(nats: NatsServer) -> None:
    """SIGKILL the NATS server, leave everybody without it for a while, and start it again with what it kept, or nothing."""
    nats.kill()
    if random.random() < 0.5:
        nats.forget()
    await asyncio.sleep(random.uniform(0.0, 1.0))
    await asyncio.to_thread(nats.start)


@only_in_full
@pytest.mark.timeout(600)
async def test_processes_of_modules_die_alone_and_lose_nothing(
    server: ServerProcess, nats: NatsServer | None, session: aiohttp.ClientSession
) -> None:
    told = Acknowledged()
    admin = Client(server.url, server.admin_key, session, told)
    _, payer_key = await funded(admin, "payer", "1000")
    _, owner_key = await funded(admin, "owner", "1")
    payer = Client(server.url, payer_key, session, told)
    fleet = Fleet(Client(server.url, owner_key, session, told), server, session, told)
    for _ in range(MINERS):
        await fleet.add()
    watch = Watch(server, session)
    over = asyncio.Event()
    renting = await rented(server, admin, session, told, over)
    load = [asyncio.create_task(submit(payer, told, 1_000_000, pause=PAUSE_SECONDS)) for _ in range(SUBMITTERS)]
    looking = asyncio.create_task(watch.run())
    left = victims(nats)
    while left:
        await asyncio.sleep(random.uniform(0.05, 0.6))
        if isinstance(left[-1], NatsServer):
            await kill_nats(left[-1])
            left.pop()
        elif await kill(server, watch, left[-1]):
            left.pop()
    await watch.until_all_answer()
    async with asyncio.timeout(ENOUGH_SECONDS):  # the load goes on until it has done something of each kind
        while len(told.delivered) <= KILLS // 4 or len(told.bookings) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert not [task for task in (*load, looking) if task.done()], "somebody gave up"
    for task in (*load, looking):
        task.cancel()
    await asyncio.gather(*load, looking, return_exceptions=True)
    over.set()
    await asyncio.gather(*renting)
    await settled(server)
    found = [fault for fault in await faults(server.database, told) if not fault.endswith("nobody was told of")]
    for task in fleet.tasks:
        task.cancel()
    await asyncio.gather(*fleet.tasks, return_exceptions=True)
    status, report = await admin.once("/api/v1/trading/ledger/verify", None)
    assert (found, told.unexpected) == ([], [])
    assert status == 200, report
    assert report["ok"], report
    assert watch.answers["200"] >= ANSWERED_SHARE * watch.answers.total(), watch.answers
    assert set(watch.refusals) <= {"503 with Retry-After", "200", "0"}, watch.refusals
    print(f"{KILLS} kills, {len(told.delivered)} jobs paid, {watch.answers} {watch.refusals}")
