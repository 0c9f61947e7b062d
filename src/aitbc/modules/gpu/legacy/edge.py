"""The paths of edge GPUs of the older coordinator: one's own GPUs, and what was read of them."""

from typing import Annotated, Any

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParams
from msgspec import Meta, Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.modules.gpu.legacy import desk
from aitbc.modules.gpu.legacy.capabilities import gpus_of, with_readings
from aitbc.modules.gpu.legacy.devices import found, model_wanted
from aitbc.modules.gpu.legacy.fitting import Fit, fit
from aitbc.modules.gpu.legacy.naming import asked, miner_name
from aitbc.modules.gpu.legacy.shapes import MIB_PER_GIB, Told
from aitbc.modules.gpu.models.catalogue import is_consumer
from aitbc.modules.gpu.service import GpuService
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

    gpu_id: Told
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


class EdgeController(Controller):
    """GPUs of miners, by the coordinator's paths."""

    path = "/v1/edge-gpu"

    @get("/profiles", opt=desk.READ)
    async def profiles(self, gpu: NamedDependency[GpuService], who: NamedDependency[Principal]) -> EdgeProfiles:
        """List the GPUs of the caller's miners."""
        miners = [older.miner for older in await gpu.legacy_miners.page(who, MINERS_MAX)]
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

    @get("/metrics/{name:str}", opt=desk.READ)
    async def metrics(
        self, gpu: NamedDependency[GpuService], who: NamedDependency[Principal], name: FromPath[str]
    ) -> EdgeReadings:
        """Tell what a GPU was last read at."""
        _, device = await found(gpu, who, name)
        return EdgeReadings(
            gpu_id=name,
            utilization=device.utilization,
            memory_used_mb=device.memory_used_mib,
            temperature_c=device.temperature_celsius,
        )

    @post("/metrics", status_code=200, opt=desk.STEER)
    async def keep(
        self, gpu: NamedDependency[GpuService], who: NamedDependency[Principal], data: JSONBody[EdgeReading]
    ) -> EdgeKept:
        """Keep what a miner of the older dialect reads of a GPU; others tell it with their heartbeats."""
        older, _ = await found(gpu, who, data.gpu_id)
        place = int(data.gpu_id.rpartition("-")[2])
        inventory = with_readings(
            older.miner.inventory,
            place,
            utilization=data.utilization,
            used_mib=data.memory_used,
            celsius=data.temperature,
        )
        await gpu.legacy_work.heartbeat(who, older.miner.id, LegacyHeartbeat(telemetry=inventory))
        return EdgeKept(status="success", gpu_id=data.gpu_id)

    @post("/discover", status_code=200, opt=desk.ASK)
    async def discover(
        self, gpu: NamedDependency[GpuService], who: NamedDependency[Principal], query: QueryParams
    ) -> Discovered:
        """Tell which GPUs a miner found in itself."""
        miner = asked(query).miner_id
        if miner is None:
            raise Invalid(fields=(FieldError("?miner_id", "This parameter is required"),))
        older = await gpu.legacy_miners.find(who, miner_name(miner))
        gpus = [EdgeGpu(gpu_id=name, name=device.name) for name, device in gpus_of(older.miner)]
        fits = sum(is_consumer(one.name) for one in gpus)
        return Discovered(miner_id=older.legacy_id, gpus=gpus, registered=len(gpus), edge_optimized=fits)

    @post("/optimize", status_code=200, opt=desk.ASK)
    async def optimize(
        self,
        gpu: NamedDependency[GpuService],
        who: NamedDependency[Principal],
        query: QueryParams,
        data: JSONBody[dict[str, Any] | None] = None,
    ) -> Fit:
        """Say how a model goes onto a GPU."""
        name = asked(query).gpu_id
        if name is None:
            raise Invalid(fields=(FieldError("?gpu_id", "This parameter is required"),))
        _, device = await found(gpu, who, name)
        return fit(name, device.memory_total_mib, model_wanted(query))
