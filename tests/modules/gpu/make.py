"""Builders for the tests of gpu: the whole house with quick clocks, owners, and miners that speak over HTTP."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from aitbc.app import MODULES
from aitbc.kernel.crypto.signing import Key, canonical, enrolment_statement, value_digest, work_statement
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.modules.ai.service import AiSettings
from aitbc.modules.gpu.service import GpuService, GpuSettings
from tests.app import Caller, TestApp, running_app

GPU = "/api/v1/gpu"
JOBS = "/api/v1/ai/jobs"
CPU = {"vendor": "GenuineIntel", "type": "cpu", "index": 0, "name": "Some CPU", "memory_total_mib": 4096}
INVENTORY: dict[str, Any] = {"devices": [CPU], "host": {"os": "Linux", "cpu_count": 2, "disk_free_mib": 10_000}}


def gpu_device(name: str = "NVIDIA GeForce RTX 4090", mib: int | None = 24_564, **changes: Any) -> dict[str, Any]:
    """A GPU as a driver shows it; no other has its uuid."""
    shown = {"vendor": "NVIDIA", "type": "cuda", "index": 0, "uuid": f"GPU-{uuid.uuid4()}", "name": name}
    return shown | {"memory_total_mib": mib} | changes


class Rig:
    """A miner as a machine: a private key, and after its enrolment an API key."""

    def __init__(self, fleet: "Fleet", **offer: Any) -> None:
        self.fleet = fleet
        self.key = Key.generate()
        self.offer: dict[str, Any] = {"kinds": ["embed"], **offer}
        self.devices: list[dict[str, Any]] = []
        """The GPUs that it shows."""
        self.id = self.secret = ""
        self.slots = 2

    def request(self, token: str, **changes: Any) -> dict[str, Any]:
        """What it sends to enrol."""
        proof = self.key.sign(canonical(enrolment_statement(token=token, public_key=self.key.public)))
        fields = {
            "token": token,
            "public_key": self.key.public,
            "name": "rig",
            "proof": proof,
            "capabilities": self.offer,
            "slots": self.slots,
            "inventory": self.inventory(),
        }
        return fields | changes

    def inventory(self) -> dict[str, Any]:
        """What it finds in itself."""
        return INVENTORY | {"devices": [*self.devices, CPU]}

    async def enrol(self, token: str, **changes: Any) -> httpx.Response:
        """Enrol, and remember what came of it."""
        async with self.fleet.stage.client() as client:
            answer = await client.post(f"{GPU}/enrolments", json=self.request(token, **changes))
        if answer.status_code == 201:
            self.id, self.secret = answer.json()["miner"], answer.json()["api_key"]
        return answer

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """Any call under its API key."""
        async with self.fleet.stage.client(self.secret) as client:
            content: dict[str, Any] = {} if body is None else {"json": body}
            return await client.request(method, GPU + path, headers=headers, **content)

    async def heartbeat(self, **changes: Any) -> dict[str, Any]:
        """A heartbeat that is taken."""
        answer = await self.call("POST", "/heartbeats", {"slots": self.slots, "slots_busy": 0, **changes})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def poll(self, slots: int = 1, wait_seconds: float = 0) -> dict[str, Any]:
        """A poll that is answered."""
        answer = await self.call("POST", "/polls", {"slots": slots, "wait_seconds": wait_seconds})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def watch(self, lease: dict[str, Any], wait_seconds: float) -> list[str]:
        """A watch over a lease that is answered."""
        answer = await self.call("POST", "/leases/watch", {"leases": [lease["attempt"]], "wait_seconds": wait_seconds})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["ended"])

    async def take(self) -> dict[str, Any]:
        """The one job that waits."""
        (lease,) = (await self.poll())["leases"]
        return dict(lease)

    def result(self, lease: dict[str, Any], output: Any = None, **changes: Any) -> dict[str, Any]:
        """A signed result, of embedding unless another is given."""
        if output is None:
            vectors = [[0.5, -0.25, 0.125] for _ in lease["input"]["texts"]]
            output = {"model": "tiny", "dimensions": 3, "vectors": vectors, "weights": "sha256:00"}
        statement = work_statement(
            job=lease["job"],
            attempt=lease["attempt"],
            token=lease["token"],
            miner=self.id,
            kind=lease["kind"],
            input_digest=lease["input_digest"],
            output_digest=value_digest(output),
        )
        fields = {
            "token": lease["token"],
            "output": output,
            "output_digest": value_digest(output),
            "usage": {"tokens": 3},
            "signature": self.key.sign(canonical(statement)),
        }
        return fields | changes

    async def deliver(self, lease: dict[str, Any], output: Any = None, **changes: Any) -> httpx.Response:
        """Bring a result."""
        return await self.call("POST", f"/leases/{lease['attempt']}/result", self.result(lease, output, **changes))


class Fleet:
    """A running house, its owners and their miners."""

    def __init__(self, stage: TestApp, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.stage = stage
        self._connection = connection
        self._turn = asyncio.Lock()

    @property
    def gpu(self) -> GpuService:
        """The service itself."""
        service = self.stage.service("gpu")
        assert isinstance(service, GpuService)
        return service

    async def owner(self, **wishes: Any) -> Caller:
        """Somebody who may have miners, and jobs where there are funds."""
        return await self.stage.who("owner", **wishes)

    async def token(self, owner: Caller, **wishes: Any) -> str:
        """An enrolment token of this owner's."""
        answer = await owner.post(f"{GPU}/enrolment-tokens", wishes)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    async def rig(
        self, owner: Caller, *, heartbeat: bool = True, devices: Sequence[dict[str, Any]] = (), **offer: Any
    ) -> Rig:
        """A miner of this owner's that has enrolled and, unless told otherwise, is online."""
        rig = Rig(self, **offer)
        rig.devices = list(devices)
        answer = await rig.enrol(await self.token(owner))
        assert answer.status_code == 201, answer.text
        if heartbeat:
            assert (await rig.heartbeat())["status"] == "online"
        return rig

    async def see(self, owner: Caller, rig: Rig) -> dict[str, Any]:
        """The miner as its owner sees it."""
        answer = await owner.get(f"{GPU}/miners/{rig.id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def until_served(self, who: Caller, model: str) -> None:
        """Wait until a chat may name this model: miners announce theirs by events."""
        for _ in range(600):
            listed = (await who.get("/api/v1/ai/models", kind="chat", limit=500)).json()["data"]
            if model in {one["name"] for one in listed}:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"nobody serves {model}")

    async def submit(self, buyer: Caller, texts: int = 1, **changes: Any) -> dict[str, Any]:
        """A paid job; names a region of its own when asked, so that no miner of another test takes it."""
        body = {"kind": "embed", "input": {"texts": ["text"] * texts}, "max_price": "0.05", **changes}
        answer = await buyer.post(JOBS, body, once=uuid.uuid4().hex)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def later(self, seconds: float) -> None:
        """Let time pass, and the watch do its round: this one, or the periodic one that it met over a miner."""
        clock.move(timedelta(seconds=seconds))
        await self.gpu.watch()
        await self.sql("SELECT id FROM gpu.miners ORDER BY id FOR SHARE")  # waits for whoever changes one

    async def sql(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        """A look into the database, or a hand in it."""
        async with self._turn:
            return list(await self._connection.fetch(statement, *values))


@asynccontextmanager
async def fleet_on(target: Target, state_dir: Path, *, periodic: bool = True, **settings: Any) -> AsyncIterator[Fleet]:
    """The whole house over a database, with or without its periodic tasks; silence counts at once unless a grace is given."""
    tables = {"gpu": GpuSettings(**({"grace_seconds": 0.0} | settings)), "ai": AiSettings(grace_seconds=0)}
    modules = MODULES if periodic else [replace(module, periodic_tasks=()) for module in MODULES]
    async with running_app(target, state_dir, modules=modules, tables=tables) as stage:
        connection = await asyncpg.connect(**target.connect_arguments(application="tests", statement_seconds=60))
        try:
            yield Fleet(stage, connection)
        finally:
            await connection.close()
