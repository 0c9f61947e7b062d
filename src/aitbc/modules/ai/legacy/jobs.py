"""A job's life in the legacy dialect: on the module's port, behind the coordinator, and for the operator."""

from typing import Annotated

from litestar import Controller, Response, delete, get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.legacy.health import HealthController
from aitbc.kernel.legacy.paging import CountedItems, Limit, Offset, Word
from aitbc.kernel.primitives.errors import NotFound
from aitbc.modules.ai.legacy.caller import CREATE, OPERATE, READ, Ai
from aitbc.modules.ai.legacy.job_lists import list_jobs
from aitbc.modules.ai.legacy.shapes import (
    SERVICE,
    CoordinatorJob,
    History,
    JobAlreadyEnded,
    JobList,
    JobResult,
    JobView,
    NewJob,
    Payment,
    Receipts,
    ReceiptSummary,
    coordinator_view,
    payment_of,
    receipt_of,
    result_of,
    view_of,
)
from aitbc.modules.ai.legacy.submission import submit
from aitbc.modules.ai.models.life import IllegalMove
from aitbc.modules.ai.service import AiService
from aitbc.modules.ai.service.jobs import OwnedJob

InState = Annotated[str | None, Meta(max_length=100), QueryParameter(name="state")]


class ReceiptNotAvailable(NotFound):
    """Receipt not available: a job gets one when its result has been paid."""

    code = "receipt_not_available"


class Reason(Struct, frozen=True, kw_only=True):
    """Why an operator does something."""

    reason: str | None = None


class JobController(Controller):
    """What both addresses do alike; each shows a job in its own shape. Whose a job is the key says, not `client_id`."""

    def view(self, owned: OwnedJob) -> Struct:
        """A job with those whom it concerns."""
        raise NotImplementedError

    @post("/jobs", opt=CREATE)
    async def submit(
        self, ai: Ai, who: Who, once: Once, data: JSONBody[NewJob], client_id: Word = None
    ) -> Response[Struct]:
        """Submit a job."""
        del client_id
        job = await submit(ai, who, data, once)
        return Response(self.view(OwnedJob(job=job, account=who.account, miner=None)), status_code=201)

    @get("/jobs/{job:str}", opt=READ)
    async def one(self, ai: Ai, who: Who, job: FromPath[str], client_id: Word = None) -> Struct:
        """A job."""
        del client_id
        return self.view(await ai.jobs.owned(who, job))

    @get("/jobs/{job:str}/result", opt=READ)
    async def result(self, ai: Ai, who: Who, job: FromPath[str], client_id: Word = None) -> JobResult:
        """What became of it; 425 while it may still become something."""
        del client_id
        return result_of(await ai.jobs.get(who, job))

    @get("/jobs/{job:str}/payment", opt=READ)
    async def payment(self, ai: Ai, who: Who, job: FromPath[str]) -> Payment:
        """What its money does."""
        return payment_of(await ai.jobs.get(who, job))

    @post("/jobs/{job:str}/cancel", status_code=200, opt=CREATE)
    async def cancel(self, ai: Ai, who: Who, once: Once, job: FromPath[str], client_id: Word = None) -> Struct:
        """Cancel a job that has not ended."""
        del client_id
        return self.view(await self.canceled(ai, who, job, once))

    async def canceled(self, ai: AiService, who: Principal, job: str, once: IdempotencyKey) -> OwnedJob:
        """A job that had not ended, canceled."""
        await ai.stops.cancel_open(who, job, once)
        return await ai.jobs.owned(who, job)


class LegacyJobs(JobController):
    """The caller's jobs, on the module's own port."""

    def view(self, owned: OwnedJob) -> JobView:
        """As the service before showed it."""
        return view_of(owned)

    async def canceled(self, ai: AiService, who: Principal, job: str, once: IdempotencyKey) -> OwnedJob:
        """Refused as that did."""
        return await cancel(ai, who, job, once)

    @get("/jobs", opt=READ)
    async def listed(
        self,
        ai: Ai,
        who: Who,
        limit: FromQuery[Limit] = 10,
        in_state: InState = None,
        status: Word = None,
        type: Word = None,  # noqa: A002 - the wire's name
        from_time: Word = None,
        to_time: Word = None,
        client_id: Word = None,
    ) -> JobList:
        """The newest jobs."""
        del client_id
        found = await list_jobs(
            ai, who, limit=limit, state=in_state or status, task=type, since=from_time, until=to_time
        )
        views = tuple(map(view_of, found))
        return JobList(jobs=views, limit=limit, total=len(views))


class ReinforcedJobs(LegacyJobs, HealthController):
    """The same where the coordinator passed them on."""

    path = "/v1/multi-modal-rl"
    service = SERVICE


class CoordinatorJobs(JobController):
    """The caller's jobs, behind the coordinator."""

    path = "/v1"

    def view(self, owned: OwnedJob) -> CoordinatorJob:
        """As the coordinator showed it."""
        return coordinator_view(owned)

    @get("/jobs/{job:str}/receipt", opt=READ)
    async def receipt(self, ai: Ai, who: Who, job: FromPath[str]) -> ReceiptSummary:
        """What its receipt says."""
        found = receipt_of(await ai.jobs.get(who, job))
        if found is None:
            raise ReceiptNotAvailable
        return found

    @get("/jobs/{job:str}/receipts", opt=READ)
    async def receipts(self, ai: Ai, who: Who, job: FromPath[str]) -> Receipts:
        """Its receipt, if there is one."""
        found = receipt_of(await ai.jobs.get(who, job))
        return Receipts(items=() if found is None else (found,))


class CoordinatorJobLists(Controller):
    """Lists of the caller's jobs in the three forms that clients of the coordinator read."""

    @get("/v1/jobs", opt=READ)
    async def listed(
        self,
        ai: Ai,
        who: Who,
        limit: FromQuery[Limit] = 20,
        offset: FromQuery[Offset] = 0,
        status: Word = None,
        job_type: Word = None,
    ) -> CountedItems[CoordinatorJob]:
        """Jobs from the newest on."""
        found = await list_jobs(ai, who, limit=limit, offset=offset, state=status, task=job_type)
        items = tuple(map(coordinator_view, found))
        return CountedItems(items=items, total=len(items), limit=limit, offset=offset)

    @get("/v1/jobs/history", opt=READ)
    async def history(
        self,
        ai: Ai,
        who: Who,
        limit: FromQuery[Limit] = 20,
        offset: FromQuery[Offset] = 0,
        status: Word = None,
        job_type: Word = None,
        from_time: Word = None,
        to_time: Word = None,
    ) -> History:
        """Jobs of a stretch of time."""
        found = await list_jobs(
            ai, who, limit=limit, offset=offset, state=status, task=job_type, since=from_time, until=to_time
        )
        items = tuple(map(coordinator_view, found))
        return History(items=items, total=len(items), limit=limit, offset=offset, from_time=from_time, to_time=to_time)

    @get("/jobs", opt=READ)
    async def bare(self, ai: Ai, who: Who, limit: FromQuery[Limit] = 100) -> list[CoordinatorJob]:
        """The newest jobs as a bare list, for those who only count them."""
        return [coordinator_view(job) for job in await list_jobs(ai, who, limit=limit)]


class OperatorJobs(Controller):
    """Everybody's jobs, for the operator."""

    path = "/admin/jobs"

    @get("/", opt=OPERATE)
    async def listed(self, ai: Ai, who: Who, limit: FromQuery[Limit] = 50, status: Word = None) -> JobList:
        """The newest jobs of all."""
        views = tuple(map(view_of, await list_jobs(ai, who, limit=limit, state=status)))
        return JobList(jobs=views, limit=limit, total=len(views))

    @get("/{job:str}", opt=OPERATE)
    async def one(self, ai: Ai, who: Who, job: FromPath[str]) -> JobView:
        """Anybody's job."""
        return view_of(await ai.jobs.owned(who, job))

    @post("/{job:str}/prioritize", status_code=200, opt=OPERATE | {"idempotency": "natural"})
    async def prioritize(self, ai: Ai, who: Who, job: FromPath[str], data: JSONBody[Reason]) -> JobView:
        """Put a job that waits before all others."""
        await ai.job_queue.put_first(who, job, data.reason)
        return view_of(await ai.jobs.owned(who, job))

    @delete("/{job:str}", status_code=200, opt=OPERATE)
    async def remove(self, ai: Ai, who: Who, once: Once, job: FromPath[str]) -> JobView:
        """Cancel anybody's job; what has ended stays, since it is booked."""
        return view_of(await cancel(ai, who, job, once))


async def cancel(ai: AiService, who: Principal, job: str, once: IdempotencyKey) -> OwnedJob:
    """Cancel a job. Raises `JobAlreadyEnded`, as the service before refused what has ended."""
    try:
        await ai.stops.cancel_open(who, job, once)
    except IllegalMove:
        raise JobAlreadyEnded from None
    return await ai.jobs.owned(who, job)
