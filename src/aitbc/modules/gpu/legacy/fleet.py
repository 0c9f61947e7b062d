"""Miners as those who look after them see them: one's own, those of everybody for an admin."""

from collections.abc import Sequence

from litestar import Controller, delete, get, post
from litestar.params import FromPath, QueryParams
from msgspec import Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.legacy.caller import Who
from aitbc.kernel.legacy.paging import read_query
from aitbc.modules.gpu.legacy.caller import ENROL, MANAGE, MINER, READ, Gpu
from aitbc.modules.gpu.legacy.miners import enrol
from aitbc.modules.gpu.legacy.shapes import (
    MINER_STATES,
    MinersQuery,
    MinerStatus,
    MinerView,
    RegisterBody,
    WithToken,
    gpu_view,
    miner_view,
)
from aitbc.modules.gpu.models.gpus import gpus_of
from aitbc.modules.gpu.service import GpuService
from aitbc.modules.gpu.service.legacy_miners import PRESENT, LegacyMiner
from aitbc.modules.gpu.service.miner_history import is_busy

DEACTIVATED = "deactivated by its owner"
TEST_MINER = "debug-test-miner"


class MinerItems(Struct, frozen=True, kw_only=True):
    """Miners in an object, as one path wants them."""

    items: list[MinerView]


class TestMiner(WithToken, frozen=True, kw_only=True):
    """A miner to try things with."""

    status: str
    miner_id: str
    message: str


class CoordinatorFleet(Controller):
    """Lists of miners, and what is done to one of them."""

    @get(["/miners", "/admin/miners"], opt=READ)
    async def listed(self, gpu: Gpu, who: Who, query: QueryParams) -> list[MinerView]:
        """List miners; with a `status` only those in it."""
        return await _listed(gpu, who, query)

    @get("/v1/admin/miners", opt=READ)
    async def items(self, gpu: Gpu, who: Who, query: QueryParams) -> MinerItems:
        """List miners, in an object."""
        return MinerItems(items=await _listed(gpu, who, query))

    @get("/admin/miners/{name:str}", opt=READ)
    async def details(self, gpu: Gpu, who: Who, name: FromPath[str]) -> MinerView:
        """Get one miner."""
        (view,) = await _views(gpu, [await gpu.legacy_miners.find(who, MINER.check(name))])
        return view

    @post("/admin/miners/{name:str}/deactivate", status_code=200, opt=MANAGE)
    async def deactivate(self, gpu: Gpu, who: Who, name: FromPath[str]) -> MinerStatus:
        """Let a miner finish what it works on and give it nothing new."""
        found = await gpu.legacy_miners.find(who, MINER.check(name))
        await gpu.miners.drain(who, found.miner.id, DEACTIVATED)
        return MinerStatus(miner_id=found.legacy_id, status="deactivated")

    @post("/admin/miners/{name:str}/activate", status_code=200, opt=MANAGE)
    async def activate(self, gpu: Gpu, who: Who, name: FromPath[str]) -> MinerStatus:
        """Let a miner have work again."""
        found = await gpu.legacy_miners.find(who, MINER.check(name))
        await gpu.miners.drain(who, found.miner.id, None)
        return MinerStatus(miner_id=found.legacy_id, status="activated")

    @delete("/admin/miners/{name:str}", status_code=200, opt=MANAGE)
    async def remove(self, gpu: Gpu, who: Who, name: FromPath[str]) -> MinerStatus:
        """Remove a miner for good."""
        found = await gpu.legacy_miners.remove(who, MINER.check(name))
        return MinerStatus(miner_id=found.legacy_id, status="deregistered")

    @post("/v1/admin/debug/create-test-miner", status_code=200, opt=ENROL)
    async def test_miner(self, gpu: Gpu, who: Who) -> TestMiner:
        """Register a miner of the caller's to try things with; it does nothing by itself."""
        known = await gpu.legacy_miners.is_known(who, TEST_MINER)
        enrolled = await enrol(gpu, who, TEST_MINER, RegisterBody())
        status = "updated" if known else "created"
        message = "It takes prompts; poll for them under its name"
        return TestMiner(status=status, miner_id=TEST_MINER, session_token=enrolled.api_key, message=message)


async def _listed(gpu: GpuService, who: Principal, query: QueryParams) -> list[MinerView]:
    wish = read_query(query, MinersQuery)
    statuses = PRESENT if wish.status is None else frozenset(MINER_STATES.states(wish.status))
    return await _views(gpu, await gpu.legacy_miners.page(who, wish.limit, offset=wish.offset, statuses=statuses))


async def _views(gpu: GpuService, found: Sequence[LegacyMiner]) -> list[MinerView]:
    records = await gpu.miner_history.records([one.miner for one in found])
    views = []
    for one in found:
        record = records[one.miner.id]
        busy = is_busy(one.miner, record)
        gpus = [gpu_view(one, name, device, busy=busy) for name, device in gpus_of(one.miner)]
        views.append(miner_view(one, record, gpus))
    return views
