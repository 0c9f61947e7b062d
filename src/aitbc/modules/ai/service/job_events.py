"""What happens to a job, as a stream of events that a client follows and goes on with where its connection broke."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import Self

from msgspec import Struct
from msgspec.structs import asdict, replace

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import Invalid, Unavailable
from aitbc.modules.ai.batched.read import Found
from aitbc.modules.ai.batched.tails import PIECES_MAX
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.life import TERMINAL, State
from aitbc.modules.ai.models.values import AttemptValue, StoredPart
from aitbc.modules.ai.service.job_logs import JobLogLine, JobLogs
from aitbc.modules.ai.service.jobs import Jobs
from aitbc.modules.ai.service.output_parts import OutputParts
from aitbc.modules.ai.service.wakeups import Wakeups

HEARTBEAT_SECONDS = 15.0
RETRY_SECONDS = 1.0
"""When a follower looks again after the database could not answer it; its stream goes on meanwhile."""
GAP_SECONDS = 0.1
JOINED_CHARACTERS_MAX = 32_000


class InvalidEventId(Invalid):
    """This Last-Event-ID was not sent by this stream."""

    code = "invalid_event_id"


class JobEvent(Struct, frozen=True, kw_only=True):
    """One thing that happened to a job."""

    id: str | None
    """Where it stands among the job's events; progress has none, because only the newest counts."""
    event: str
    """`state`, `attempt` (one ended), `log`, `part` (of the output's text), `progress` or `heartbeat`."""
    data: dict[str, object]


Place = tuple[int, int, int, int]
"""Attempt, phase, and how many log lines and how many parts were seen: lines and parts come beside each other, so
the place within an attempt's work says how far both were read.
"""
LEASED, RUNNING, LOG, ENDED = 1, 2, 3, 4
LAST = 1_000_000


class _Bell:
    """Ends the waits for parts once the job has changed or the time is up.

    `asyncio.wait` over all three would cost each part of each stream more than everything else that is done for it.
    """

    def __init__(self, changed: "asyncio.Future[None]", seconds: float) -> None:
        self.future: asyncio.Future[None] | None = None
        """What is waited for now."""
        self.is_over = False
        self._changed = changed
        self._seconds = seconds

    def __enter__(self) -> Self:
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._ring)
        self._changed.add_done_callback(self._ring)
        return self

    def __exit__(self, *_error: object) -> None:
        self._timer.cancel()
        self._changed.remove_done_callback(self._ring)

    def _ring(self, _changed: object = None) -> None:
        self.is_over = True
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


class JobEvents:
    """Follows jobs, however many clients follow the same one."""

    def __init__(self, jobs: Jobs, logs: JobLogs, output_parts: OutputParts, wakeups: Wakeups) -> None:
        self._jobs = jobs
        self._logs = logs
        self._output_parts = output_parts
        self._wakeups = wakeups

    async def follow(
        self, who: Principal, job: str, last_event_id: str | None, *, quiet_seconds: float | None = None
    ) -> AsyncIterator[JobEvent]:
        """What happens to a job, from its beginning or after an event that was seen, until its end.

        With `quiet_seconds` for one who hands text on: a heartbeat after so many seconds without anything, and
        `miner_gone` once the miner of the attempt that streams is not there any more.

        Every event but progress has a place in one order, so that a reader who comes back misses nothing and sees
        nothing twice. Raises `JobNotFound`, `InvalidEventId`.
        """
        seen = place_of(last_event_id)
        await self._jobs.find(who, job)
        return self._follow(who, job, seen, quiet_seconds)

    async def _follow(
        self, who: Principal, job: str, seen: Place, wished_seconds: float | None
    ) -> AsyncIterator[JobEvent]:
        quiet_seconds = wished_seconds or HEARTBEAT_SECONDS
        loop = asyncio.get_running_loop()
        found: Found | None = None
        progress: float | None = None
        quiet_since = loop.time()
        while True:
            changed = self._wakeups.watched.watch(job)
            pause = quiet_seconds
            try:
                try:
                    found = await self._jobs.find(who, job)
                    async for place, event in self._events_after(found, seen, with_lines=wished_seconds is None):
                        seen, quiet_since = place, loop.time()
                        yield event
                    if found[0].state in TERMINAL:
                        return
                except Unavailable:
                    pause = RETRY_SECONDS
                if self._wakeups.draining.is_set():
                    return
                newest = found[1][-1].progress if found is not None and found[1] else None
                if found is not None and newest is not None and newest != progress:
                    progress, quiet_since = newest, loop.time()
                    yield _progress(found, newest)
                if wished_seconds and found is not None and self._is_miner_gone(found):
                    yield JobEvent(id=None, event="miner_gone", data={"attempt": found[0].token})
                if loop.time() - quiet_since >= quiet_seconds:
                    quiet_since = loop.time()
                    yield JobEvent(id=None, event="heartbeat", data={})
                hurried = wished_seconds is not None
                async for place, event in self._live_parts(found, seen, changed, pause, hurried=hurried):
                    seen, quiet_since = place, loop.time()
                    yield event
            finally:
                self._wakeups.watched.unwatch(job, changed)

    def _is_miner_gone(self, found: Found) -> bool:
        return _streaming_attempt(found) is not None and self._wakeups.presence.is_gone(found[1][-1].miner)

    async def _live_parts(
        self, found: Found | None, seen: Place, changed: "asyncio.Future[None]", seconds: float, *, hurried: bool
    ) -> AsyncIterator[tuple[Place, JobEvent]]:
        """The parts that come to this process, out of its memory, until something else about the job has changed.

        Who is hurried gets them before it is known that the work has begun.
        """
        token = _streaming_attempt(found)
        if found is None or token is None or (seen < (token, RUNNING, 0, 0) and not hurried):
            await asyncio.wait([changed], timeout=seconds)
            return
        live, job = self._output_parts.live, found[0].id
        line_seen, part_seen = seen[2:] if seen[:2] == (token, LOG) else (0, 0)
        with _Bell(changed, seconds) as bell:
            while not bell.is_over:
                fresh = bell.future = live.watch(job)
                try:
                    parts = live.after(job, token, part_seen)
                    if parts is None:  # too far behind, or some came to another process: the database has them
                        await asyncio.sleep(GAP_SECONDS)
                        return
                    for part in _joined(parts):
                        part_seen = part.sequence
                        yield _part((token, LOG, line_seen, part_seen), part)
                    if not parts:
                        await fresh
                finally:
                    live.unwatch(job, fresh)

    async def _events_after(
        self, found: Found, seen: Place, *, with_lines: bool = True
    ) -> AsyncIterator[tuple[Place, JobEvent]]:
        """The events of a job after a place, lines of its log in between if wished.

        The job was read first: what it says has ended has all its lines written.
        """
        job, attempts = found
        if seen < (0, 0, 1, 0):
            yield _state((0, 0, 1, 0), State.QUEUED, job.created_at, reason="submitted")
        for attempt in attempts:
            if seen >= (attempt.token, ENDED, 0, 0):
                continue
            for place, event in _beginnings(attempt):
                if seen < place:
                    yield place, event
            line_seen, part_seen = seen[2:] if seen[:2] == (attempt.token, LOG) else (0, 0)
            async for line in self._lines_of(job.id, attempt.token, line_seen if with_lines else LAST):
                line_seen = line.sequence
                place = (attempt.token, LOG, line_seen, part_seen)
                yield place, JobEvent(id=id_of(place), event="log", data=asdict(line))
            if KINDS[attempt.kind].streams:
                async for part in self._parts_of(job.id, attempt.token, part_seen):
                    yield _part((attempt.token, LOG, line_seen, part.sequence), part)
            if attempt.ended is not None and attempt.ended_at is not None:
                yield _ending(attempt)
        if job.state in TERMINAL and job.completed_at is not None and seen < (LAST, 0, 0, 0):
            yield _state((LAST, 0, 0, 0), job.state, job.completed_at, reason=job.reason, fault=job.fault)

    async def _lines_of(self, job: str, token: int, after: int) -> AsyncIterator[JobLogLine]:
        while after < LAST:
            lines = await self._logs.after(job, token, after)
            for line in lines:
                after = line.sequence
                yield line
            if len(lines) < PIECES_MAX:
                return

    async def _parts_of(self, job: str, token: int, after: int) -> AsyncIterator[StoredPart]:
        while True:
            parts = await self._output_parts.after(job, token, after)
            for part in parts:
                after = part.sequence
                yield part
            if len(parts) < PIECES_MAX:
                return


def _streaming_attempt(found: Found | None) -> int | None:
    """The token of the attempt whose output may be coming in parts."""
    attempt = found[1][-1] if found is not None and found[1] else None
    return attempt.token if attempt is not None and attempt.ended is None and KINDS[attempt.kind].streams else None


def _joined(parts: Sequence[StoredPart]) -> Iterator[StoredPart]:
    """Parts that wait for a follower, as few longer ones: who reads slowly catches up.

    Each has the last one's place.
    """
    texts: list[str] = []
    length = 0
    for number, part in enumerate(parts, 1):
        texts.append(part.text)
        length += len(part.text)
        if length >= JOINED_CHARACTERS_MAX or number == len(parts):
            yield replace(part, text="".join(texts))
            texts, length = [], 0


def _part(place: Place, part: StoredPart) -> tuple[Place, JobEvent]:
    return place, JobEvent(id=id_of(place), event="part", data=asdict(part))


def _progress(found: Found, fraction: float) -> JobEvent:
    return JobEvent(id=None, event="progress", data={"attempt": found[0].token, "progress": fraction})


def _state(place: Place, state: str, at: datetime, **data: object) -> tuple[Place, JobEvent]:
    return place, JobEvent(id=id_of(place), event="state", data={"state": state, "at": at, **data})


def _beginnings(attempt: AttemptValue) -> list[tuple[Place, JobEvent]]:
    taken = {"attempt": attempt.token, "miner": attempt.miner}
    events = [_state((attempt.token, LEASED, 0, 0), State.LEASED, attempt.started_at, **taken)]
    if attempt.running_at is not None:
        events.append(_state((attempt.token, RUNNING, 0, 0), State.RUNNING, attempt.running_at, **taken))
    return events


def _ending(attempt: AttemptValue) -> tuple[Place, JobEvent]:
    place = (attempt.token, ENDED, 0, 0)
    ending = {"attempt": attempt.token, "ended": attempt.ended, "at": attempt.ended_at, "reason": attempt.reason}
    why = {"fault": attempt.fault, "message": attempt.message}
    return place, JobEvent(id=id_of(place), event="attempt", data={**ending, **why})


def id_of(place: Place) -> str:
    """The event id of a place; the number of parts is left out where there are none."""
    return ".".join(map(str, place if place[3] else place[:3]))


def place_of(event_id: str | None) -> Place:
    """The place behind an event id; before everything for none. Raises `InvalidEventId`."""
    if not event_id:
        return (0, 0, 0, 0)
    parts = event_id.split(".")
    if len(parts) not in (3, 4) or not all(part.isascii() and part.isdigit() and len(part) < 9 for part in parts):
        raise InvalidEventId
    attempt, phase, lines, parts_seen = map(int, (*parts, "0")[:4])
    return attempt, phase, lines, parts_seen
