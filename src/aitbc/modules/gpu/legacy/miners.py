"""The paths of miners, as the gpu service before had them."""

from typing import Any

from litestar import Controller, delete, get, post, put
from litestar.datastructures import Headers
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParams
from msgspec import Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.secret import masked
from aitbc.modules.gpu.legacy import desk
from aitbc.modules.gpu.legacy.capabilities import tell_capabilities
from aitbc.modules.gpu.legacy.naming import miner_name
from aitbc.modules.gpu.legacy.shapes import (
    Assigned,
    Done,
    EarningsView,
    FailBody,
    Gpu,
    HeartbeatBody,
    PollBody,
    RegisterBody,
    ResultBody,
)
from aitbc.modules.gpu.service import GpuService

WAIT_SECONDS = 5.0


class Registered(Struct, frozen=True, kw_only=True):
    """A miner is known; `session_token` is its API key, shown this one time."""

    status: str
    miner_id: str
    session_token: str
    gpu_count: int

    def __repr__(self) -> str:
        return masked(self, "session_token")


class Delivered(Struct, frozen=True, kw_only=True):
    """A result was taken, checked and metered."""

    status: str
    job_id: str
    result: str
    receipt_id: str | None


class GivenUp(Struct, frozen=True, kw_only=True):
    """A failure was noted; `state` is what became of the job."""

    status: str
    job_id: str
    error: str
    state: str


class Changed(Struct, frozen=True, kw_only=True):
    """What is known of a miner from now on."""

    status: str
    miner_id: str
    capabilities: dict[str, Any]


class Removed(Struct, frozen=True, kw_only=True):
    """A miner is gone."""

    status: str
    miner_id: str
    message: str


class OlderMinerController(Controller):
    """Miners that speak to the module's own port."""

    path = "/v1/miners"

    @post("/register", status_code=200, opt=desk.ENROL)
    async def register(
        self,
        gpu: NamedDependency[GpuService],
        who: NamedDependency[Principal],
        headers: Headers,
        query: QueryParams,
        data: JSONBody[RegisterBody],
    ) -> Registered:
        """Register whoever calls, under the name it gives or a fresh one."""
        name, enrolled = await desk.register(gpu, who, headers, query, data)
        found = await desk.gpus(gpu, who, await gpu.legacy_miners.find(who, name))
        return Registered(status="ok", miner_id=name, session_token=enrolled.api_key, gpu_count=len(found))

    @post("/heartbeat", status_code=200, opt=desk.STEER)
    async def heartbeat(
        self,
        gpu: NamedDependency[GpuService],
        who: NamedDependency[Principal],
        headers: Headers,
        query: QueryParams,
        data: JSONBody[HeartbeatBody],
    ) -> Done:
        """Hear a sign of life."""
        await desk.beat(gpu, who, headers, query, data)
        return Done()

    @post("/poll", status_code=200, opt=desk.POLL)
    async def poll(
        self,
        gpu: NamedDependency[GpuService],
        who: NamedDependency[Principal],
        headers: Headers,
        query: QueryParams,
        data: JSONBody[PollBody],
    ) -> Assigned | None:
        """Ask for a job; `null` when there was none in time."""
        wait = WAIT_SECONDS if data.max_wait_seconds is None else data.max_wait_seconds
        return await desk.poll(gpu, who, headers, query, data.miner_id, wait)

    @post("/{name:str}/result", status_code=200, opt=desk.STEER)
    async def result(
        self,
        gpu: NamedDependency[GpuService],
        who: NamedDependency[Principal],
        headers: Headers,
        query: QueryParams,
        name: FromPath[str],
        data: JSONBody[ResultBody],
    ) -> Delivered:
        """Bring the result of a job."""
        outcome = await desk.deliver(gpu, who, headers, query, name, data)
        taken = "accepted" if outcome.receipt is not None else "failure recorded"
        return Delivered(status="ok", job_id=outcome.job, result=taken, receipt_id=outcome.receipt)

    @post("/{name:str}/fail", status_code=200, opt=desk.STEER)
    async def fail(
        self,
        gpu: NamedDependency[GpuService],
        who: NamedDependency[Principal],
        headers: Headers,
        query: QueryParams,
        name: FromPath[str],
        data: JSONBody[FailBody],
    ) -> GivenUp:
        """Give a job up."""
        outcome = await desk.give_up(gpu, who, headers, query, name, data)
        return GivenUp(status="ok", job_id=outcome.job, error="recorded", state=outcome.state)

    @get("/{name:str}/gpus", opt=desk.READ)
    async def gpus(
        self, gpu: NamedDependency[GpuService], who: NamedDependency[Principal], name: FromPath[str]
    ) -> list[Gpu]:
        """List the GPUs of a miner."""
        return await desk.gpus(gpu, who, await gpu.legacy_miners.find(who, miner_name(name)))

    @post("/{name:str}/earnings", status_code=200, opt=desk.ASK)
    async def earnings(
        self,
        gpu: NamedDependency[GpuService],
        who: NamedDependency[Principal],
        query: QueryParams,
        name: FromPath[str],
    ) -> EarningsView:
        """Sum up what a miner was paid."""
        return await desk.earnings(gpu, who, name, query)

    @put("/{name:str}/capabilities", opt=desk.ENROL)
    async def capabilities(
        self,
        gpu: NamedDependency[GpuService],
        who: NamedDependency[Principal],
        name: FromPath[str],
        data: JSONBody[RegisterBody],
    ) -> Changed:
        """Note what a miner can do from now on."""
        older, _ = await desk.change(gpu, who, name, data)
        return Changed(status="ok", miner_id=older.legacy_id, capabilities=tell_capabilities(older))

    @delete("/{name:str}", status_code=200, opt=desk.STEER)
    async def remove(
        self, gpu: NamedDependency[GpuService], who: NamedDependency[Principal], name: FromPath[str]
    ) -> Removed:
        """Remove a miner for good."""
        older = await desk.remove(gpu, who, name)
        return Removed(status="ok", miner_id=older.legacy_id, message=f"Miner {older.legacy_id} was removed")
