"""Devices: a catalogue of consumer GPUs, and what miners reported of theirs."""

from collections.abc import Sequence
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
from aitbc.modules.gpu.legacy.miners import gpu_views
from aitbc.modules.gpu.legacy.shapes import CatalogueQuery, DeviceQuery, Label, MinerGpu, PageQuery
from aitbc.modules.gpu.models.catalogue import CATALOGUE, ConsumerGpu, is_consumer
from aitbc.modules.gpu.models.gpus import gpus_of
from aitbc.modules.gpu.models.model_fit import fit
from aitbc.modules.gpu.models.readings import Reading, Step
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
    """What a GPU read at a time; null is what its miner did not read."""

    id: str
    gpu_id: str
    timestamp: datetime | None
    gpu_utilization_percent: float | None
    memory_utilization_percent: float | None
    power_draw_w: float | None
    temperature_celsius: float | None
    region: str | None
    thermal_throttling_active: bool | None
    power_limit_active: bool | None
    clock_throttling_active: bool | None
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


class FitBody(Struct, frozen=True, kw_only=True):
    """Which model is to be fitted; what else is asked of it is passed over, since nothing is promised."""

    model_name: Label | None = None
    model: Label | None = None


class Fit(Struct, frozen=True, kw_only=True):
    """How a model goes onto a GPU."""

    gpu_id: str
    model_name: str
    optimized: bool
    """Whether there is a setting under which it fits."""
    latency_reduction: float
    """Always zero: nothing is promised that was not measured."""
    precision: str | None
    memory_needed_mib: int | None
    memory_total_mib: int | None
    note: str


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
        """What a GPU read, the newest first: what its miner last said, then each minute of a day; none before the
        first."""
        limit = read_query(query, PageQuery).limit
        owner, device = await find_device(gpu, who, name)
        if not is_read(device):
            return []
        newest = _readings(owner, name, device)
        if device.uuid is None or limit == 1:
            return [newest]
        kept = await gpu.readings.of(who, owner.miner.id, step=Step.MINUTE, uuid=device.uuid, limit=limit)
        return [newest, *(_kept(owner, name, one) for one in kept)][:limit]

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
        return await fit_of(gpu, who, name, query)

    @post("/{name:str}/optimize", status_code=200, opt=READ_BY_POST)
    async def optimize_gpu(
        self, gpu: Gpu, who: Who, query: QueryParams, name: FromPath[str], data: JSONBody[FitBody | None] = None
    ) -> Fit:
        """The same where the model stands in the body."""
        return await fit_of(gpu, who, name, query, data)


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


async def fit_of(gpu: GpuService, who: Principal, name: str, query: QueryParams, data: FitBody | None = None) -> Fit:
    """How the model that a query or a body names fits a GPU of the caller's. Raises `GpuNotFound`, `Invalid`."""
    _, device = await find_device(gpu, who, name)
    model = read_query(query, DeviceQuery).model_name or (None if data is None else data.model_name or data.model)
    if model is None:
        raise required("?model_name")
    found = fit(device.memory_total_mib, model)
    return Fit(
        gpu_id=name,
        model_name=model,
        optimized=found.precision is not None,
        latency_reduction=0.0,
        precision=found.precision,
        memory_needed_mib=found.memory_needed_mib,
        memory_total_mib=device.memory_total_mib,
        note=found.note,
    )


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
        **_brakes(device.brake_reasons),
    )


def _kept(owner: LegacyMiner, name: str, reading: Reading) -> Readings:
    total, used = reading.memory_total_mib, reading.memory_used_mib
    return Readings(
        id=f"{name}-{reading.at:%Y%m%d%H%M}",
        gpu_id=name,
        timestamp=reading.at,
        gpu_utilization_percent=reading.utilization,
        memory_utilization_percent=None if not total or used is None else round(100 * used / total, 2),
        power_draw_w=reading.power_watts,
        temperature_celsius=reading.temperature_celsius,
        region=owner.miner.region,
        **_brakes(reading.brake_reasons),
    )


def _brakes(reasons: Sequence[str] | None) -> dict[str, bool | None]:
    """What held the clocks back, in the older words."""
    if reasons is None:
        return dict.fromkeys(("thermal_throttling_active", "power_limit_active", "clock_throttling_active"))
    return {
        "thermal_throttling_active": any(reason.startswith("thermal") for reason in reasons),
        "power_limit_active": "power_cap" in reasons or "power_brake" in reasons,
        "clock_throttling_active": bool(reasons),
    }


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
