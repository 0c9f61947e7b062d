"""Runs whose client reads the output itself and not the events of a job: awaited whole, or as text while it is made.

An attempt that fails before its first text is tried again and nobody sees it. Once text was handed on, another attempt
would say it anew in other words, so the run ends there (0060).
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AppError, Unavailable
from aitbc.modules.ai.api import JobDetail
from aitbc.modules.ai.batched.read import Found
from aitbc.modules.ai.models.life import TERMINAL, State
from aitbc.modules.ai.models.views import attempt_view, detail_view
from aitbc.modules.ai.service.artifacts import Artifacts
from aitbc.modules.ai.service.job_events import JobEvents
from aitbc.modules.ai.service.jobs import WAIT_SECONDS_MAX, Jobs
from aitbc.modules.ai.service.stops import Stops

QUIET_SECONDS = 5.0
"""How long a stream is silent at most before its client is sent a sign of life."""

log = structlog.get_logger("aitbc.ai")


class Ended(Struct, frozen=True, kw_only=True):
    """A job that has ended, in whichever way."""

    job: JobDetail
    output: Any
    """Its output itself, wherever it is kept; none unless it succeeded."""
    usage: dict[str, int]
    """What its miner counted: evidence, not authority."""


class Broken(Struct, frozen=True, kw_only=True):
    """The miner was lost after text of its answer had been handed on."""

    job: str
    reason: str


Told = str | Ended | Broken | None
"""Text; or the end; or nothing, as a sign of life."""


class TextRuns:
    """Awaits jobs and tells their text."""

    def __init__(self, jobs: Jobs, events: JobEvents, artifacts: Artifacts, stops: Stops) -> None:
        self._jobs = jobs
        self._events = events
        self._artifacts = artifacts
        self._stops = stops

    async def found(self, who: Principal, job: str) -> Ended:
        """The job as it is now, whether it has ended or not. Raises `JobNotFound`."""
        return await self._ended(await self._jobs.find(who, job))

    async def end_of(self, who: Principal, job: str) -> Ended:
        """The job once it has ended. Raises `JobNotFound`, `Unavailable` where this process stops before."""
        while True:
            detail = await self._jobs.wait(who, job, WAIT_SECONDS_MAX)
            if detail.state in TERMINAL:
                return await self._ended(await self._jobs.find(who, job))
            if self._jobs.is_draining:
                await self._give_up(who, job)
                raise Unavailable("This server stops; nothing was charged.", retry_after=1)

    async def text_of(self, who: Principal, job: str) -> AsyncGenerator[Told, None]:
        """The text of a job's output as it is made, and at last how it ended.

        Raises `JobNotFound`.
        """
        speaker: object = None
        async for event in await self._events.follow(who, job, None, quiet_seconds=QUIET_SECONDS):
            match event.event:
                case "part":
                    speaker = speaker or event.data["attempt"]
                    if event.data["attempt"] != speaker:
                        yield await self._broken(who, job, "another_attempt")
                        return
                    yield str(event.data["text"])
                case "attempt" if event.data["attempt"] == speaker and event.data["ended"] != State.SUCCEEDED:
                    yield await self._broken(who, job, str(event.data["reason"]))
                    return
                case "miner_gone" if event.data["attempt"] == speaker:
                    yield await self._lost(who, job)
                    return
                case "heartbeat":
                    yield None
        found = await self._jobs.find(who, job)
        yield await (self._ended(found) if found[0].state in TERMINAL else self._broken(who, job, "server_stops"))

    async def _broken(self, who: Principal, job: str, reason: str) -> Broken:
        await self._give_up(who, job)
        return Broken(job=job, reason=reason)

    async def _lost(self, who: Principal, job: str) -> Broken:
        """The miner may only have lost its way to us: if it comes back and signs what it delivered, that is paid."""
        try:
            await self._stops.stop(who, job, IdempotencyKey(who.account))
        except AppError as error:
            log.info("lost_run_not_stopped", job=job, reason=error.message)
        return Broken(job=job, reason="miner_lost")

    async def _give_up(self, who: Principal, job: str) -> None:
        """Keep miners from working on what nobody reads any more; nothing of it is charged."""
        try:
            await self._stops.cancel(who, job, IdempotencyKey(who.account))
        except AppError as error:  # it has ended meanwhile, or its clock ends it
            log.info("broken_run_not_canceled", job=job, reason=error.message)

    async def _ended(self, found: Found) -> Ended:
        value, attempts = found
        detail = detail_view(value, tuple(attempt_view(attempt) for attempt in attempts))
        output = detail.output
        if isinstance(output, msgspec.Raw):
            output = msgspec.json.decode(output)
        if isinstance(output, dict) and "artifact" in output:
            delivered = await self._artifacts.delivered(str(output["artifact"]), attempts[-1].id)
            output = None if delivered is None else await asyncio.to_thread(msgspec.json.decode, delivered[1])
        counted = attempts[-1].usage if attempts else None
        usage = msgspec.json.decode(counted, type=dict[str, int]) if counted else {}
        return Ended(job=detail, output=output, usage=usage)
