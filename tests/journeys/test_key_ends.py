"""What waits or streams ends within a second of its API key, gets nothing new after it, and leaves nothing leased."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.app import Caller
from tests.journeys.conftest import first_in_process
from tests.journeys.hand_miner import HandMiner, Place

pytestmark = first_in_process
"""Of other places it is in `make test` that a key revoked at one of two servers ends at the other (test_replicas)."""
KEYS = "/api/v1/identity/keys"
JOBS = "/api/v1/ai/jobs"
RUNS = "/api/v1/ai/runs"
NOBODYS: dict[str, Any] = {
    "kind": "chat",
    "input": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5},
    "requirements": {"region": "nowhere"},
}
"""A job that none of the miners here may have."""
WITHIN_SECONDS = 10.0
"""A second, and what a busy machine takes to say so; what waits here would wait for 20."""
CUT_SECONDS = 3.0
"""How long nobody reads from a download whose key has ended."""
CUT = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


async def ended(call: Awaitable[httpx.Response]) -> tuple[int, float, str]:
    """The status, when, and what was received; 0 for a connection that was cut."""
    try:
        answer = await call
    except CUT:
        return 0, time.monotonic(), ""
    return answer.status_code, time.monotonic(), answer.text


async def drops() -> AsyncIterator[bytes]:
    """An upload that takes its time."""
    while True:
        yield b"x" * 100
        await asyncio.sleep(0.05)


async def second_key(who: Caller) -> str:
    """Another key of the same account."""
    return str((await who.post(KEYS, {"name": "second"})).json()["secret"])


@pytest.mark.anyio
async def test_everything_that_waits_or_streams_ends_with_its_key(app: Place) -> None:
    admin, alice, owner = await app.admin(), await app.who("alice", funds="1"), await app.who("owner")
    miner = await HandMiner.enrol(app, owner)
    await miner.beat()
    miner_key = (await miner.client.get(f"{KEYS}/self")).json()["key"]
    spare = app.client(await second_key(alice))
    job = (await alice.post(JOBS, NOBODYS | {"max_price": "0.05"})).json()["id"]
    run: dict[str, Any] = {"json": NOBODYS | {"max_price": "0.05"}}
    raw = {"content-type": "application/octet-stream"}
    legacy = await owner.post(
        "/gpu/v1/miners/register", {"miner_id": "old", "gpu": {"name": "RTX 4090", "memory_gb": 24}}
    )
    assert legacy.status_code == 200, legacy.text
    calls = {
        "poll": miner.client.post("/api/v1/gpu/polls", json={"slots": 1, "wait_seconds": 20}),
        "older poll": owner.client.post("/gpu/v1/miners/poll", json={"miner_id": "old", "max_wait_seconds": 20}),
        "wait": alice.client.get(f"{JOBS}/{job}/wait", params={"seconds": 20}),
        "sync": alice.client.post(f"{RUNS}/sync", headers={"idempotency-key": "sync"}, **run),
        "stream": alice.client.post(f"{RUNS}/stream", headers={"idempotency-key": "stream"}, **run),
        "events": alice.client.get(f"{JOBS}/{job}/events"),
        "upload": alice.client.post("/api/v1/ai/artifacts", content=drops(), headers=raw),
    }
    running = {name: asyncio.create_task(ended(call)) for name, call in calls.items()}
    await asyncio.sleep(1)
    assert not [name for name, task in running.items() if task.done()]
    for key in (miner_key, owner.principal.key, alice.principal.key):
        assert (await admin.post(f"{KEYS}/{key}/revoke")).status_code == 200
    revoked_at = time.monotonic()
    # Work that comes the moment after, for the miner and into the stream: nobody gets it any more.
    work = {"kind": "embed", "input": {"texts": ["secret"]}, "max_price": "0.05"}
    fresh = (await spare.post(JOBS, json=work, headers={"idempotency-key": "fresh"})).json()["id"]
    found = {name: await task for name, task in running.items()}
    assert {name: status for name, (status, _, _) in found.items()} == {
        **dict.fromkeys(("poll", "older poll", "wait", "sync"), 401),
        **dict.fromkeys(("stream", "events"), 200),
        "upload": found["upload"][0],
    }
    assert found["upload"][0] in (401, 0)
    late = {name: at - revoked_at for name, (_, at, _) in found.items() if at - revoked_at > WITHIN_SECONDS}
    assert not late
    assert "canceled" not in found["events"][2]
    for _ in range(200):
        if (state := (await spare.get(f"{JOBS}/{fresh}")).json()["state"]) == "queued":
            break
        await asyncio.sleep(0.1)
    assert state == "queued", "a lease that was made for an ended poll is released"


@pytest.mark.anyio
async def test_a_download_is_cut_when_its_key_ends(app: Place) -> None:
    admin, alice = await app.admin(), await app.who("alice")
    url = urlsplit(str(alice.client.base_url))
    if url.port is None:
        pytest.skip("without a socket a download is done at once")
    size = 9_000_000
    raw = {"content-type": "application/octet-stream"}
    made = await alice.client.post("/api/v1/ai/artifacts", content=b"x" * size, headers=raw)
    with socket.socket() as near:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        near.setblocking(False)
        await asyncio.get_running_loop().sock_connect(near, (url.hostname, url.port))
        reader, writer = await asyncio.open_connection(sock=near, limit=4096)
        head = f"GET /api/v1/ai/artifacts/{made.json()['id']} HTTP/1.1\r\nHost: localhost\r\n"
        writer.write(f"{head}Authorization: Bearer {alice.secret}\r\n\r\n".encode())
        got = await reader.read(1024)
        assert got.startswith(b"HTTP/1.1 200")
        assert (await admin.post(f"{KEYS}/{alice.principal.key}/revoke")).status_code == 200
        await asyncio.sleep(CUT_SECONDS)
        count = 0
        try:
            async with asyncio.timeout(30):
                while chunk := await reader.read(65_536):
                    count += len(chunk)
        except ConnectionError:
            pass
        writer.close()
    assert count < size - 1024
