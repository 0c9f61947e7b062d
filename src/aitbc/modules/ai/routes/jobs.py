"""The HTTP of jobs."""

from collections.abc import AsyncIterator
from typing import Annotated, Literal

import msgspec
from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody
from litestar.response import Stream
from msgspec import Meta

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.guard import Admission
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page, decode_cursor
from aitbc.modules.ai.api import Explanation, Job, JobDetail, JobNotFound, TooManyOpenJobs
from aitbc.modules.ai.models.life import IllegalMove
from aitbc.modules.ai.routes.market import SUBMIT_ERRORS
from aitbc.modules.ai.service import AiService
from aitbc.modules.ai.service.jobs import InvalidEventId, JobEvent, JobLogLine
from aitbc.modules.ai.service.stopping import CannotStopEarly
from aitbc.modules.ai.service.submitting import MaxPriceTooLow, SubmitJob
from aitbc.modules.trading.api import InsufficientFunds

LIST = "ai.jobs"
LOG = "ai.job_log"
StateName = Literal["queued", "leased", "running", "succeeded", "failed", "canceled", "expired"]
KindName = Annotated[str, Meta(max_length=40)]
Seconds = Annotated[float, Meta(ge=0, le=60, description="How long to wait at most.")]
LastEventId = Annotated[str | None, HeaderParameter(name="Last-Event-ID", description="The last event that was seen.")]
SUBMISSION_ERRORS = (*SUBMIT_ERRORS, MaxPriceTooLow, InsufficientFunds, TooManyOpenJobs)
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
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[SubmitJob],
    ) -> Response[Job]:
        """Submit a job: its kind checks the input, the maximum price is held, and miners may take it.

        It costs what the platform meters, never more than `max_price`, and nothing unless it succeeds. Repeating the
        request with the same Idempotency-Key gives the same job. `POST /api/v1/ai/quotes` says beforehand what the same
        body would cost, and changes nothing.
        """
        job = await ai.submit(who, data, once)
        return Response(job, status_code=201, headers={"location": f"/api/v1/ai/jobs/{job.id}"})

    @get(
        "/", operation_id="list_jobs", summary="List jobs", opt={"permission": "jobs:read", "errors": (InvalidCursor,)}
    )
    async def list_jobs(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        status: FromQuery[StateName | None] = None,
        kind: FromQuery[KindName | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[Job]:
        """List the caller's jobs from the newest on, if wished only those in one state or of one kind."""
        filters = (status or "", kind or "")
        after = Page.position(LIST, cursor, bound_to=filters)
        if after is not None and not ids.is_id("job", after):
            raise InvalidCursor
        found = await ai.jobs(who, state=status, kind=kind, after=after, limit=limit + 1)
        return Page.of(LIST, found, limit, lambda job: job.id, bound_to=filters)

    @get("/{job:str}", operation_id="get_job", summary="Get a job", opt=READ)
    async def get_job(
        self, ai: NamedDependency[AiService], who: NamedDependency[Principal], job: FromPath[str]
    ) -> JobDetail:
        """Get one job with its input, its result once it succeeded, and every attempt."""
        return await ai.job(who, job)

    @post(
        "/{job:str}/cancel",
        operation_id="cancel_job",
        summary="Cancel a job",
        status_code=200,
        opt={"permission": "jobs:create", "errors": (JobNotFound, IllegalMove)},
    )
    async def cancel(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        job: FromPath[str],
    ) -> Job:
        """Cancel a job that has not ended. The money goes back, and a miner at work on it is told to stop."""
        return await ai.cancel(who, job, once)

    @post(
        "/{job:str}/stop",
        operation_id="stop_job",
        summary="Stop a job early",
        status_code=200,
        opt={"permission": "jobs:create", "errors": (JobNotFound, IllegalMove, CannotStopEarly)},
    )
    async def stop(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        job: FromPath[str],
    ) -> Job:
        """Finish a job early: what its miner delivered until now is the result, and is paid for with the prompt.

        The miner is told within a second or two, and has 10 seconds to sign what it delivered; else the job is canceled and
        the money goes back. A job that no miner has is canceled at once. Kinds that deliver only at their end cannot be
        stopped, only canceled.
        """
        return await ai.stop_job(who, job, once)

    @get("/{job:str}/explain", operation_id="explain_job", summary="Explain a job", opt=READ)
    async def explain(
        self, ai: NamedDependency[AiService], who: NamedDependency[Principal], job: FromPath[str]
    ) -> Explanation:
        """Say why a job is where it is: position, expected wait, how many miners each condition left, what helps."""
        return await ai.explain(who, job)

    @get("/{job:str}/wait", operation_id="wait_for_job", summary="Wait for a job", opt=READ | {"waits": True})
    async def wait(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        job: FromPath[str],
        seconds: FromQuery[Seconds] = 30.0,
    ) -> JobDetail:
        """Answer once the job has ended, or when the time is up: `state` says which."""
        return await ai.wait(who, job, seconds)

    @get(
        "/{job:str}/logs",
        operation_id="list_job_log",
        summary="Read a job's log",
        opt={"permission": "jobs:read", "errors": (JobNotFound, InvalidCursor)},
    )
    async def logs(
        self,
        ai: NamedDependency[AiService],
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
        lines = await ai.logs(who, job, after=after, limit=limit + 1)
        return Page.of(LOG, lines, limit, lambda line: (line.attempt, line.sequence), bound_to=(job,))

    @get(
        "/{job:str}/events",
        operation_id="follow_job",
        summary="Follow a job",
        media_type="text/event-stream",
        opt={"permission": "jobs:read", "errors": (JobNotFound, InvalidEventId)},
    )
    async def events(
        self,
        ai: NamedDependency[AiService],
        who: NamedDependency[Principal],
        admission: NamedDependency[Admission],
        job: FromPath[str],
        last_event_id: LastEventId = None,
    ) -> Stream:
        """Follow a job as server-sent events: its states, attempts, log lines, parts of its output and progress, until it has
        ended.

        Send the last id that was seen as `Last-Event-ID` to go on where a broken connection stopped.
        """
        happenings = await ai.follow(who, job, last_event_id)
        return Stream(admission.while_valid(spoken(happenings)), media_type="text/event-stream")


async def spoken(events: AsyncIterator[JobEvent]) -> AsyncIterator[bytes]:
    """Events of a job as server-sent events."""
    async for event in events:
        if event.event == "heartbeat":
            yield b": heartbeat\n\n"
            continue
        place = f"id: {event.id}\n" if event.id is not None else ""
        yield f"{place}event: {event.event}\n".encode() + b"data: " + msgspec.json.encode(event.data) + b"\n\n"
