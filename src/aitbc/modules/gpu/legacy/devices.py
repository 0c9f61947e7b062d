"""The paths of devices: a catalogue of consumer GPUs, and what miners tell of theirs."""

from datetime import datetime
from typing import Any

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParams
from msgspec import Struct

from aitbc.kernel.identity.principal import PUBLIC, Principal
from aitbc.kernel.primitives.errors import FieldError, Invalid, NotFound
from aitbc.modules.gpu.api import Device
from aitbc.modules.gpu.legacy import desk
from aitbc.modules.gpu.legacy.capabilities import gpus_of
from aitbc.modules.gpu.legacy.fitting import Fit, fit
from aitbc.modules.gpu.legacy.naming import asked, miner_name
from aitbc.modules.gpu.legacy.shapes import Gpu
from aitbc.modules.gpu.models.catalogue import CATALOGUE, Architecture, ConsumerGpu, is_consumer
from aitbc.modules.gpu.service import GpuService
from aitbc.modules.gpu.service.legacy_miners import LegacyMiner

LIMIT_MAX = 1000


class GpuNotFound(NotFound):
    """There is no such GPU of yours."""

    code = "gpu_not_found"


class Profile(Struct, frozen=True, kw_only=True):
    """A model of the catalogue; null is what its maker does not publish."""

    id: str
    profile_id: str
    name: str
    gpu_model: str
    architecture: str
    consumer_grade: bool
    edge_optimized: bool
    memory_gb: int
    cuda_cores: int
    tensor_cores: int
    memory_bandwidth_gbps: float
    base_clock_mhz: int
    boost_clock_mhz: int
    power_consumption_w: float
    thermal_design_power_w: float
    compute_capability: str
    typical_use_cases: list[str]
    noise_level_db: float | None = None
    fp32_tflops: float | None = None
    fp16_tflops: float | None = None
    int8_tops: float | None = None
    market_price_usd: float | None = None


class Readings(Struct, frozen=True, kw_only=True):
    """What a miner last read of a GPU; null is what it did not read."""

    id: str
    gpu_id: str
    timestamp: datetime | None
    gpu_utilization_percent: float | None
    memory_utilization_percent: float | None
    power_draw_w: float | None
    temperature_celsius: float | None
    region: str | None
    network_latency_ms: float | None = None
    compute_latency_ms: float | None = None
    total_latency_ms: float | None = None


class Scanned(Struct, frozen=True, kw_only=True):
    """The GPUs of a miner, counted."""

    miner_id: str
    gpus: list[Gpu]
    registered: int
    edge_optimized: int
    """Those for consumers."""


class DeviceController(Controller):
    """GPUs, as the gpu service before told of them."""

    path = "/v1/marketplace/edge-gpu"

    @get("/profiles", opt={"permission": PUBLIC})
    async def profiles(self, query: QueryParams) -> list[Profile]:
        """List the catalogue, or what of it fits."""
        wish = asked(query, limit_max=LIMIT_MAX)
        if wish.architecture is not None and wish.architecture not in set(Architecture):
            known = ", ".join(Architecture)
            raise Invalid(fields=(FieldError("?architecture", f"Expected one of {known}"),))
        return [
            _profile(one)
            for one in CATALOGUE
            if wish.architecture in (None, one.architecture)
            and (wish.min_memory_gb is None or one.memory_gb >= wish.min_memory_gb)
            and wish.edge_optimized is not True  # none of them is
        ]

    @get("/metrics/{name:str}", opt=desk.READ)
    async def metrics(
        self,
        gpu: NamedDependency[GpuService],
        who: NamedDependency[Principal],
        query: QueryParams,
        name: FromPath[str],
    ) -> list[Readings]:
        """Tell what a GPU was last read at: one entry, since only the last is kept, and none before the first."""
        asked(query, limit_max=LIMIT_MAX)
        older, device = await found(gpu, who, name)
        return [_readings(older, name, device)] if is_read(device) else []

    @post("/scan/{name:str}", status_code=200, opt=desk.ASK)
    async def scan(
        self, gpu: NamedDependency[GpuService], who: NamedDependency[Principal], name: FromPath[str]
    ) -> Scanned:
        """Tell which GPUs a miner found in itself."""
        older = await gpu.legacy_miners.find(who, miner_name(name))
        gpus = await desk.gpus(gpu, who, older)
        fits = sum(is_consumer(one.model) for one in gpus)
        return Scanned(miner_id=older.legacy_id, gpus=gpus, registered=len(gpus), edge_optimized=fits)

    @post("/optimize/inference/{name:str}", status_code=200, opt=desk.ASK)
    async def optimize(
        self,
        gpu: NamedDependency[GpuService],
        who: NamedDependency[Principal],
        query: QueryParams,
        name: FromPath[str],
        data: JSONBody[dict[str, Any]],
    ) -> Fit:
        """Say how a model goes onto a GPU."""
        _, device = await found(gpu, who, name)
        return fit(name, device.memory_total_mib, model_wanted(query))


async def found(gpu: GpuService, who: Principal, name: str) -> tuple[LegacyMiner, Device]:
    """A GPU of the caller's by its id, and whose it is. Raises `GpuNotFound`."""
    miner = name.rpartition("-")[0]
    try:
        older = await gpu.legacy_miners.find(who, miner)
    except NotFound:
        raise GpuNotFound from None
    for one, device in gpus_of(older.miner):
        if one == name:
            return older, device
    raise GpuNotFound


def model_wanted(query: QueryParams) -> str:
    """The model that a query names. Raises `Invalid` where it names none."""
    model = asked(query).model_name
    if model is None or len(model) > 200:
        raise Invalid(fields=(FieldError("?model_name", "This parameter is required, up to 200 characters"),))
    return model


def is_read(device: Device) -> bool:
    """Whether anything was ever read of a device."""
    return any(
        value is not None
        for value in (device.utilization, device.memory_used_mib, device.temperature_celsius, device.power_watts)
    )


def memory_share(device: Device) -> float | None:
    """How much of its memory is used, in percent."""
    if not device.memory_total_mib or device.memory_used_mib is None:
        return None
    return round(100 * device.memory_used_mib / device.memory_total_mib, 2)


def _readings(older: LegacyMiner, name: str, device: Device) -> Readings:
    return Readings(
        id=name,
        gpu_id=name,
        timestamp=older.miner.last_seen_at,
        gpu_utilization_percent=device.utilization,
        memory_utilization_percent=memory_share(device),
        power_draw_w=device.power_watts,
        temperature_celsius=device.temperature_celsius,
        region=older.miner.region,
    )


def _profile(one: ConsumerGpu) -> Profile:
    return Profile(
        id=one.key,
        profile_id=one.key,
        name=one.name,
        gpu_model=one.name,
        architecture=one.architecture.value,
        consumer_grade=True,
        edge_optimized=False,
        memory_gb=one.memory_gb,
        cuda_cores=one.cuda_cores,
        tensor_cores=one.tensor_cores,
        memory_bandwidth_gbps=one.memory_bandwidth_gbps,
        base_clock_mhz=one.base_clock_mhz,
        boost_clock_mhz=one.boost_clock_mhz,
        power_consumption_w=one.power_w,
        thermal_design_power_w=one.power_w,
        compute_capability=one.compute_capability,
        typical_use_cases=["inference of language models", "text embeddings"],
    )
