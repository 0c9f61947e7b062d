"""Jobs on the ai service's own port, its operator's paths included."""

from typing import Annotated

from litestar import Controller, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.modules.ai.legacy import desk
from aitbc.modules.ai.legacy.shapes import (
    CREATE,
    READ,
    Count,
    JobAlreadyEnded,
    JobList,
    JobResult,
    JobView,
    NewJob,
    Payment,
    Word,
    payment_of,
    result_of,
    view_of,
)
from aitbc.modules.ai.service import AiService

InState = Annotated[str | None, Meta(max_length=100), QueryParameter(name="state")]
OPERATE = {"permission": "jobs:operate"}


class Reason(Struct, frozen=True, kw_only=True):
    """Why an operator does something."""

    reason: str | None = None


class OlderJobs(Controller):
    """The caller's jobs."""

    @post("/jobs", opt=CREATE)
    async def submit(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[NewJob],
        client_id: Word = None,
    ) -> Response[JobView]:
        """Submit a job. Whose it is the key says, not `client_id`."""
        del client_id
        job = await desk.submit(ai, who, data, once)
        return Response(view_of(job, account=who.account), status_code=201)

    @get("/jobs", opt=READ)
    async def listed(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        limit: FromQuery[Count] = 10,
        in_state: InState = None,
        status: Word = None,
        type: Word = None,  # noqa: A002 - the wire's name
        from_time: Word = None,
        to_time: Word = None,
        client_id: Word = None,
    ) -> JobList:
        """The newest jobs."""
        del client_id
        found = await desk.listed(
            ai, who, limit=limit, state=in_state or status, kind=type, since=from_time, until=to_time
        )
        views = tuple(view_of(job, account=None if who.is_admin else who.account) for job in found)
        return JobList(jobs=views, limit=limit, total=len(views))

    @get("/jobs/{job:str}", opt=READ)
    async def one(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        job: FromPath[str],
        client_id: Word = None,
    ) -> JobView:
        """A job."""
        del client_id
        return view_of(await ai.jobs.get(who, job), account=None if who.is_admin else who.account)

    @get("/jobs/{job:str}/result", opt=READ)
    async def result(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        job: FromPath[str],
        client_id: Word = None,
    ) -> JobResult:
        """What became of it; 425 while it may still become something."""
        del client_id
        return result_of(await ai.jobs.get(who, job))

    @get("/jobs/{job:str}/payment", opt=READ)
    async def payment(
        self, ai: NamedDependency[AiService], who: NamedDependency[Principal], job: FromPath[str]
    ) -> Payment:
        """What its money does."""
        return payment_of(await ai.jobs.get(who, job))

    @post("/jobs/{job:str}/cancel", status_code=200, opt=CREATE)
    async def cancel(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        job: FromPath[str],
        client_id: Word = None,
    ) -> JobView:
        """Cancel a job that has not ended."""
        del client_id
        return view_of(await desk.cancel(ai, who, job, once, JobAlreadyEnded), account=who.account)


class OlderOperator(Controller):
    """Everybody's jobs, for the operator."""

    @get("/admin/jobs", opt=OPERATE)
    async def listed(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        limit: FromQuery[Count] = 50,
        status: Word = None,
    ) -> JobList:
        """The newest jobs of all."""
        views = tuple(view_of(job, account=None) for job in await desk.listed(ai, who, limit=limit, state=status))
        return JobList(jobs=views, limit=limit, total=len(views))

    @get("/admin/jobs/{job:str}", opt=OPERATE)
    async def one(self, ai: NamedDependency[AiService], who: NamedDependency[Principal], job: FromPath[str]) -> JobView:
        """Anybody's job."""
        return view_of(await ai.jobs.get(who, job), account=None)

    @post("/admin/jobs/{job:str}/prioritize", status_code=200, opt=OPERATE | {"idempotency": "natural"})
    async def prioritize(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        job: FromPath[str],
        data: JSONBody[Reason],
    ) -> JobView:
        """Put a job that waits before all others."""
        return view_of(await ai.job_queue.put_first(who, job, data.reason), account=None)

    @delete("/admin/jobs/{job:str}", status_code=200, opt=OPERATE)
    async def remove(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        job: FromPath[str],
    ) -> JobView:
        """Cancel anybody's job; what has ended stays, since it is booked."""
        return view_of(await desk.cancel(ai, who, job, once, JobAlreadyEnded), account=None)
