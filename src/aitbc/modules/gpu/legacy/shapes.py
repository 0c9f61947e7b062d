"""The bodies and answers of the older dialect: numbers for money, its own words for states, and fields that it does not know passed over."""  # noqa: E501

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from aitbc.kernel.primitives import money
from aitbc.modules.gpu.api import SLOTS_MAX, Device, Miner
from aitbc.modules.gpu.legacy.naming import amount_of
from aitbc.modules.gpu.service.legacy_miners import LegacyMiner
from aitbc.modules.gpu.service.miner_history import MinerRecord, WorkedJob

SERVICE = "gpu-service"
ASSET = "AITBC"
STATUS = {"enrolled": "OFFLINE", "online": "ONLINE", "draining": "DRAINING", "offline": "OFFLINE", "removed": "OFFLINE"}
STATE = {
    "running": "RUNNING",
    "succeeded": "COMPLETED",
    "failed": "FAILED",
    "lost": "FAILED",
    "released": "QUEUED",
    "canceled": "CANCELED",
}
"""Of a miner's attempts, as the states of their jobs were called."""
MIB_PER_GIB = 1024

Told = Annotated[str, Meta(max_length=200)]
Words = Annotated[str, Meta(max_length=16_384)]


class RegisterBody(Struct, frozen=True, kw_only=True):
    """A miner says that it is there."""

    miner_id: Told | None = None
    capabilities: dict[str, Any] = {}
    concurrency: Annotated[int, Meta(ge=1, le=SLOTS_MAX)] | None = None
    region: Told | None = None


class HeartbeatBody(Struct, frozen=True, kw_only=True):
    """A miner says that it is still there."""

    miner_id: Told | None = None
    inflight: Annotated[int, Meta(ge=0, le=SLOTS_MAX)] | None = None
    current_jobs: Annotated[int, Meta(ge=0, le=SLOTS_MAX)] | None = None
    status: Told = "ONLINE"
    gpu_utilization: Annotated[float, Meta(ge=0, le=100)] | None = None
    memory_used: Annotated[float, Meta(ge=0, le=2**40)] | None = None


class PollBody(Struct, frozen=True, kw_only=True):
    """A miner asks for work."""

    miner_id: Told | None = None
    max_wait_seconds: Annotated[float, Meta(ge=0, le=86_400)] | None = None


class ResultBody(Struct, frozen=True, kw_only=True):
    """A miner brings what came out."""

    miner_id: Told | None = None
    result: Any = None
    success: bool | None = None
    metrics: dict[str, Any] | None = None


class FailBody(Struct, frozen=True, kw_only=True):
    """A miner gives up."""

    miner_id: Told | None = None
    error: Any = None
    error_code: Told = ""
    error_message: Words = ""


class Done(Struct, frozen=True, kw_only=True):
    """It was done."""

    status: str = "ok"


class Assigned(Struct, frozen=True, kw_only=True):
    """A job for the miner that asked."""

    job_id: str
    payload: dict[str, Any]
    constraints: dict[str, Any]
    expires_at: datetime
    """Send a sign of life before, or the job may go to another."""


class Gpu(Struct, frozen=True, kw_only=True):
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


class MinerView(Struct, frozen=True, kw_only=True):
    """A miner as administrators saw it."""

    miner_id: str
    id: str
    """Its id in this house."""
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
    gpus: list[Gpu]


class Earned(Struct, frozen=True, kw_only=True):
    """A job that a miner was paid for."""

    job_id: str
    receipt_id: str
    amount: float | None
    """None where the ledger was told later; the sum has it."""
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


def gpu_view(older: LegacyMiner, gpu: str, device: Device, *, busy: bool) -> Gpu:
    """A GPU as the older dialect shows it."""
    miner = older.miner
    status = "offline" if miner.status != "online" else "booked" if busy else "available"
    memory = device.memory_total_mib
    return Gpu(
        id=gpu,
        model=device.name,
        memory_gb=None if memory is None else round(memory / MIB_PER_GIB),
        status=status,
        price_per_hour=None if older.price_units is None else amount_of(older.price_units),
        region=miner.region,
        created_at=miner.created_at,
        compute_capability=device.compute_capability,
    )


def miner_view(older: LegacyMiner, record: MinerRecord, gpus: list[Gpu]) -> MinerView:
    """A miner as administrators saw it."""
    miner = older.miner
    return MinerView(
        miner_id=older.legacy_id,
        id=miner.id,
        status=STATUS[miner.status],
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
    """A miner's job as the older dialect shows it."""
    good = job.outcome in ("running", "succeeded")
    paid = "released" if job.receipt is not None else "escrowed" if job.outcome == "running" else None
    return JobView(
        job_id=job.job,
        job_type=job.kind,
        state=STATE[job.outcome],
        assigned_miner_id=legacy_id,
        requested_at=job.made_at,
        started_at=job.started_at,
        completed_at=job.ended_at,
        expires_at=job.expires_at,
        error=None if good else job.reason,
        payment_status=paid,
        reward=None if job.earned_units is None else amount_of(job.earned_units),
        receipt_id=job.receipt,
    )


def as_number(amount: str) -> float:
    """An amount of ours as a number."""
    return amount_of(money.parse(amount, zero=True))


def is_busy(miner: Miner, record: MinerRecord) -> bool:
    """Whether every slot of a miner works."""
    return record.inflight >= miner.slots
