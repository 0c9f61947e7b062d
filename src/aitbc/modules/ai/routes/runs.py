"""The HTTP of runs: jobs submitted and awaited in one request, or submitted and followed."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from litestar import Controller, Request, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody
from litestar.response import Stream
from msgspec import Meta
from msgspec.structs import asdict

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.disconnect import cancel_on_disconnect, disconnect_of
from aitbc.kernel.identity.principal import Principal
from aitbc.modules.ai.api import Job, JobDetail
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.ai.routes.jobs import SUBMISSION_ERRORS, admit, event_stream
from aitbc.modules.ai.service.job_events import JobEvent, JobEvents
from aitbc.modules.ai.service.jobs import Jobs
from aitbc.modules.ai.service.rate_gate import RateGate
from aitbc.modules.ai.service.runs import DisconnectGuard, OnDisconnect, Runs
from aitbc.modules.ai.service.submissions import Submissions

ATTENDED_SECONDS_MAX = 75
Seconds = Annotated[float, Meta(ge=0, le=ATTENDED_SECONDS_MAX, description="How long to wait for its end at most.")]
Wish = Annotated[
    OnDisconnect,
    Meta(description="What becomes of the job when the client leaves before its answer: `stop` or `continue`."),
]
SUBMIT = {"permission": "jobs:create", "lasts": True, "idempotency": "required", "errors": SUBMISSION_ERRORS}
AnyRequest = Request[Any, Any, Any]


class RunController(Controller):
    """Jobs whose clients stay."""

    path = "/runs"
    tags = ("ai",)

    @post("/sync", operation_id="submit_and_wait", summary="Submit a job and wait", status_code=200, opt=SUBMIT)
    async def sync(
        self,
        submissions: NamedDependency[Submissions],
        rate_gate: NamedDependency[RateGate],
        jobs: NamedDependency[Jobs],
        runs: NamedDependency[Runs],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        request: AnyRequest,
        data: JSONBody[SubmitJob],
        seconds: FromQuery[Seconds] = 60.0,
        on_disconnect: FromQuery[Wish] = "stop",
    ) -> JobDetail:
        """Submit a job and answer once it has ended, or as it is when the time is up: `state` says which.

        The job is the same as of the other forms, and goes on by itself when the time is up. When the client leaves
        before its answer, the job is stopped: `chat` that has a miner is finished early and paid for what it
        delivered, all else is canceled. Repeating the request with the same Idempotency-Key waits for the same job.
        """
        await admit(rate_gate, who, data)
        job = await submissions.submit(who, data, once)
        disconnect = disconnect_of(request.scope)
        guard = runs.guard(who, job, disconnect, on_disconnect)
        try:
            cancel_on_disconnect(disconnect)
            return await jobs.wait(who, job.id, seconds)
        finally:
            guard.disarm()

    @post(
        "/stream",
        operation_id="submit_and_follow",
        summary="Submit a job and follow it",
        status_code=200,
        media_type="text/event-stream",
        opt=SUBMIT,
    )
    async def stream(
        self,
        submissions: NamedDependency[Submissions],
        rate_gate: NamedDependency[RateGate],
        runs: NamedDependency[Runs],
        job_events: NamedDependency[JobEvents],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        request: AnyRequest,
        data: JSONBody[SubmitJob],
        on_disconnect: FromQuery[Wish] = "stop",
    ) -> Stream:
        """Submit a job and answer with server-sent events: `job`, then its states, log lines and parts until its end.

        `chat` tells its text in `part` events as the model writes it. A connection that breaks stops the job, as with
        the form that waits; with `on_disconnect=continue` it goes on, and `GET /api/v1/ai/jobs/{job}/events` with the
        last id that was seen as `Last-Event-ID` goes on where it broke.
        """
        await admit(rate_gate, who, data)
        job = await submissions.submit(who, data, once)
        guard = runs.guard(who, job, disconnect_of(request.scope), on_disconnect)
        events = _attended(job, await job_events.follow(who, job.id, None), guard)
        headers = {"location": f"/api/v1/ai/jobs/{job.id}"}
        return Stream(event_stream(events), media_type="text/event-stream", headers=headers)


async def _attended(job: Job, events: AsyncIterator[JobEvent], guard: DisconnectGuard) -> AsyncIterator[JobEvent]:
    try:
        yield JobEvent(id=None, event="job", data=asdict(job))
        async for event in events:
            yield event
    finally:
        guard.disarm()
