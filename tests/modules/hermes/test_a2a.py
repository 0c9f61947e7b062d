"""The official A2A client against our server, over both bindings: it works unchanged, and fails as it expects to."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import (
    ContentTypeNotSupportedError,
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from a2a.utils.signing import InvalidSignaturesError, create_signature_verifier
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Value
from jwt.api_jwk import PyJWK

from aitbc.modules.hermes.protocols.requests import SendMessage, read
from tests.app import Caller
from tests.modules.hermes.make import Town, approval, handing_on, registered, skill

pytestmark = pytest.mark.anyio
BINDINGS = ("JSONRPC", "HTTP+JSON")
PARAGRAPHS = "go\u2028on\u2029and on\x85"
"""With the line ends of Unicode, at which this client splits what a stream tells."""


@pytest.fixture
async def buyer(town: Town) -> Caller:
    """Somebody with money."""
    return await town.owner(funds="10")


@asynccontextmanager
async def client_of(town: Town, who: Caller, agent: str, binding: str, **config: Any) -> AsyncIterator[Client]:
    """The official client, as it is made from an agent's card."""
    async with town.stage.client(who.secret) as http:
        card = await A2ACardResolver(http, f"http://localhost/a2a/{agent}/").get_agent_card()
        made = ClientConfig(
            httpx_client=http, supported_protocol_bindings=[binding], use_client_preference=True, **config
        )
        yield ClientFactory(made).create(card)


def said(text: str, **more: Any) -> pb.SendMessageRequest:
    """A message."""
    message = {"messageId": more.pop("message", f"m-{text}"), "role": "ROLE_USER", "parts": [{"text": text}]}
    request = pb.SendMessageRequest()
    ParseDict({"message": message | more.pop("in_message", {}), **more}, request)
    return request


async def sent(client: Client, text: str, **more: Any) -> pb.Task:
    """The task after all that is told of a message."""
    task = pb.Task()
    async for event in client.send_message(said(text, **more)):
        if event.HasField("task"):
            task = event.task
        elif event.HasField("status_update"):
            task.status.CopyFrom(event.status_update.status)
    return task


async def test_a_card_is_signed_and_says_what_skills_cost(town: Town) -> None:
    owner = await town.owner()
    agent = await registered(owner, skill(approval(), tags=["inference"]), name="Éditeur")
    async with town.stage.client() as http:
        (key,) = (await http.get("/a2a/keys")).json()["keys"]
        verifier = create_signature_verifier(lambda kid, _: PyJWK(key if kid == key["kid"] else {}), ["EdDSA"])
        resolver = A2ACardResolver(http, f"http://localhost/a2a/{agent}/")
        card = await resolver.get_agent_card(signature_verifier=verifier)
        assert (card.name, card.skills[0].id, list(card.skills[0].tags)) == ("Éditeur", "work", ["inference"])
        assert card.capabilities.extensions[0].params["work"]["price"] == "0.5"
        answer = await http.get(f"/a2a/{agent}/.well-known/agent-card.json")
        again = await http.get(
            f"/a2a/{agent}/.well-known/agent-card.json", headers={"if-none-match": answer.headers["etag"]}
        )
        assert again.status_code == 304
    card.skills[0].name = "Something else"
    with pytest.raises(InvalidSignaturesError):
        verifier(card)


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_task_is_sent_read_listed_and_cancelled(town: Town, buyer: Caller, binding: str) -> None:
    seller, stranger = await town.owner(), await town.owner(funds="1")
    agent = await registered(seller, skill(approval()))
    async with client_of(town, buyer, agent, binding, streaming=False) as client:
        task = await sent(client, "hello")
        assert (task.status.state, task.status.message.parts[0].text) == (pb.TASK_STATE_INPUT_REQUIRED, "Go on?")
        assert task.metadata["price"] == "0.5" and task.history[0].parts[0].text == "hello"
        assert (await sent(client, "hello")).id == task.id
        assert (await client.get_task(pb.GetTaskRequest(id=task.id))).id == task.id
        others = [await sent(client, f"more {number}") for number in range(2)]
        first = await client.list_tasks(pb.ListTasksRequest(page_size=2))
        rest = await client.list_tasks(pb.ListTasksRequest(page_size=2, page_token=first.next_page_token))
        assert [one.id for one in (*first.tasks, *rest.tasks)] == [others[1].id, others[0].id, task.id]
        assert (first.total_size, rest.next_page_token) == (3, "")
        canceled = await client.cancel_task(pb.CancelTaskRequest(id=task.id))
        assert canceled.status.state == pb.TASK_STATE_CANCELED
        done = await sent(client, "approve", in_message={"taskId": others[0].id})
        assert (done.id, done.status.state) == (others[0].id, pb.TASK_STATE_COMPLETED)
        with pytest.raises(TaskNotCancelableError):
            await client.cancel_task(pb.CancelTaskRequest(id=done.id))
        with pytest.raises(UnsupportedOperationError):
            await sent(client, "approve", message="late", in_message={"taskId": done.id})
        with pytest.raises(InvalidParamsError):
            await client.list_tasks(pb.ListTasksRequest(page_size=101))
        with pytest.raises(ContentTypeNotSupportedError):
            await sent(client, "", message="file", in_message={"parts": [{"url": "https://x.example/a"}]})
        assert (await client.get_extended_agent_card(pb.GetExtendedAgentCardRequest())).name
    async with client_of(town, stranger, agent, binding, streaming=False) as client:
        assert not (await client.list_tasks(pb.ListTasksRequest())).tasks
        for refused in (
            client.get_task(pb.GetTaskRequest(id=others[1].id)),
            client.cancel_task(pb.CancelTaskRequest(id=others[1].id)),
            client.get_task(pb.GetTaskRequest(id="run_" + "0" * 26)),
        ):
            with pytest.raises(TaskNotFoundError):
                await refused
    async with client_of(town, await town.owner(), agent, binding, streaming=False) as client:
        poor = await sent(client, "hello")
        assert (poor.status.state, poor.status.message.parts[0].text) == (
            pb.TASK_STATE_REJECTED,
            "insufficient_funds",
        )


def test_whole_numbers_that_a_client_sends_as_doubles_are_integers() -> None:
    said = ParseDict({"texts": ["one"], "dimensions": 64, "deep": [{"n": -3}], "share": 0.5, "large": 2**60}, Value())
    part = {"data": MessageToDict(pb.Part(data=said))["data"]}
    assert isinstance(part["data"]["dimensions"], float)
    sent = read({"message": {"messageId": "one", "role": "ROLE_USER", "parts": [part]}}, SendMessage)
    assert msgspec.json.encode(sent.message.data, order="sorted") == (
        b'{"deep":[{"n":-3}],"dimensions":64,"large":1.152921504606847e18,"share":0.5,"texts":["one"]}'
    )


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_stream_tells_what_becomes_of_a_task(town: Town, buyer: Caller, binding: str) -> None:
    helper, seller = await town.owner(), await town.owner()
    below = await registered(helper, skill(approval(otherwise="approve", within_seconds=1), price="0.25"))
    agent = await registered(seller, skill(handing_on(below), approval()))
    async with client_of(town, buyer, agent, binding) as client:

        async def stream(events: AsyncIterator[pb.StreamResponse]) -> list[pb.StreamResponse]:
            return [event async for event in events]

        following = asyncio.create_task(stream(client.send_message(said(PARAGRAPHS))))
        for _ in range(200):
            await town.step(1)
            if following.done():
                break
            await asyncio.sleep(0.1)
        told = await following
        assert told[0].HasField("task")
        task = told[0].task.id
        assert told[-1].status_update.status.state == pb.TASK_STATE_INPUT_REQUIRED
        again = await stream(client.subscribe(pb.SubscribeToTaskRequest(id=task)))
        assert again[0].task.status.state == pb.TASK_STATE_INPUT_REQUIRED
        assert again[0].task.history[0].parts[0].text == PARAGRAPHS


async def test_what_is_malformed_is_refused_in_the_callers_dialect(town: Town, buyer: Caller) -> None:
    agent = await registered(await town.owner(), skill(approval()))
    version = {"a2a-version": "1.0"}

    async def rpc(body: Any, **headers: str) -> Any:
        return (await buyer.client.post(f"/a2a/{agent}/", json=body, headers=version | headers)).json()

    call = {"jsonrpc": "2.0", "id": 7, "method": "SendMessage", "params": {"message": {"messageId": "x"}}}
    refused = await rpc(call)
    assert (refused["id"], refused["error"]["code"]) == (7, -32602) and "role" in refused["error"]["message"]
    assert (await rpc({**call, "method": "Nothing"}))["error"]["code"] == -32601
    assert (await rpc(call, **{"a2a-version": "0.3"}))["error"]["data"][0]["reason"] == "VERSION_NOT_SUPPORTED"
    answer = await buyer.client.get(f"/a2a/{agent}/tasks/nothing", headers=version)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/a2a+json")
    assert answer.json()["error"]["details"][0]["reason"] == "TASK_NOT_FOUND"
    async with town.stage.client() as nobody:
        answer = await nobody.post(f"/a2a/{agent}", json=call, headers=version)
        assert (answer.status_code, answer.json()["jsonrpc"]) == (401, "2.0")
        answer = await nobody.get(f"/a2a/{agent}/tasks", headers=version)
        assert (answer.status_code, answer.json()["error"]["status"]) == (401, "UNAUTHENTICATED")


class Listener:
    """Where pushes go; refuses as many as it is told to."""

    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.refuse = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hear one."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.refuse -= 1
        status = 503 if self.refuse >= 0 else 200
        if status == 200:
            self.heard.append((headers, json.loads(body)))
        writer.write(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
        writer.close()


async def test_pushes_are_sent_in_order_and_again_until_they_are_taken(town: Town, buyer: Caller) -> None:
    agent = await registered(await town.owner(), skill(approval()))
    listener = Listener()
    server = await asyncio.start_server(listener.answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/push"
    async with client_of(town, buyer, agent, "JSONRPC", streaming=False) as client:
        task = await sent(client, "hello")
        config = pb.TaskPushNotificationConfig(task_id=task.id, url=url, token="secret")
        made = await client.create_task_push_notification_config(config)
        assert (made.id, made.url, made.token) == (task.id, url, "secret")
        listed = await client.list_task_push_notification_configs(
            pb.ListTaskPushNotificationConfigsRequest(task_id=task.id)
        )
        assert [one.id for one in listed.configs] == [task.id]
        listener.refuse = 2
        await sent(client, "yes", message="answer", in_message={"taskId": task.id})
        for _ in range(6):
            await town.step(5)
        states = [(body.get("statusUpdate") or body["task"])["status"]["state"] for _, body in listener.heard]
        assert states == ["TASK_STATE_WORKING", "TASK_STATE_COMPLETED"]
        assert listener.heard[0][0]["x-a2a-notification-token"] == "secret"
        listener.refuse = 100
        other = await sent(client, "second")
        await client.create_task_push_notification_config(pb.TaskPushNotificationConfig(task_id=other.id, url=url))
        await client.cancel_task(pb.CancelTaskRequest(id=other.id))
        for _ in range(12):
            await town.step(300)
    server.close()
    (dead,) = (await buyer.get("/api/v1/hermes/messages")).json()["data"]
    assert (dead["run"], dead["state"], dead["attempts"], dead["error"]) == (other.id, "dead", 10, "it answers 503")
    again = await buyer.post(f"/api/v1/hermes/messages/{dead['id']}/retry")
    assert again.json()["state"] == "queued"
