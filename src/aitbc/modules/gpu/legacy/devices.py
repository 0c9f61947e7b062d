"""Devices: a catalogue of consumer GPUs, and what miners reported of theirs."""

from datetime import datetime
from typing import Any

from litestar import Controller, get, post
from litestar.params import FromPath, JSONBody, QueryParams
from msgspec import Struct

from aitbc.kernel.identity.principal import PUBLIC, Principal
from aitbc.kernel.legacy.caller import Who
from aitbc.kernel.legacy.errors import required
from aitbc.kernel.legacy.paging import read_query
from aitbc.kernel.primitives.errors import NotFound
from aitbc.modules.gpu.api import Device
from aitbc.modules.gpu.legacy.caller import MINER, READ, READ_BY_POST, Gpu
from aitbc.modules.gpu.legacy.capabilities import gpus_of
from aitbc.modules.gpu.legacy.miners import gpu_views
from aitbc.modules.gpu.legacy.model_fit import Fit, fit
from aitbc.modules.gpu.legacy.shapes import CatalogueQuery, DeviceQuery, MinerGpu, PageQuery
from aitbc.modules.gpu.models.catalogue import CATALOGUE, ConsumerGpu, is_consumer
from aitbc.modules.gpu.service import GpuService
from aitbc.modules.gpu.service.legacy_miners import LegacyMiner


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
    """The last readings of a GPU; null is what its miner did not read."""

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
    gpus: list[MinerGpu]
    registered: int
    edge_optimized: int
    """Those for consumers."""


class DeviceController(Controller):
    """The catalogue, and the GPUs of miners, on the module's own port."""

    path = "/v1/marketplace/edge-gpu"

    @get("/profiles", opt={"permission": PUBLIC})
    async def profiles(self, query: QueryParams) -> list[Profile]:
        """List the catalogue, or what of it fits."""
        wish = read_query(query, CatalogueQuery)
        return [
            _profile(one)
            for one in CATALOGUE
            if wish.architecture in (None, one.architecture)
            and (wish.min_memory_gb is None or one.memory_gb >= wish.min_memory_gb)
            and wish.edge_optimized is not True  # none of them is
        ]

    @get("/metrics/{name:str}", opt=READ)
    async def metrics(self, gpu: Gpu, who: Who, query: QueryParams, name: FromPath[str]) -> list[Readings]:
        """The last readings of a GPU: one entry, since only the last is kept, and none before the first."""
        read_query(query, PageQuery)
        owner, device = await find_device(gpu, who, name)
        return [_readings(owner, name, device)] if is_read(device) else []

    @post("/scan/{name:str}", status_code=200, opt=READ_BY_POST)
    async def scan(self, gpu: Gpu, who: Who, name: FromPath[str]) -> Scanned:
        """Which GPUs a miner found in itself."""
        found = await gpu.legacy_miners.find(who, MINER.check(name))
        gpus = await gpu_views(gpu, found)
        fits = sum(is_consumer(one.model) for one in gpus)
        return Scanned(miner_id=found.legacy_id, gpus=gpus, registered=len(gpus), edge_optimized=fits)

    @post("/optimize/inference/{name:str}", status_code=200, opt=READ_BY_POST)
    async def optimize(
        self, gpu: Gpu, who: Who, query: QueryParams, name: FromPath[str], data: JSONBody[dict[str, Any]]
    ) -> Fit:
        """How a model fits a GPU."""
        _, device = await find_device(gpu, who, name)
        return fit(name, device.memory_total_mib, model_wanted(query))


async def find_device(gpu: GpuService, who: Principal, name: str) -> tuple[LegacyMiner, Device]:
    """A GPU of the caller's by its id, and whose it is. Raises `GpuNotFound`."""
    try:
        owner = await gpu.legacy_miners.find(who, name.rpartition("-")[0])
    except NotFound:
        raise GpuNotFound from None
    device = dict(gpus_of(owner.miner)).get(name)
    if device is None:
        raise GpuNotFound
    return owner, device


def model_wanted(query: QueryParams) -> str:
    """The model that a query names, up to 200 characters. Raises `Invalid` where it names none."""
    model = read_query(query, DeviceQuery).model_name
    if model is None:
        raise required("?model_name")
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


def _readings(owner: LegacyMiner, name: str, device: Device) -> Readings:
    return Readings(
        id=name,
        gpu_id=name,
        timestamp=owner.miner.last_seen_at,
        gpu_utilization_percent=device.utilization,
        memory_utilization_percent=memory_share(device),
        power_draw_w=device.power_watts,
        temperature_celsius=device.temperature_celsius,
        region=owner.miner.region,
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
