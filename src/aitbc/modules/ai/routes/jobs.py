"""The HTTP of jobs."""

from collections.abc import AsyncIterator
from typing import Annotated, Literal

import msgspec
from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody, QueryParameter
from litestar.response import Stream
from msgspec import Meta

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.event_data import one_line
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page, decode_cursor
from aitbc.modules.ai.api import (
    BookingNotFound,
    BookingNotOpen,
    Job,
    JobDetail,
    JobNotFound,
    TooManyOpenJobs,
)
from aitbc.modules.ai.models.life import IllegalMove
from aitbc.modules.ai.models.prospects import Explanation
from aitbc.modules.ai.models.rate_limits import RateLimited
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.ai.routes.market import SUBMIT_ERRORS
from aitbc.modules.ai.service.explain import Explanations
from aitbc.modules.ai.service.job_events import InvalidEventId, JobEvent, JobEvents
from aitbc.modules.ai.service.job_logs import JobLogLine, JobLogs
from aitbc.modules.ai.service.jobs import Jobs
from aitbc.modules.ai.service.prices import SubmissionRefused
from aitbc.modules.ai.service.rate_gate import RateGate
from aitbc.modules.ai.service.stops import CannotStopEarly, Stops
from aitbc.modules.ai.service.submissions import MaxPriceTooLow, Submissions
from aitbc.modules.trading.api import BudgetExceeded, InsufficientFunds

LIST = "ai.jobs"
LOG = "ai.job_log"
StateName = Literal["queued", "leased", "running", "succeeded", "failed", "canceled", "expired"]
InState = Annotated[StateName | None, QueryParameter(name="state")]
KindName = Annotated[str, Meta(max_length=40)]
Seconds = Annotated[float, Meta(ge=0, le=60, description="How long to wait at most.")]
LastEventId = Annotated[str | None, HeaderParameter(name="Last-Event-ID", description="The last event that was seen.")]
SUBMISSION_ERRORS = (
    *SUBMIT_ERRORS,
    MaxPriceTooLow,
    SubmissionRefused,
    InsufficientFunds,
    BudgetExceeded,
    TooManyOpenJobs,
    BookingNotFound,
    BookingNotOpen,
    RateLimited,
)


async def admit(rate_gate: RateGate, who: Principal, command: SubmitJob) -> None:
    """Count a submission. Raises `RateLimited`."""
    model = command.requirements.model or command.input.get("model")
    model = model if isinstance(model, str) else None
    if rate_gate.limits(who, model):
        await rate_gate.admit(who, model)


READ = {"permission": "jobs:read", "errors": (JobNotFound,)}


class JobController(Controller):
    """Jobs: submitted, watched, explained and stopped."""

    path = "/jobs"
    tags = ("ai",)

    @post(
        "/",
        operation_id="submit_job",
        summary="Submit a job",
        opt={
            "permission": "jobs:create",
            "idempotency": "required",
            "errors": SUBMISSION_ERRORS,
        },
    )
    async def submit(
        self,
        submissions: NamedDependency[Submissions],
        rate_gate: NamedDependency[RateGate],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[SubmitJob],
    ) -> Response[Job]:
        """Submit a job: its kind checks the input, the maximum price is held, and miners may take it.

        It costs what the platform meters, never more than `max_price`, and nothing unless it succeeds. Repeating the
        request with the same Idempotency-Key gives the same job. `POST /api/v1/ai/quotes` says beforehand what the same
        body would cost, and changes nothing.
        """
        await admit(rate_gate, who, data)
        job = await submissions.submit(who, data, once)
        return Response(job, status_code=201, headers={"location": f"/api/v1/ai/jobs/{job.id}"})

    @get(
        "/", operation_id="list_jobs", summary="List jobs", opt={"permission": "jobs:read", "errors": (InvalidCursor,)}
    )
    async def list_jobs(
        self,
        jobs: NamedDependency[Jobs],
        who: NamedDependency[Principal],
        in_state: InState = None,
        status: FromQuery[StateName | None] = None,
        kind: FromQuery[KindName | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[Job]:
        """List the caller's jobs from the newest on, if wished only those in one state or of one kind.

        `status` is the older name of `state`.
        """
        state = in_state or status
        filters = (state or "", kind or "")
        after = after_id(LIST, cursor, "job", bound_to=filters)
        found = await jobs.page(who, state=state, kind=kind, after=after, limit=limit + 1)
        return Page.of(LIST, found, limit, lambda job: job.id, bound_to=filters)

    @get("/{job:str}", operation_id="get_job", summary="Get a job", opt=READ)
    async def get_job(
        self, jobs: NamedDependency[Jobs], who: NamedDependency[Principal], job: FromPath[str]
    ) -> JobDetail:
        """Get one job with its input, its result once it succeeded, and every attempt."""
        return await jobs.get(who, job)

    @post(
        "/{job:str}/cancel",
        operation_id="cancel_job",
        summary="Cancel a job",
        status_code=200,
        opt={"permission": "jobs:create", "errors": (JobNotFound, IllegalMove)},
    )
    async def cancel(
        self,
        stops: NamedDependency[Stops],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        job: FromPath[str],
    ) -> Job:
        """Cancel a job that has not ended. The money goes back, and a miner at work on it is told to stop."""
        return await stops.cancel(who, job, once)

    @post(
        "/{job:str}/stop",
        operation_id="stop_job",
        summary="Stop a job early",
        status_code=200,
        opt={"permission": "jobs:create", "errors": (JobNotFound, IllegalMove, CannotStopEarly)},
    )
    async def stop(
        self,
        stops: NamedDependency[Stops],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        job: FromPath[str],
    ) -> Job:
        """Finish a job early: what its miner delivered until now is the result, and is paid for with the prompt.

        The miner is told within a second or two, and has 10 seconds to sign what it delivered; else the job is
        canceled and the money goes back. A job that no miner has is canceled at once. Kinds that deliver only at
        their end cannot be stopped, only canceled.
        """
        return await stops.stop(who, job, once)

    @get("/{job:str}/explain", operation_id="explain_job", summary="Explain a job", opt=READ)
    async def explain(
        self, explanations: NamedDependency[Explanations], who: NamedDependency[Principal], job: FromPath[str]
    ) -> Explanation:
        """Say why a job is where it is: position, expected wait, how many miners each condition left, what helps."""
        return await explanations.explain(who, job)

    @get("/{job:str}/wait", operation_id="wait_for_job", summary="Wait for a job", opt=READ | {"waits": True})
    async def wait(
        self,
        jobs: NamedDependency[Jobs],
        who: NamedDependency[Principal],
        job: FromPath[str],
        seconds: FromQuery[Seconds] = 30.0,
    ) -> JobDetail:
        """Answer once the job has ended, or when the time is up: `state` says which."""
        return await jobs.wait(who, job, seconds)

    @get(
        "/{job:str}/logs",
        operation_id="list_job_log",
        summary="Read a job's log",
        opt={"permission": "jobs:read", "errors": (JobNotFound, InvalidCursor)},
    )
    async def logs(
        self,
        job_logs: NamedDependency[JobLogs],
        who: NamedDependency[Principal],
        job: FromPath[str],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[JobLogLine]:
        """List the lines of a job's log in order, over all its attempts."""
        after = None
        if cursor is not None:
            attempt, sequence = decode_cursor(LOG, cursor, int, int, bound_to=(job,))
            if not (0 <= attempt < 2**31 and 0 <= sequence < 2**31):
                raise InvalidCursor
            after = (attempt, sequence)
        lines = await job_logs.page(who, job, after=after, limit=limit + 1)
        return Page.of(LOG, lines, limit, lambda line: (line.attempt, line.sequence), bound_to=(job,))

    @get(
        "/{job:str}/events",
        operation_id="follow_job",
        summary="Follow a job",
        media_type="text/event-stream",
        opt={"permission": "jobs:read", "lasts": True, "errors": (JobNotFound, InvalidEventId)},
    )
    async def events(
        self,
        job_events: NamedDependency[JobEvents],
        who: NamedDependency[Principal],
        job: FromPath[str],
        last_event_id: LastEventId = None,
    ) -> Stream:
        """Follow a job as server-sent events: its states, attempts, log lines, parts of its output and progress,
        until it has ended.

        Send the last id that was seen as `Last-Event-ID` to go on where a broken connection stopped.
        """
        events = await job_events.follow(who, job, last_event_id)
        return Stream(event_stream(events), media_type="text/event-stream")


async def event_stream(events: AsyncIterator[JobEvent]) -> AsyncIterator[bytes]:
    """Events of a job as server-sent events."""
    async for event in events:
        if event.event == "heartbeat":
            yield b": heartbeat\n\n"
            continue
        place = f"id: {event.id}\n" if event.id is not None else ""
        yield (
            f"{place}event: {event.event}\n".encode() + b"data: " + one_line(msgspec.json.encode(event.data)) + b"\n\n"
        )
