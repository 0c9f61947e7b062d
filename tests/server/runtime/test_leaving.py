"""The whole server on SIGTERM, while callers wait and listen: each hears an end, nobody is cut, and the process is gone in time."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.chaos.load import Acknowledged, Client, enrol
from tests.chaos.server_process import ServerProcess
from tests.chaos.test_crashes import free_port
from tests.scale import scaled

EXIT_SECONDS_MAX = 20.0
OF_EACH = scaled(8, 25)


@pytest.fixture
def server(tmp_path: Path) -> ServerProcess:
    """An installation of its own, started."""
    made = ServerProcess(tmp_path / "state", free_port())
    made.start()
    return made


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """As many connections as are asked for."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as made:
        yield made


async def test_every_long_poll_and_stream_comes_to_its_end(
    server: ServerProcess, session: aiohttp.ClientSession
) -> None:
    try:
        admin = Client(server.url, server.admin_key, session, told := Acknowledged())
        _, operator = await admin.until_known("/api/v1/identity/accounts", {"name": "buyer"}, "account")
        _, buyer = await admin.until_known("/api/v1/identity/keys", {"name": "buyer", "account": operator["id"]})
        funds = {"account": operator["id"], "amount": "1", "reason": "test"}
        assert (await admin.once("/api/v1/trading/deposits", funds, "deposit"))[0] == 201
        secret = str(buyer["secret"])
        _, _, miner_key = await enrol(
            Client(server.url, secret, session, told), Client(server.url, "", session, told), "rig", 4
        )
        wish = {"kind": "command", "input": {"program": "nobody-has-it", "arguments": []}, "max_price": "0.5"}
        status, job = await Client(server.url, secret, session, told).once("/api/v1/ai/jobs", wish, "job")
        assert status == 201, job

        async def wait() -> int:
            path = f"{server.url}/api/v1/ai/jobs/{job['id']}/wait?seconds=55"
            async with session.get(path, headers={"Authorization": f"Bearer {secret}"}) as answer:
                assert (await answer.json())["state"] == "queued"
                return answer.status

        async def poll() -> int:
            body = {"slots": 1, "wait_seconds": 55}
            headers = {"Authorization": f"Bearer {miner_key}"}
            async with session.post(f"{server.url}/api/v1/gpu/polls", json=body, headers=headers) as answer:
                assert (await answer.json())["leases"] == []
                return answer.status

        async def stream() -> int:
            path = f"{server.url}/api/v1/ai/jobs/{job['id']}/events"
            async with session.get(path, headers={"Authorization": f"Bearer {secret}"}) as answer:
                assert b"event: " in await answer.content.read()  # raises if the stream is cut instead of ended
                return answer.status

        calls = [*(wait for _ in range(OF_EACH)), *(stream for _ in range(OF_EACH)), *(poll for _ in range(4))]
        waiting = [asyncio.create_task(call()) for call in calls]
        await asyncio.sleep(2)
        assert not [task for task in waiting if task.done()]
        started = time.monotonic()
        code = await asyncio.to_thread(server.stop)
        assert time.monotonic() - started < EXIT_SECONDS_MAX
        assert code == 0
        assert set(await asyncio.wait_for(asyncio.gather(*waiting), 30)) == {200}
        assert told.unexpected == []
    finally:
        if server.is_alive:
            server.kill()
