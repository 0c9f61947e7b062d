"""Jobs and their payments as the older coordinator had them."""

from datetime import datetime
from typing import Annotated

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import NotFound
from aitbc.modules.ai.api import Job, JobDetail
from aitbc.modules.ai.legacy import desk
from aitbc.modules.ai.legacy.shapes import (
    CREATE,
    READ,
    AmountAboveHeld,
    Count,
    JobNotReady,
    JobResult,
    NewJob,
    NotRefundable,
    Payment,
    ReceiptSummary,
    Word,
    error_of,
    miner_of,
    payment_of,
    payment_status,
    receipt_of,
    result_of,
)
from aitbc.modules.ai.models.life import IllegalMove
from aitbc.modules.ai.service import AiService

NATURAL = CREATE | {"idempotency": "natural"}
STATES = {"queued": "QUEUED", "leased": "QUEUED", "running": "RUNNING", "succeeded": "COMPLETED"}
Offset = Annotated[int, Meta(ge=0, le=10_000)]
Amount = Annotated[float, Meta(gt=0, le=1e9)]


class ReceiptNotAvailable(NotFound):
    """Receipt not available: a job gets one when its result has been paid."""

    code = "receipt_not_available"


class CoordinatorJob(Struct, frozen=True, kw_only=True):
    """A job, as the coordinator told it."""

    job_id: str
    state: str
    status: str
    job_type: str
    assigned_miner_id: str | None
    requested_at: datetime
    expires_at: datetime | None
    error: str | None
    payment_id: str
    payment_status: str


class CoordinatorJobs(Struct, frozen=True, kw_only=True):
    """Jobs, newest first."""

    items: tuple[CoordinatorJob, ...]
    total: int
    limit: int
    offset: int


class History(Struct, frozen=True, kw_only=True):
    """Jobs of a stretch of time, newest first."""

    items: tuple[CoordinatorJob, ...]
    total: int
    limit: int
    offset: int
    from_time: str | None
    to_time: str | None


class Receipts(Struct, frozen=True, kw_only=True):
    """The receipts of a job: one at most."""

    items: tuple[ReceiptSummary, ...]
    next_cursor: None = None


class Pay(Struct, frozen=True, kw_only=True):
    """A payment for a job."""

    job_id: str
    amount: Amount


class Moved(Struct, frozen=True, kw_only=True):
    """What became of a payment."""

    status: str
    payment_id: str


class CoordinatorJobController(Controller):
    """The caller's jobs."""

    @post("/v1/jobs", opt=CREATE)
    async def submit(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[NewJob],
    ) -> Response[CoordinatorJob]:
        """Submit a job."""
        return Response(told_of(await desk.submit(ai, who, data, once)), status_code=201)

    @get("/v1/jobs", opt=READ)
    async def listed(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        limit: FromQuery[Count] = 20,
        offset: FromQuery[Offset] = 0,
        status: Word = None,
        job_type: Word = None,
    ) -> CoordinatorJobs:
        """Jobs from the newest on."""
        found = await desk.listed(ai, who, limit=limit, offset=offset, state=status, kind=job_type)
        items = tuple(told_of(job) for job in found)
        return CoordinatorJobs(items=items, total=len(items), limit=limit, offset=offset)

    @get("/v1/jobs/history", opt=READ)
    async def history(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        limit: FromQuery[Count] = 20,
        offset: FromQuery[Offset] = 0,
        status: Word = None,
        job_type: Word = None,
        from_time: Word = None,
        to_time: Word = None,
    ) -> History:
        """Jobs of a stretch of time."""
        found = await desk.listed(
            ai, who, limit=limit, offset=offset, state=status, kind=job_type, since=from_time, until=to_time
        )
        items = tuple(told_of(job) for job in found)
        return History(items=items, total=len(items), limit=limit, offset=offset, from_time=from_time, to_time=to_time)

    @get("/jobs", opt=READ)
    async def plain(
        self, ai: NamedDependency[AiService], who: NamedDependency[Principal], limit: FromQuery[Count] = 100
    ) -> list[CoordinatorJob]:
        """The newest jobs as a bare list, for those who only count them."""
        return [told_of(job) for job in await desk.listed(ai, who, limit=limit)]

    @get("/v1/jobs/{job:str}", opt=READ)
    async def one(
        self, ai: NamedDependency[AiService], who: NamedDependency[Principal], job: FromPath[str]
    ) -> CoordinatorJob:
        """A job."""
        return told_of(await ai.jobs.get(who, job))

    @get("/v1/jobs/{job:str}/result", opt=READ)
    async def result(
        self, ai: NamedDependency[AiService], who: NamedDependency[Principal], job: FromPath[str]
    ) -> JobResult:
        """What became of it; 425 while it may still become something."""
        return result_of(await ai.jobs.get(who, job))

    @post("/v1/jobs/{job:str}/cancel", status_code=200, opt=CREATE)
    async def cancel(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        job: FromPath[str],
    ) -> CoordinatorJob:
        """Cancel a job that has not ended."""
        return told_of(await desk.cancel(ai, who, job, once, IllegalMove))

    @get("/v1/jobs/{job:str}/receipt", opt=READ)
    async def receipt(
        self, ai: NamedDependency[AiService], who: NamedDependency[Principal], job: FromPath[str]
    ) -> ReceiptSummary:
        """What its receipt says."""
        found = receipt_of(await ai.jobs.get(who, job))
        if found is None:
            raise ReceiptNotAvailable
        return found

    @get("/v1/jobs/{job:str}/receipts", opt=READ)
    async def receipts(
        self, ai: NamedDependency[AiService], who: NamedDependency[Principal], job: FromPath[str]
    ) -> Receipts:
        """Its receipt, if there is one."""
        found = receipt_of(await ai.jobs.get(who, job))
        return Receipts(items=() if found is None else (found,))


class CoordinatorPayments(Controller):
    """The money of jobs, which is held when they are submitted."""

    @get("/v1/jobs/{job:str}/payment", opt=READ)
    async def of_job(
        self, ai: NamedDependency[AiService], who: NamedDependency[Principal], job: FromPath[str]
    ) -> Payment:
        """What the money of a job does."""
        return payment_of(await ai.jobs.get(who, job))

    @post("/v1/payments", opt=NATURAL)
    async def pay(
        self, ai: NamedDependency[AiService], who: NamedDependency[Principal], data: JSONBody[Pay]
    ) -> Response[Payment]:
        """The payment that a job has had since it was submitted; more than that cannot be added."""
        found = payment_of(await ai.jobs.get(who, data.job_id))
        if data.amount > found.amount:
            raise AmountAboveHeld(f"{found.amount} AITBC are held for this job; submit it again to offer more.")
        return Response(found, status_code=201)

    @get("/v1/payments/{payment:str}", opt=READ)
    async def payment(
        self, ai: NamedDependency[AiService], who: NamedDependency[Principal], payment: FromPath[str]
    ) -> Payment:
        """A payment."""
        return payment_of(await desk.job_of_payment(ai, who, payment))

    @get("/v1/payments/{payment:str}/receipt", opt=READ)
    async def receipt(
        self, ai: NamedDependency[AiService], who: NamedDependency[Principal], payment: FromPath[str]
    ) -> Payment:
        """The same: the signed receipt of a paid job is at `/api/v1/trading/receipts`."""
        return payment_of(await desk.job_of_payment(ai, who, payment))

    @post("/v1/payments/{payment:str}/release", status_code=200, opt=NATURAL)
    async def release(
        self, ai: NamedDependency[AiService], who: NamedDependency[Principal], payment: FromPath[str]
    ) -> Moved:
        """Released is what an accepted result has paid; nobody's word can do it."""
        found = payment_of(await desk.job_of_payment(ai, who, payment))
        if found.status == "escrowed":
            raise JobNotReady
        if found.status == "refunded":
            raise NotRefundable("The money went back when the job ended, so there is nothing to release.")
        return Moved(status="released", payment_id=payment)

    @post("/v1/payments/{payment:str}/refund", status_code=200, opt=CREATE)
    async def refund(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        payment: FromPath[str],
    ) -> Moved:
        """Give the money back: the job is cancelled if it has not ended."""
        job = await desk.job_of_payment(ai, who, payment)
        if payment_status(job) == "released":
            raise NotRefundable
        if payment_status(job) == "escrowed":
            await ai.stops.cancel(who, job.id, once)
        return Moved(status="refunded", payment_id=payment)


def told_of(job: Job) -> CoordinatorJob:
    """A job in the coordinator's shape."""
    state = STATES.get(job.state, job.state.upper())
    return CoordinatorJob(
        job_id=job.id,
        state=state,
        status=state,
        job_type=job.kind,
        assigned_miner_id=miner_of(job) if isinstance(job, JobDetail) else None,
        requested_at=job.created_at,
        expires_at=job.expires_at,
        error=error_of(job),
        payment_id=payment_of(job).payment_id,
        payment_status=payment_status(job),
    )
