"""An agent is called through A2A by the official client: a job, a delegated part, a person's word, and a receipt."""

import asyncio
from typing import Any

import pytest
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.types import a2a_pb2 as pb
from google.protobuf.json_format import ParseDict

from aitbc.kernel.crypto.signing import canonical, verify
from tests.app import Caller
from tests.journeys.conftest import first_in_process
from tests.journeys.hand_miner import HandMiner, Place

pytestmark = first_in_process
HERMES = "/api/v1/hermes"
LOOKS = 300


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


async def task_after(client: Client, request: pb.SendMessageRequest) -> pb.Task:
    """The task that a message began or went on with."""
    async for event in client.send_message(request):
        if event.HasField("task"):
            return event.task
    raise AssertionError("no task was told")


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


async def test_a_priced_skill_is_called_delegated_approved_and_receipted(app: Place) -> None:
    buyer, owner, helper = await app.who("buyer", funds="10"), await app.who("owner"), await app.who("helper")
    miner = await HandMiner.enrol(app, owner)
    await miner.beat()
    job = {"does": "job", "name": "vectors", "kind": "embed", "input": {"texts": ["{{text}}"]}, "max_price": "0.05"}
    below = await an_agent(helper, "helper", a_skill("0.25", job))
    part = {"does": "delegate", "name": "part", "skill": "work", "agent": below, "budget": "0.3"}
    ask = {"does": "approve", "name": "ok", "question": "Go on?", "within_seconds": 3600, "otherwise": "reject"}
    agent = await an_agent(owner, "editor", a_skill("0.5", part, ask))
    http = buyer.client
    card = await A2ACardResolver(http, f"{str(http.base_url).rstrip('/')}/a2a/{agent}/").get_agent_card()
    client = ClientFactory(ClientConfig(httpx_client=http, streaming=False)).create(card)
    begun = await task_after(client, message("hello", metadata={"skill": "work", "budget": "0.8"}))
    asked = await until(client, begun.id, pb.TASK_STATE_INPUT_REQUIRED, miner)
    assert asked.status.message.parts[0].text == "Go on?"
    await task_after(client, message("approve", taskId=begun.id))
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
