"""Bodies and answers of the legacy dialect, made from our jobs."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from aitbc.kernel.legacy.amounts import Amount, PositiveAmount
from aitbc.kernel.legacy.paging import CountedItems
from aitbc.kernel.legacy.states import StateNames
from aitbc.kernel.legacy.task_types import task_of
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.money import ASSET
from aitbc.modules.ai.api import Clocks, Job, JobDetail
from aitbc.modules.ai.models.life import OPEN, PaymentState, payment_state
from aitbc.modules.ai.service.job_payments import JobNotReady
from aitbc.modules.ai.service.jobs import OwnedJob

SERVICE = "ai-service"
METHOD = "aitbc_token"
STATES = StateNames(
    {
        "queued": "pending",
        "leased": "pending",
        "running": "running",
        "succeeded": "completed",
        "failed": "failed",
        "canceled": "canceled",
        "expired": "expired",
    },
    aliases={"queued": "pending", "succeeded": "completed", "paid": "completed", "cancelled": "canceled"},
)
COORDINATOR_STATES = StateNames(
    {
        "queued": "QUEUED",
        "leased": "QUEUED",
        "running": "RUNNING",
        "succeeded": "COMPLETED",
        "failed": "FAILED",
        "canceled": "CANCELED",
        "expired": "EXPIRED",
    }
)
PAYMENTS = {PaymentState.HELD: "escrowed", PaymentState.PAID: "released", PaymentState.RETURNED: "refunded"}


class JobAlreadyEnded(AppError):
    """Job already completed: there is nothing left to cancel."""

    status, code, exit_code = 400, "job_already_ended", 5


class Constraints(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the miner must be, as legacy clients write it. What cannot be held is refused, never left out of account."""

    gpu: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    cuda: Annotated[str, Meta(max_length=100)] | None = None
    min_vram_gb: Annotated[int, Meta(ge=0, le=16_384)] | None = None
    models: Annotated[list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(max_length=100)] | None = None
    region: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    max_price: PositiveAmount | None = None
    """The most that the job may cost."""


class NewJob(Struct, frozen=True, kw_only=True):
    """A job as either generation of legacy clients describes it; what else they say is passed over."""

    task_type: Annotated[str, Meta(max_length=60)] | None = None
    task_data: dict[str, Any] | None = None
    payload: dict[str, Any] | None = None
    constraints: Constraints = Constraints()
    payment_amount: Amount | None = None
    payment_currency: Literal["AITBC", "aitbc", "aitbc_token"] = "AITBC"
    priority: Annotated[int, Meta(ge=0, le=1000)] = 0
    ttl_seconds: Annotated[int, Meta(ge=1, le=604_800)] = Clocks().queue_seconds


class JobView(Struct, frozen=True, kw_only=True):
    """A job, as the ai service before showed it."""

    id: str
    job_id: str
    client_id: str
    """The account that submitted it."""
    task_type: str
    state: str
    status: str
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    result: Any
    """None in lists, and before success."""
    error: str | None
    payment_status: str
    assigned_miner_id: str | None
    """Who took it last."""


class JobList(Struct, frozen=True, kw_only=True):
    """Jobs, newest first; `total` is how many are in this answer."""

    jobs: tuple[JobView, ...]
    limit: int
    total: int


class CoordinatorJob(Struct, frozen=True, kw_only=True):
    """A job, as the coordinator showed it."""

    job_id: str
    client_id: str
    """The account that submitted it."""
    state: str
    """In upper case."""
    status: str
    """The same in lower case and in the words that clients count: `pending`, `running`, `completed`, …"""
    job_type: str
    assigned_miner_id: str | None
    """Who took it last."""
    requested_at: datetime
    expires_at: datetime | None
    error: str | None
    payment_id: str
    payment_status: str


class History(CountedItems[CoordinatorJob], frozen=True, kw_only=True):
    """Jobs of a stretch of time, newest first."""

    from_time: str | None
    to_time: str | None


class ReceiptSummary(Struct, frozen=True, kw_only=True):
    """What a paid job came to; the signed receipt is at `/api/v1/trading/receipts/{receipt_id}`."""

    receipt_id: str
    job_id: str
    provider: str | None
    units: int | None
    unit_type: str
    price: float | None
    started_at: datetime | None
    completed_at: datetime | None
    output_digest: str | None


class Receipts(Struct, frozen=True, kw_only=True):
    """The receipts of a job: one at most."""

    items: tuple[ReceiptSummary, ...]
    next_cursor: None = None


class JobResult(Struct, frozen=True, kw_only=True):
    """What became of a job that has ended."""

    id: str
    job_id: str
    state: str
    result: Any
    error: str | None
    completed_at: datetime | None
    receipt: ReceiptSummary | None


class Payment(Struct, frozen=True, kw_only=True):
    """The money of a job: held when it is submitted, paid when it succeeds, given back when it ends otherwise."""

    payment_id: str
    job_id: str
    amount: float
    """What was held; once paid, what it cost."""
    currency: str
    status: str
    """`escrowed`, `released` or `refunded`."""
    payment_method: str
    created_at: datetime
    updated_at: datetime
    released_at: datetime | None
    refunded_at: datetime | None


def view_of(owned: OwnedJob) -> JobView:
    """A job in the legacy shape."""
    job = owned.job
    return JobView(
        id=job.id,
        job_id=job.id,
        client_id=owned.account,
        task_type=task_of(job.kind),
        state=STATES.word(job.state),
        status=STATES.word(job.state),
        created_at=job.created_at,
        started_at=job.started_at,
        completed_at=job.completed_at,
        result=job.output if isinstance(job, JobDetail) else None,
        error=error_of(job),
        payment_status=payment_status(job),
        assigned_miner_id=owned.miner,
    )


def coordinator_view(owned: OwnedJob) -> CoordinatorJob:
    """A job in the coordinator's shape."""
    job = owned.job
    return CoordinatorJob(
        job_id=job.id,
        client_id=owned.account,
        state=COORDINATOR_STATES.word(job.state),
        status=STATES.word(job.state),
        job_type=task_of(job.kind),
        assigned_miner_id=owned.miner,
        requested_at=job.created_at,
        expires_at=job.expires_at,
        error=error_of(job),
        payment_id=payment_of(job).payment_id,
        payment_status=payment_status(job),
    )


def result_of(job: JobDetail) -> JobResult:
    """The result of a job. Raises `JobNotReady`."""
    if job.state in OPEN:
        raise JobNotReady
    return JobResult(
        id=job.id,
        job_id=job.id,
        state=STATES.word(job.state),
        result=job.output,
        error=error_of(job),
        completed_at=job.completed_at,
        receipt=receipt_of(job),
    )


def receipt_of(job: JobDetail) -> ReceiptSummary | None:
    """What a job's receipt says, as far as the job knows it; none without one."""
    if job.receipt is None:
        return None
    return ReceiptSummary(
        receipt_id=job.receipt,
        job_id=job.id,
        provider=job.history[-1].miner if job.history else None,
        units=job.units,
        unit_type=job.unit,
        price=None if job.price is None else float(job.price),
        started_at=job.started_at,
        completed_at=job.completed_at,
        output_digest=job.output_digest,
    )


def payment_of(job: Job) -> Payment:
    """The payment of a job; its id is the hold's, which the job's gives."""
    status, ended = payment_status(job), job.completed_at
    return Payment(
        payment_id=ids.encode("hold", ids.decode("job", job.id)),
        job_id=job.id,
        amount=float(job.price if job.price is not None else job.max_price),
        currency=ASSET,
        status=status,
        payment_method=METHOD,
        created_at=job.created_at,
        updated_at=ended or job.created_at,
        released_at=ended if status == "released" else None,
        refunded_at=ended if status == "refunded" else None,
    )


def payment_status(job: Job) -> str:
    """Where the money of a job is, in the legacy word."""
    return PAYMENTS[payment_state(job.state)]


def error_of(job: Job) -> str | None:
    """Why a job did not succeed; none while it may."""
    return job.reason if job.state in ("failed", "expired") else None


def not_offered(what: str) -> str:
    """The reason to refuse what is no kind of work."""
    return f"{what} is not offered: there is no kind of work for it. GET /api/v1/ai/kinds lists what there is."
