"""A server whose agents work is killed again and again: each step is done once, and everybody is paid once."""

import asyncio
import os
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mcp.server.mcpserver import MCPServer

from tests.chaos.audit import connected, faults
from tests.chaos.load import Acknowledged, Client
from tests.chaos.server_process import ServerProcess
from tests.chaos.test_crashes import QUICK, Fleet, free_port, funded, settled
from tests.listening import listening
from tests.modules.hermes.make import AGENTS, RUNS, a_job, approval, handing_on, skill
from tests.modules.hermes.remote import RemoteAgent, a_remote_agent
from tests.scale import only_in_full, scaled

KILLS = int(os.environ.get("CHAOS_RUN_KILLS", scaled(4, 100)))
AT_ONCE = 4
END_SECONDS = 240.0
LOST = "tool_interrupted"
"""How a run ends whose tool was called by a process that died meanwhile: it is not called again."""
FUNDS, SHARE = Decimal(1000), Decimal("0.975")
"""What the payer has, and what an owner gets of a price."""
PRICES = {"editor": Decimal("0.5"), "helper": Decimal("0.25"), "far": Decimal("0.1")}
SETTINGS = QUICK | {
    "AITBC_WEBHOOKS__ALLOW_PRIVATE": "true",
    "AITBC_HERMES__CALL_SECONDS": "2",
    "AITBC_HERMES__ONLINE_SECONDS": "86400",
}


@dataclass
class Crowd:
    """Who takes part, and what the payer began."""

    payer: Client
    editor: str = ""
    accounts: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The id and the key of the owner of each agent."""
    begun: dict[str, str] = field(default_factory=dict)
    """Runs, with the text of each."""


@pytest.fixture
def server(tmp_path: Path) -> Any:
    """An installation of its own, started."""
    made = ServerProcess(tmp_path / "state", free_port(), **SETTINGS)
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Connections for the load."""
    timeout = aiohttp.ClientTimeout(total=8)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


@asynccontextmanager
async def a_tool() -> AsyncIterator[tuple[str, Counter[str]]]:
    """A tool that cannot be called twice without harm: its address, and how often it was called for each text."""
    calls: Counter[str] = Counter()

    async def stamp(text: str) -> str:
        """Put a number on it."""
        calls[text] += 1
        await asyncio.sleep(0.05)
        return f"{text} {calls[text]}"

    server = MCPServer("stamps")
    server.add_tool(stamp)
    app = server.streamable_http_app(json_response=True)
    async with server.session_manager.run(), listening(app) as port:
        yield f"http://127.0.0.1:{port}/mcp", calls


async def settle_in(crowd: Crowd, owners: dict[str, Client], tool: str, remote: RemoteAgent) -> None:
    """Register the agents: one that does all kinds of steps, one below it, and one elsewhere."""

    async def agent(name: str, *steps: dict[str, Any], **more: Any) -> str:
        body = {"name": name, "skills": [skill(*steps, price=str(PRICES[name]))], **more}
        status, told = await owners[name].until_known(AGENTS, body, f"agent-{name}")
        assert status == 201, told
        return str(told["id"])

    helper = await agent("helper", a_job())
    far = await agent("far", endpoint=remote.url)
    async with asyncio.timeout(60):
        while not (await owners["far"].get(f"{AGENTS}/{far}"))[1]["is_online"]:  # noqa: ASYNC110 - a server tells nobody
            await asyncio.sleep(0.2)
    stamps = {"does": "tool", "name": "stamp", "server": tool, "tool": "stamp", "arguments": {"text": "{{text}}"}}
    word = approval(within_seconds=1, otherwise="approve")
    parts = (handing_on(helper, name="below"), handing_on(far, name="elsewhere"))
    crowd.editor = await agent("editor", a_job(), *parts, stamps, word)


async def call_agents(crowd: Crowd, over: asyncio.Event) -> None:
    """Begin one run after the other, each once the one before has ended."""
    while not over.is_set():
        text = uuid.uuid4().hex
        body = {"agent": crowd.editor, "text": text, "wall_seconds": 3600}
        status, run = await crowd.payer.until_known(RUNS, body, text)
        assert status == 201, run
        crowd.begun[run["id"]] = text
        await ended(crowd.payer, run["id"])


async def ended(payer: Client, run: str) -> dict[str, Any]:
    """A run once it has ended."""
    async with asyncio.timeout(END_SECONDS + KILLS * 5):
        while True:
            status, told = await payer.get(f"{RUNS}/{run}")
            assert status == 200, told
            if told["ended_at"] is not None:
                return dict(told)
            await asyncio.sleep(0.1)


@only_in_full
@pytest.mark.timeout(1500)
async def test_each_step_is_done_and_paid_once_however_often_the_server_is_killed(
    server: ServerProcess, session: aiohttp.ClientSession
) -> None:
    told = Acknowledged()
    admin = Client(server.url, server.admin_key, session, told)
    _, payer_key = await funded(admin, "payer", str(FUNDS))
    crowd = Crowd(Client(server.url, payer_key, session, told))
    owners = {}
    for name in (*PRICES, "miners"):
        crowd.accounts[name] = await funded(admin, name, "1")
        owners[name] = Client(server.url, crowd.accounts[name][1], session, told)
    fleet = Fleet(owners["miners"], server, session, told)
    for _ in range(2):
        await fleet.add()

    async def work(text: str, _: dict[str, Any]) -> str:
        return text.upper()

    async with a_tool() as (tool, calls), a_remote_agent(work) as remote:
        await settle_in(crowd, owners, tool, remote)
        over = asyncio.Event()
        running = [asyncio.create_task(call_agents(crowd, over)) for _ in range(AT_ONCE)]
        for _ in range(KILLS):
            await asyncio.sleep(random.uniform(0.1, 2.5))
            server.kill()
            await asyncio.to_thread(server.start)
        over.set()
        await asyncio.gather(*running)
    await settled(server)
    runs = [await ended(crowd.payer, run) for run in crowd.begun]
    await everything_was_done_once(crowd, runs, calls, remote)
    await everybody_was_paid_once(crowd, runs, admin, owners)
    connection = await connected(server.database)
    jobs = await connection.fetchval("SELECT count(*) FROM ai.jobs")
    await connection.close()
    below = [await ended(crowd.payer, step_of(run, "below")["reference"]) for run in runs]
    own = {step_of(run, "vectors")["reference"] for run in (*runs, *below)}
    assert jobs == len(own) == 2 * len(runs), "no job belongs to no step"
    for task in fleet.tasks:
        task.cancel()
    await asyncio.gather(*fleet.tasks, return_exceptions=True)
    found = [fault for fault in await faults(server.database, told) if not fault.endswith("nobody was told of")]
    assert (found, told.unexpected) == ([], [])


def step_of(run: dict[str, Any], name: str) -> dict[str, Any]:
    """The step with this name."""
    return next(dict(step) for step in run["steps"] if step["name"] == name)


async def everything_was_done_once(
    crowd: Crowd, runs: list[dict[str, Any]], calls: Counter[str], remote: RemoteAgent
) -> None:
    """No tool was called twice, no message had two ids, and what was interrupted says so."""
    print({"kills": KILLS, "runs": len(runs), "states": Counter(run["reason"] for run in runs)})
    assert len(runs) >= KILLS / 20
    assert {run["reason"] for run in runs} <= {"completed", LOST}, runs
    assert sum(run["reason"] == "completed" for run in runs) > len(runs) / 4
    assert set(calls) <= set(crowd.begun.values()) and max(calls.values()) == 1
    for run in runs:
        text = crowd.begun[run["id"]]
        assert calls[text] == 1 or run["reason"] == LOST, run
        assert len({message for message, said in remote.asked if said == text}) == 1, run
        assert all(step["state"] == "done" for step in run["steps"] if run["reason"] == "completed"), run


async def everybody_was_paid_once(
    crowd: Crowd, runs: list[dict[str, Any]], admin: Client, owners: dict[str, Client]
) -> None:
    """What owners have is their share of what succeeded, and what the payer has is the rest of all that was spent."""

    async def has(client: Client, account: str) -> tuple[Decimal, str]:
        status, told = await client.get(f"/api/v1/trading/accounts/{account}")
        assert status == 200, told
        return Decimal(told["available"]), told["held"]

    done = Counter(editor=sum(run["reason"] == "completed" for run in runs), helper=len(runs), far=len(runs))
    for name, price in PRICES.items():
        assert (await has(owners[name], crowd.accounts[name][0]))[0] == 1 + done[name] * price * SHARE, name
    status, payer = await crowd.payer.get("/api/v1/identity/keys/self")
    assert status == 200, payer
    spent = sum((Decimal(run["spent"]) for run in runs), Decimal(0))
    assert await has(crowd.payer, payer["account"]) == (FUNDS - spent, "0")
    assert all(Decimal(run["spent"]) <= Decimal(run["budget"]) for run in runs)
    status, report = await admin.once("/api/v1/trading/ledger/verify", None)
    assert (status, report["ok"]) == (200, True), report
