"""Agents in every place: called through A2A by the official clients, looked at through MCP, paid within a budget."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.types import a2a_pb2 as pb
from google.protobuf.json_format import ParseDict
from mcp import Client as McpClient
from mcp import StdioServerParameters

from aitbc.kernel.crypto.signing import canonical, verify
from tests.app import Caller
from tests.cli.program import surroundings
from tests.journeys.conftest import IN_PROCESS
from tests.journeys.hand_miner import HandMiner, Place
from tests.journeys.shapes import ALL_SHAPES, HERMES_SPLIT, TestInstallation
from tests.scale import only_in_full, scaled

pytestmark = pytest.mark.parametrize(
    "installation", [IN_PROCESS, *scaled((), (*ALL_SHAPES, *HERMES_SPLIT))], indirect=True, scope="module"
)
HERMES = "/api/v1/hermes"
LOOKS = 600
PACKAGE = "@a2a-js/sdk@1.3.0"
SCRIPT = Path(__file__).with_name("agent_client.mjs")
NODE_SECONDS = 180
ASK = {"does": "approve", "name": "ok", "question": "Go on?", "within_seconds": 3600, "otherwise": "reject"}


def a_skill(price: str, *steps: dict[str, Any]) -> dict[str, Any]:
    """A skill with these steps."""
    return {"id": "work", "name": "Work", "description": "Does it.", "tags": ["demo"], "price": price, "steps": steps}


async def an_agent(owner: Caller, name: str, *skills: dict[str, Any]) -> str:
    """The id of an agent."""
    answer = await owner.post(f"{HERMES}/agents", {"name": name, "skills": skills})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def message(text: str, **more: Any) -> pb.SendMessageRequest:
    """A message to an agent."""
    request = pb.SendMessageRequest()
    said = {"messageId": f"journey-{text}", "role": "ROLE_USER", "parts": [{"text": text}]} | more
    ParseDict({"message": said, "configuration": {"returnImmediately": True}}, request)
    return request


async def client_of(http: httpx.AsyncClient, agent: str, binding: str, *, streaming: bool) -> Client:
    """The official client, made from the card that the agent has at this server."""
    card = await A2ACardResolver(http, f"{str(http.base_url).rstrip('/')}/a2a/{agent}/").get_agent_card()
    config = ClientConfig(
        httpx_client=http, streaming=streaming, supported_protocol_bindings=[binding], use_client_preference=True
    )
    return ClientFactory(config).create(card)


async def task_after(client: Client, request: pb.SendMessageRequest) -> pb.Task:
    """The task that a message began or went on with."""
    tasks = [event.task async for event in client.send_message(request) if event.HasField("task")]
    return tasks[0]


async def until(client: Client, task: str, state: int, miner: HandMiner) -> pb.Task:
    """The task once it is in a state; the miner does what waits meanwhile."""
    for _ in range(LOOKS):
        found = await client.get_task(pb.GetTaskRequest(id=task))
        if found.status.state == state:
            return found
        for lease in await miner.poll():
            assert (await miner.deliver(lease)).status_code == 200
        await asyncio.sleep(0.1)
    raise AssertionError(str(found))


async def followed(client: Client, task: str) -> list[int]:
    """The states of a task, as a subscription tells them until the task waits for somebody or has ended."""
    states: list[int] = []
    async for event in client.subscribe(pb.SubscribeToTaskRequest(id=task)):
        told = event.task if event.HasField("task") else event.status_update
        if event.HasField("task") or event.HasField("status_update"):
            states.append(told.status.state)
    return states


async def test_a_priced_skill_is_called_delegated_approved_and_receipted(app: Place) -> None:
    buyer, owner, helper = await app.who("buyer", funds="10"), await app.who("owner"), await app.who("helper")
    miner = await HandMiner.enrol(app, owner)
    await miner.beat()
    job = {"does": "job", "name": "vectors", "kind": "embed", "input": {"texts": ["{{text}}"]}, "max_price": "0.05"}
    below = await an_agent(helper, "helper", a_skill("0.25", job))
    part = {"does": "delegate", "name": "part", "skill": "work", "agent": below, "budget": "0.3"}
    agent = await an_agent(owner, "editor", a_skill("0.5", part, ASK))
    client = await client_of(buyer.client, agent, "JSONRPC", streaming=False)
    begun = await task_after(client, message("hello", metadata={"skill": "work", "budget": "0.8"}))
    async with app.client(buyer.secret) as http:  # of the other replica, where there are two
        other = await client_of(http, agent, "HTTP+JSON", streaming=True)
        following = asyncio.create_task(followed(other, begun.id))
        asked = await until(client, begun.id, pb.TASK_STATE_INPUT_REQUIRED, miner)
        assert asked.status.message.parts[0].text == "Go on?"
        assert (await asyncio.wait_for(following, 60))[-1] == pb.TASK_STATE_INPUT_REQUIRED
        assert (await task_after(other, message("approve", taskId=begun.id))).id == begun.id
    done = await until(client, begun.id, pb.TASK_STATE_COMPLETED, miner)
    assert "vectors" in done.artifacts[-1].parts[0].text
    receipt = (await buyer.get(f"{HERMES}/runs/{begun.id}/receipt")).json()
    statement = receipt["statement"]
    assert verify(receipt["public_key"], canonical(statement), receipt["signature"])
    assert 0.75 < float(statement["spent"]) <= float(statement["budget"]) == 0.8
    balance = (await buyer.get(f"/api/v1/trading/accounts/{buyer.principal.account}")).json()
    assert float(balance["available"]) == pytest.approx(10 - float(statement["spent"])) and balance["held"] == "0"
    earned = await helper.get(f"/api/v1/trading/accounts/{helper.principal.account}")
    assert earned.json()["available"] == "0.24375"


def urls_of(app: Place) -> list[str]:
    """Where the servers of a place are found; skips where it has none."""
    if not isinstance(app, TestInstallation):
        pytest.skip("the app in this process has no address")
    return [server.url for server in app.servers]


@only_in_full
async def test_the_official_mcp_client_calls_an_agent_within_its_budget(app: Place, tmp_path: Path) -> None:
    urls = urls_of(app)
    buyer, owner = await app.who("buyer", funds="10"), await app.who("owner")
    agent = await an_agent(owner, "asked by a model", a_skill("0.5", ASK))
    call = {"agent": agent, "text": "please", "budget": "0.6", "request_id": "one"}
    runs = []
    for url in (urls[0], urls[-1]):
        around = surroundings(tmp_path, AITBC_URL=url, AITBC_API_KEY=buyer.secret)
        words = ["-m", "aitbc_cli.main", "mcp", "serve", "--budget", "1"]
        served = StdioServerParameters(command=sys.executable, args=words, env=around, cwd=str(tmp_path))
        async with McpClient(served) as client:
            refused = await client.call_tool("call_agent", call)
            assert refused.is_error and "confirm" in str(getattr(refused.content[0], "text", ""))
            run = await client.call_tool("call_agent", call | {"confirm": True})
            assert not run.is_error and run.structured_content is not None, run.content
            assert run.structured_content["state"] == "input_required"
            seen = await client.call_tool("run_status", {"run": run.structured_content["id"]})
            assert seen.structured_content is not None
            runs.append((run.structured_content["id"], seen.structured_content["id"]))
    assert len(set(runs)) == 1 and len({*runs[0]}) == 1, "the same request is the same run at every server"
    (one,) = (await buyer.get(f"{HERMES}/runs")).json()["data"]
    assert one["id"] == runs[0][0]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script for Node and the package that it imports."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs node and npm")
    made = tmp_path_factory.mktemp("node")
    shutil.copy(SCRIPT, made)
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]
    done = subprocess.run(install, cwd=made, capture_output=True, text=True, timeout=NODE_SECONDS, check=False)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install {PACKAGE}: {done.stderr[-200:]}")
    return made


@only_in_full
async def test_the_official_client_for_node_works_unchanged_over_both_bindings(app: Place, node: Path) -> None:
    urls = urls_of(app)
    buyer, owner = await app.who("buyer", funds="10"), await app.who("owner")
    agent = await an_agent(owner, "Editor", a_skill("0.01", ASK))
    addresses = " ".join(f"{url}/a2a/{agent}/" for url in (urls[0], urls[-1]))
    around = {**os.environ, "A2A_AGENTS": addresses, "A2A_KEY": buyer.secret}
    words = ["node", SCRIPT.name]
    done = await asyncio.to_thread(
        subprocess.run, words, cwd=node, env=around, capture_output=True, text=True, timeout=NODE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    right = {"question": "Go on?", "role": True, "listed": True, "done": True, "stream": "task", "canceled": True}
    seen = json.loads(done.stdout)
    assert set(seen) == {"JSONRPC", "HTTP+JSON"}
    for binding, found in seen.items():
        assert found == right | {"extended": "Editor", "late": found["late"], "unknown": found["unknown"]}, binding
        assert "TaskNotCancelable" in found["late"] and "TaskNotFound" in found["unknown"], found
