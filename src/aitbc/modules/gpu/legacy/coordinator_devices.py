"""Devices by the paths of the older coordinator: one's own GPUs, and their readings."""

from typing import Annotated, Any

from litestar import Controller, get, post
from litestar.params import FromPath, JSONBody, QueryParams
from msgspec import Meta, Struct

from aitbc.kernel.legacy.caller import Who
from aitbc.kernel.legacy.errors import required
from aitbc.kernel.legacy.paging import read_query
from aitbc.modules.gpu.legacy.caller import MANAGE, MINER, READ, READ_BY_POST, Gpu
from aitbc.modules.gpu.legacy.capabilities import with_readings
from aitbc.modules.gpu.legacy.devices import Fit, FitBody, find_device, fit_of
from aitbc.modules.gpu.legacy.shapes import MIB_PER_GIB, DeviceQuery, Label
from aitbc.modules.gpu.models.catalogue import is_consumer
from aitbc.modules.gpu.models.gpus import gpus_of
from aitbc.modules.gpu.service.legacy_work import LegacyHeartbeat

MINERS_MAX = 1000


class EdgeProfile(Struct, frozen=True, kw_only=True):
    """A GPU of a miner of the caller's."""

    gpu_id: str
    gpu_model: str | None
    architecture: str | None
    """Who made it, which is what this field held."""
    memory_gb: int | None
    edge_optimized: bool


class EdgeProfiles(Struct, frozen=True, kw_only=True):
    """All of them."""

    profiles: list[EdgeProfile]
    total: int


class EdgeReadings(Struct, frozen=True, kw_only=True):
    """What was last read of a GPU; null is what was not."""

    gpu_id: str
    utilization: float | None
    memory_used_mb: int | None
    temperature_c: float | None


class EdgeReading(Struct, frozen=True, kw_only=True):
    """What a miner reads of a GPU now."""

    gpu_id: Label
    utilization: Annotated[float, Meta(ge=0, le=100)] | None = None
    memory_used: Annotated[float, Meta(ge=0, le=2**40)] | None = None
    """In megabytes."""
    temperature: Annotated[float, Meta(ge=-100, le=500)] | None = None


class EdgeKept(Struct, frozen=True, kw_only=True):
    """It was kept."""

    status: str
    gpu_id: str


class EdgeGpu(Struct, frozen=True, kw_only=True):
    """A GPU that a miner found in itself."""

    gpu_id: str
    name: str | None


class Discovered(Struct, frozen=True, kw_only=True):
    """The GPUs of a miner."""

    miner_id: str
    gpus: list[EdgeGpu]
    registered: int
    edge_optimized: int


class CoordinatorDevices(Controller):
    """GPUs of miners, by the coordinator's paths."""

    path = "/v1/edge-gpu"

    @get("/profiles", opt=READ)
    async def profiles(self, gpu: Gpu, who: Who) -> EdgeProfiles:
        """List the GPUs of the caller's miners."""
        miners = [one.miner for one in await gpu.legacy_miners.page(who, MINERS_MAX)]
        profiles = [
            EdgeProfile(
                gpu_id=name,
                gpu_model=device.name,
                architecture=device.vendor.upper() if device.vendor else None,
                memory_gb=None if device.memory_total_mib is None else round(device.memory_total_mib / MIB_PER_GIB),
                edge_optimized=is_consumer(device.name),
            )
            for miner in miners
            for name, device in gpus_of(miner)
        ]
        return EdgeProfiles(profiles=profiles, total=len(profiles))

    @get("/metrics/{name:str}", opt=READ)
    async def metrics(self, gpu: Gpu, who: Who, name: FromPath[str]) -> EdgeReadings:
        """The last readings of a GPU."""
        _, device = await find_device(gpu, who, name)
        return EdgeReadings(
            gpu_id=name,
            utilization=device.utilization,
            memory_used_mb=device.memory_used_mib,
            temperature_c=device.temperature_celsius,
        )

    @post("/metrics", status_code=200, opt=MANAGE)
    async def keep(self, gpu: Gpu, who: Who, data: JSONBody[EdgeReading]) -> EdgeKept:
        """Record what a legacy miner reads of a GPU; others report it with their heartbeats."""
        owner, _ = await find_device(gpu, who, data.gpu_id)
        place = int(data.gpu_id.rpartition("-")[2])
        inventory = with_readings(
            owner.miner.inventory,
            place,
            utilization=data.utilization,
            used_mib=data.memory_used,
            celsius=data.temperature,
        )
        await gpu.legacy_work.heartbeat(who, owner.miner.id, LegacyHeartbeat(telemetry=inventory))
        return EdgeKept(status="success", gpu_id=data.gpu_id)

    @post("/discover", status_code=200, opt=READ_BY_POST)
    async def discover(self, gpu: Gpu, who: Who, query: QueryParams) -> Discovered:
        """Which GPUs a miner found in itself."""
        miner = read_query(query, DeviceQuery).miner_id
        if miner is None:
            raise required("?miner_id")
        found = await gpu.legacy_miners.find(who, MINER.check(miner))
        gpus = [EdgeGpu(gpu_id=name, name=device.name) for name, device in gpus_of(found.miner)]
        fits = sum(is_consumer(one.name) for one in gpus)
        return Discovered(miner_id=found.legacy_id, gpus=gpus, registered=len(gpus), edge_optimized=fits)

    @post("/optimize", status_code=200, opt=READ_BY_POST)
    async def optimize(
        self, gpu: Gpu, who: Who, query: QueryParams, data: JSONBody[dict[str, Any] | None] = None
    ) -> Fit:
        """How a model fits a GPU."""
        name = read_query(query, DeviceQuery).gpu_id
        if name is None:
            raise required("?gpu_id")
        return await fit_of(gpu, who, name, query)


class CoordinatorFit(Controller):
    """How a model fits a GPU, by the path that the coordinator had of the marketplace."""

    @post("/v1/marketplace/edge-gpu/{name:str}/optimize", status_code=200, opt=READ_BY_POST)
    async def optimize(
        self, gpu: Gpu, who: Who, query: QueryParams, name: FromPath[str], data: JSONBody[FitBody | None] = None
    ) -> Fit:
        """How a model fits a GPU of the caller's."""
        return await fit_of(gpu, who, name, query, data)
