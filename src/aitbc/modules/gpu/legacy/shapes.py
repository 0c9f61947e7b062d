"""Bodies, queries and answers of the miners' paths.

Money is a number, states have their legacy words, unknown fields are passed over.
"""

from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from aitbc.kernel.legacy.amounts import optional_amount_of
from aitbc.kernel.legacy.states import StateNames
from aitbc.kernel.legacy.task_types import task_of
from aitbc.kernel.primitives.secret import masked
from aitbc.modules.gpu.api import SLOTS_MAX, Device
from aitbc.modules.gpu.models.catalogue import Architecture
from aitbc.modules.gpu.models.devices import CLAIMED
from aitbc.modules.gpu.service.legacy_miners import LegacyMiner
from aitbc.modules.gpu.service.miner_history import MinerRecord, WorkedJob

MINERS_MAX = 10_000
"""How many miners a list without a limit holds."""
MIB_PER_GIB = 1024
MINER_STATES = StateNames(
    {"enrolled": "OFFLINE", "online": "ONLINE", "draining": "DRAINING", "offline": "OFFLINE", "removed": "OFFLINE"}
)
OUTCOMES = StateNames(
    {
        "running": "RUNNING",
        "succeeded": "COMPLETED",
        "failed": "FAILED",
        "lost": "FAILED",
        "released": "QUEUED",
        "canceled": "CANCELED",
    },
    aliases={"paid": "COMPLETED", "succeeded": "COMPLETED", "cancelled": "CANCELED"},
)
"""Of a miner's attempts, as the states of their jobs were called."""

Label = Annotated[str, Meta(max_length=200)]
Message = Annotated[str, Meta(max_length=16_384)]
PageLimit = Annotated[int, Meta(ge=1, le=1000)]
PageOffset = Annotated[int, Meta(ge=0, le=2**31)]


class RegisterBody(Struct, frozen=True, kw_only=True):
    """A miner says that it is there."""

    miner_id: Label | None = None
    capabilities: dict[str, Any] = {}
    concurrency: Annotated[int, Meta(ge=1, le=SLOTS_MAX)] | None = None
    region: Label | None = None


class HeartbeatBody(Struct, frozen=True, kw_only=True):
    """A miner says that it is still there."""

    miner_id: Label | None = None
    inflight: Annotated[int, Meta(ge=0, le=SLOTS_MAX)] | None = None
    current_jobs: Annotated[int, Meta(ge=0, le=SLOTS_MAX)] | None = None
    status: Label = "ONLINE"
    gpu_utilization: Annotated[float, Meta(ge=0, le=100)] | None = None
    memory_used: Annotated[float, Meta(ge=0, le=2**40)] | None = None


class PollBody(Struct, frozen=True, kw_only=True):
    """A miner asks for work."""

    miner_id: Label | None = None
    max_wait_seconds: Annotated[float, Meta(ge=0, le=86_400)] | None = None


class ResultBody(Struct, frozen=True, kw_only=True):
    """A miner brings what came out."""

    miner_id: Label | None = None
    result: Any = None
    success: bool | None = None
    metrics: dict[str, Any] | None = None


class FailBody(Struct, frozen=True, kw_only=True):
    """A miner gives up."""

    miner_id: Label | None = None
    error: Any = None
    error_code: Label = ""
    error_message: Message = ""


class PageQuery(Struct, frozen=True):
    """Which page a query asks for."""

    limit: PageLimit = 20
    offset: PageOffset = 0


class MinerJobsQuery(PageQuery, frozen=True):
    """Which of a miner's jobs a query asks for."""

    job_type: str | None = None
    type: str | None = None
    job_status: str | None = None
    status: str | None = None
    min_reward: float | None = None


class CatalogueQuery(PageQuery, frozen=True):
    """Which models of the catalogue a query asks for."""

    architecture: Architecture | None = None
    edge_optimized: bool | None = None
    min_memory_gb: int | None = None


class DeviceQuery(Struct, frozen=True):
    """Which device and which model a query names."""

    gpu_id: str | None = None
    miner_id: str | None = None
    model_name: Label | None = None


class EarningsQuery(Struct, frozen=True):
    """The time that a query asks for."""

    from_time: str | None = None
    to_time: str | None = None


class MinersQuery(Struct, frozen=True):
    """Which miners a query asks for."""

    limit: Annotated[int, Meta(ge=1, le=MINERS_MAX)] = MINERS_MAX
    offset: PageOffset = 0
    status: str | None = None


class WithToken(Struct, frozen=True, kw_only=True):
    """An answer with the miner's API key, shown this one time."""

    session_token: str

    def __repr__(self) -> str:
        return masked(self, "session_token")


class Registered(WithToken, frozen=True, kw_only=True):
    """A miner is registered."""

    status: str
    miner_id: str
    gpu_count: int | UnsetType = UNSET


class UpdatedMiner(WithToken, frozen=True, kw_only=True):
    """What is known of a miner from now on, and its new API key."""

    miner_id: str
    status: str
    capabilities: dict[str, Any]


class Updated(Struct, frozen=True, kw_only=True):
    """What is known of a miner from now on."""

    status: str
    miner_id: str
    capabilities: dict[str, Any]


class MinerStatus(Struct, frozen=True, kw_only=True):
    """What became of a miner."""

    miner_id: str
    status: str


class Removed(MinerStatus, frozen=True, kw_only=True):
    """A miner is gone."""

    message: str


class Done(Struct, frozen=True, kw_only=True):
    """It was done."""

    status: str = "ok"


class Assigned(Struct, frozen=True, kw_only=True):
    """A job for the miner that asked."""

    job_id: str
    payload: dict[str, Any]
    constraints: dict[str, Any]
    expires_at: datetime
    """Send a heartbeat before, or the job may go to another."""


class Delivered(Struct, frozen=True, kw_only=True):
    """A result was taken, checked and metered."""

    status: str
    job_id: str
    result: str
    receipt_id: str | None


class Receipted(Struct, frozen=True, kw_only=True):
    """A result was taken; the receipt in short, none for a failure."""

    status: str
    receipt: dict[str, Any] | None


class Failed(Struct, frozen=True, kw_only=True):
    """A failure was recorded; `state` is what became of the job."""

    status: str
    job_id: str
    error: str
    state: str


class MinerGpu(Struct, frozen=True, kw_only=True):
    """A GPU of a miner."""

    id: str
    model: str | None
    memory_gb: int | None
    status: str
    """`available`, `booked` while every slot of its miner works, or `offline`."""
    price_per_hour: float | None
    region: str | None
    created_at: datetime
    compute_capability: str | None = None
    hardware: str = CLAIMED
    """How it is known what it is."""


class JobView(Struct, frozen=True, kw_only=True):
    """A job that a miner works on or worked on."""

    job_id: str
    job_type: str
    state: str
    assigned_miner_id: str
    requested_at: datetime
    started_at: datetime
    completed_at: datetime | None
    expires_at: datetime | None
    error: str | None
    payment_status: str | None
    """`escrowed` while it is worked on, `released` once it was paid for."""
    reward: float | None
    receipt_id: str | None


class MinerJobs(Struct, frozen=True, kw_only=True):
    """A page of a miner's jobs, of all that there are."""

    jobs: list[JobView]
    total: int
    limit: int
    offset: int
    miner_id: str


class MinerView(Struct, frozen=True, kw_only=True):
    """A miner as administrators saw it."""

    miner_id: str
    id: str
    """Its id in our own API."""
    status: str
    inflight: int
    concurrency: int
    region: str | None
    last_heartbeat: datetime | None
    average_job_duration_ms: float
    jobs_completed: int
    jobs_failed: int
    last_receipt_id: str | None
    reputation: float
    gpus: list[MinerGpu]


class Earned(Struct, frozen=True, kw_only=True):
    """A job that a miner was paid for."""

    job_id: str
    receipt_id: str
    amount: float | None
    """None where the ledger learned of it later; the sum has it."""
    timestamp: datetime


class EarningsView(Struct, frozen=True, kw_only=True):
    """What a miner earned."""

    miner_id: str
    total_earnings: float
    pending_earnings: float
    """What is set aside for the jobs it works on: the most that they can cost."""
    completed_jobs: int
    currency: str
    from_time: datetime | None
    to_time: datetime | None
    earnings_history: list[Earned]


def gpu_view(found: LegacyMiner, gpu: str, device: Device, *, busy: bool) -> MinerGpu:
    """A GPU as the legacy dialect shows it."""
    miner = found.miner
    status = "offline" if miner.status != "online" or device.fault is not None else "booked" if busy else "available"
    memory = device.memory_total_mib
    return MinerGpu(
        id=gpu,
        model=device.name,
        memory_gb=None if memory is None else round(memory / MIB_PER_GIB),
        status=status,
        price_per_hour=optional_amount_of(found.price_units),
        region=miner.region,
        created_at=miner.created_at,
        compute_capability=device.compute_capability,
    )


def miner_view(found: LegacyMiner, record: MinerRecord, gpus: list[MinerGpu]) -> MinerView:
    """A miner as administrators saw it."""
    miner = found.miner
    return MinerView(
        miner_id=found.legacy_id,
        id=miner.id,
        status=MINER_STATES.word(miner.status),
        inflight=record.inflight,
        concurrency=miner.slots,
        region=miner.region,
        last_heartbeat=miner.last_seen_at,
        average_job_duration_ms=round(record.seconds * 1000, 3),
        jobs_completed=record.completed,
        jobs_failed=record.failed,
        last_receipt_id=record.receipt,
        reputation=miner.reputation,
        gpus=gpus,
    )


def job_view(legacy_id: str, job: WorkedJob) -> JobView:
    """A miner's job as the legacy dialect shows it."""
    good = job.outcome in ("running", "succeeded")
    paid = "released" if job.receipt is not None else "escrowed" if job.outcome == "running" else None
    return JobView(
        job_id=job.job,
        job_type=task_of(job.kind),
        state=OUTCOMES.word(job.outcome),
        assigned_miner_id=legacy_id,
        requested_at=job.made_at,
        started_at=job.started_at,
        completed_at=job.ended_at,
        expires_at=job.expires_at,
        error=None if good else job.reason,
        payment_status=paid,
        reward=optional_amount_of(job.earned_units),
        receipt_id=job.receipt,
    )
