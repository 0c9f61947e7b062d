"""The paths of the older coordinator that became gpu's: its miners, and those who looked after them."""

from collections.abc import Sequence
from typing import Any

from litestar import Controller, Response, delete, get, post, put
from litestar.datastructures import Headers
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParams
from msgspec import Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.secret import masked
from aitbc.modules.gpu.legacy import desk
from aitbc.modules.gpu.legacy.capabilities import gpus_of, tell_capabilities
from aitbc.modules.gpu.legacy.naming import asked, miner_name
from aitbc.modules.gpu.legacy.shapes import (
    ASSET,
    Assigned,
    Done,
    EarningsView,
    FailBody,
    HeartbeatBody,
    JobView,
    MinerView,
    PollBody,
    RegisterBody,
    ResultBody,
    as_number,
    gpu_view,
    is_busy,
    miner_view,
)
from aitbc.modules.gpu.service import GpuService
from aitbc.modules.gpu.service.legacy_miners import LegacyMiner

WAIT_SECONDS = 15.0
LIST_MAX = 10_000
DEACTIVATED = "deactivated by its owner"
TEST_MINER = "debug-test-miner"


class SignedOn(Struct, frozen=True, kw_only=True):
    """A miner is known; `session_token` is its API key, shown this one time."""

    status: str
    miner_id: str
    session_token: str

    def __repr__(self) -> str:
        return masked(self, "session_token")


class Receipted(Struct, frozen=True, kw_only=True):
    """A result was taken; the receipt in short, none for a failure."""

    status: str
    receipt: dict[str, Any] | None


class MinerJobs(Struct, frozen=True, kw_only=True):
    """The jobs of a miner."""

    jobs: list[JobView]
    total: int
    limit: int
    offset: int
    miner_id: str


class Updated(Struct, frozen=True, kw_only=True):
    """What is known of a miner from now on, and its new API key."""

    miner_id: str
    status: str
    capabilities: dict[str, Any]
    session_token: str

    def __repr__(self) -> str:
        return masked(self, "session_token")


class MinerStatus(Struct, frozen=True, kw_only=True):
    """What became of a miner."""

    miner_id: str
    status: str


class MinerItems(Struct, frozen=True, kw_only=True):
    """Miners in an object, as one path wants them."""

    items: list[MinerView]


class TestMiner(Struct, frozen=True, kw_only=True):
    """A miner to try things with."""

    status: str
    miner_id: str
    session_token: str
    message: str

    def __repr__(self) -> str:
        return masked(self, "session_token")


class CoordinatorMiners(Controller):
    """Miners that speak to the older coordinator."""

    path = "/v1/miners"

    @post("/register", status_code=200, opt=desk.ENROL)
    async def register(
        self,
        gpu: NamedDependency[GpuService],
        who: NamedDependency[Principal],
        headers: Headers,
        query: QueryParams,
        data: JSONBody[RegisterBody],
    ) -> SignedOn:
        """Register whoever calls."""
        name, enrolled = await desk.register(gpu, who, headers, query, data)
        return SignedOn(status="ok", miner_id=name, session_token=enrolled.api_key)

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
    ) -> Response[Assigned | None]:
        """Ask for a job; 204 when there was none in time."""
        wait = WAIT_SECONDS if data.max_wait_seconds is None else data.max_wait_seconds
        job = await desk.poll(gpu, who, headers, query, data.miner_id, wait)
        return Response(job, status_code=204 if job is None else 200)

    @post("/{name:str}/result", status_code=200, opt=desk.STEER)
    async def result(
        self,
        gpu: NamedDependency[GpuService],
        who: NamedDependency[Principal],
        headers: Headers,
        query: QueryParams,
        name: FromPath[str],
        data: JSONBody[ResultBody],
    ) -> Receipted:
        """Bring the result of a job; one that was brought before is refused with 409."""
        outcome = await desk.deliver(gpu, who, headers, query, name, data)
        if outcome.receipt is None or outcome.price is None:
            return Receipted(status="ok", receipt=None)
        earned = None if outcome.earned is None else as_number(outcome.earned)
        receipt = {"receipt_id": outcome.receipt, "job_id": outcome.job, "status": "COMPLETED", "currency": ASSET}
        return Receipted(status="ok", receipt=receipt | {"price": as_number(outcome.price), "earned": earned})

    @post("/{name:str}/fail", status_code=200, opt=desk.STEER)
    async def fail(
        self,
        gpu: NamedDependency[GpuService],
        who: NamedDependency[Principal],
        headers: Headers,
        query: QueryParams,
        name: FromPath[str],
        data: JSONBody[FailBody],
    ) -> Done:
        """Give a job up: another miner may have it."""
        await desk.give_up(gpu, who, headers, query, name, data)
        return Done()

    @post("/{name:str}/jobs", status_code=200, opt=desk.ASK)
    async def jobs(
        self,
        gpu: NamedDependency[GpuService],
        who: NamedDependency[Principal],
        query: QueryParams,
        name: FromPath[str],
    ) -> MinerJobs:
        """List what a miner works on and worked on, from the newest on."""
        older, found, total = await desk.jobs(gpu, who, name, query)
        wish = asked(query)
        return MinerJobs(jobs=found, total=total, limit=wish.limit, offset=wish.offset, miner_id=older.legacy_id)

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
    ) -> Updated:
        """Note what a miner can do from now on."""
        older, enrolled = await desk.change(gpu, who, name, data)
        return Updated(
            miner_id=older.legacy_id,
            status="updated",
            capabilities=tell_capabilities(older),
            session_token=enrolled.api_key,
        )

    @delete("/{name:str}", status_code=200, opt=desk.STEER)
    async def remove(
        self, gpu: NamedDependency[GpuService], who: NamedDependency[Principal], name: FromPath[str]
    ) -> MinerStatus:
        """Remove a miner for good; what it works on goes to others."""
        older = await desk.remove(gpu, who, name)
        return MinerStatus(miner_id=older.legacy_id, status="deregistered")


class CoordinatorFleet(Controller):
    """Miners, as those who looked after them saw them: one's own, those of everybody for an admin."""

    @get(["/miners", "/admin/miners"], opt=desk.READ)
    async def listed(
        self, gpu: NamedDependency[GpuService], who: NamedDependency[Principal], query: QueryParams
    ) -> list[MinerView]:
        """List miners; with a `status` only those in it."""
        return await _listed(gpu, who, query)

    @get("/v1/admin/miners", opt=desk.READ)
    async def items(
        self, gpu: NamedDependency[GpuService], who: NamedDependency[Principal], query: QueryParams
    ) -> MinerItems:
        """List miners, in an object."""
        return MinerItems(items=await _listed(gpu, who, query))

    @get("/admin/miners/{name:str}", opt=desk.READ)
    async def details(
        self, gpu: NamedDependency[GpuService], who: NamedDependency[Principal], name: FromPath[str]
    ) -> MinerView:
        """Get one miner."""
        (view,) = await _views(gpu, [await gpu.legacy_miners.find(who, miner_name(name))])
        return view

    @post("/admin/miners/{name:str}/deactivate", status_code=200, opt=desk.STEER)
    async def deactivate(
        self, gpu: NamedDependency[GpuService], who: NamedDependency[Principal], name: FromPath[str]
    ) -> MinerStatus:
        """Let a miner finish what it works on and give it nothing new."""
        older = await gpu.legacy_miners.find(who, miner_name(name))
        await gpu.miners.drain(who, older.miner.id, DEACTIVATED)
        return MinerStatus(miner_id=older.legacy_id, status="deactivated")

    @post("/admin/miners/{name:str}/activate", status_code=200, opt=desk.STEER)
    async def activate(
        self, gpu: NamedDependency[GpuService], who: NamedDependency[Principal], name: FromPath[str]
    ) -> MinerStatus:
        """Let a miner have work again."""
        older = await gpu.legacy_miners.find(who, miner_name(name))
        await gpu.miners.drain(who, older.miner.id, None)
        return MinerStatus(miner_id=older.legacy_id, status="activated")

    @delete("/admin/miners/{name:str}", status_code=200, opt=desk.STEER)
    async def remove(
        self, gpu: NamedDependency[GpuService], who: NamedDependency[Principal], name: FromPath[str]
    ) -> MinerStatus:
        """Remove a miner for good."""
        older = await desk.remove(gpu, who, name)
        return MinerStatus(miner_id=older.legacy_id, status="deregistered")

    @post("/v1/admin/debug/create-test-miner", status_code=200, opt=desk.ENROL)
    async def test_miner(self, gpu: NamedDependency[GpuService], who: NamedDependency[Principal]) -> TestMiner:
        """Register a miner of the caller's to try things with; it does nothing by itself."""
        known = {older.legacy_id for older in await gpu.legacy_miners.page(who, LIST_MAX)}
        enrolled = await desk.enrol(gpu, who, TEST_MINER, RegisterBody())
        status = "updated" if TEST_MINER in known else "created"
        message = "It takes prompts; poll for them under its name"
        return TestMiner(status=status, miner_id=TEST_MINER, session_token=enrolled.api_key, message=message)


async def _listed(gpu: GpuService, who: Principal, query: QueryParams) -> list[MinerView]:
    wish = asked(query, limit_max=LIST_MAX)
    limit = wish.limit if "limit" in query else LIST_MAX
    found = await _views(gpu, await gpu.legacy_miners.page(who, LIST_MAX))
    fits = [one for one in found if wish.status is None or one.status == wish.status.upper()]
    return fits[wish.offset : wish.offset + limit]


async def _views(gpu: GpuService, found: Sequence[LegacyMiner]) -> list[MinerView]:
    records = await gpu.miner_history.records([older.miner for older in found])
    views = []
    for older in found:
        record = records[older.miner.id]
        busy = is_busy(older.miner, record)
        gpus = [gpu_view(older, name, device, busy=busy) for name, device in gpus_of(older.miner)]
        views.append(miner_view(older, record, gpus))
    return views
