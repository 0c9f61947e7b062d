"""A miner that hangs up while it waits for work takes none with it."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.server_process import ServerProcess
from tests.journeys.hand_miner import HandMiner
from tests.journeys.shapes import SHAPES, placed
from tests.scale import scaled
from tests.server.runtime.test_serve import free_port


class Served:
    """A real server, as the miner by hand wants it."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(base_url=self.server.url, headers=headers, timeout=20)


@pytest.fixture(params=scaled(["gpu split"], ["mounted", "gpu split", "ai split", "all split"]))
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    server = ServerProcess(tmp_path / "state", free_port(), **placed(**SHAPES[request.param]))
    server.start()
    yield Served(server)
    server.stop()


async def test_work_goes_to_nobody_who_has_hung_up(served: Any) -> None:
    async with served.client(served.server.admin_key) as owner:
        account = (await owner.get("/api/v1/identity/keys/self")).json()["account"]
        deposit = {"account": account, "amount": "1", "reason": "test"}
        await owner.post("/api/v1/trading/deposits", json=deposit, headers={"Idempotency-Key": "one"})
        miner = await HandMiner.enrol(served, _Posting(owner))  # type: ignore[arg-type]
        await miner.beat()
        waiting = asyncio.create_task(miner.poll(wait=30))
        await asyncio.sleep(0.5)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await miner.client.aclose()
        body = {"kind": "embed", "input": {"texts": ["hello"]}, "max_price": "0.01"}
        made = (await owner.post("/api/v1/ai/jobs", json=body, headers={"Idempotency-Key": "two"})).json()
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            found = (await owner.get(f"/api/v1/ai/jobs/{made['id']}")).json()
            assert (found["state"], found["history"]) == ("queued", [])
            await asyncio.sleep(0.1)


class _Posting:
    """A client whose posts take their body like the callers of the other journeys."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def post(self, path: str, body: Any) -> httpx.Response:
        return await self._client.post(path, json=body)
