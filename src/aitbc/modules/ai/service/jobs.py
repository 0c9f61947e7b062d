"""Jobs as their owners see them: read, listed, waited for, followed and canceled."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import func, select, tuple_

from aitbc.kernel.database.filters import Filters
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Invalid
from aitbc.modules.ai.api import Job, JobDetail, JobNotFound
from aitbc.modules.ai.batched.read import Found, read_page
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.life import TERMINAL, IllegalMove, State, cancel
from aitbc.modules.ai.models.tables import AttemptRow, JobRow, LogRow
from aitbc.modules.ai.models.values import AttemptValue
from aitbc.modules.ai.models.views import job_view
from aitbc.modules.ai.service.ordinary import count_ended, job_value
from aitbc.modules.ai.service.results import Results, tell_end
from aitbc.modules.ai.service.streaming import ToldPart

HEARTBEAT_SECONDS = 15.0
WAIT_SECONDS_MAX = 60.0
LINES_AT_ONCE = 500


class InvalidEventId(Invalid):
    """This Last-Event-ID was not sent by this stream."""

    code = "invalid_event_id"


class JobLogLine(Struct, frozen=True, kw_only=True):
    """One line of a job's log."""

    attempt: int
    sequence: int
    at: datetime
    text: str


class JobEvent(Struct, frozen=True, kw_only=True):
    """One thing that happened to a job."""

    id: str | None
    """Where it stands among the job's events; progress has none, because only the newest counts."""
    event: str
    """`state`, `attempt` (one ended), `log`, `part` (of the output's text), `progress` or `heartbeat`."""
    data: dict[str, object]


Place = tuple[int, int, int, int]
"""Attempt, phase, and how many log lines and how many parts were seen: lines and parts come beside each other, so the place
within an attempt's work says how far both were read.
"""
LEASED, RUNNING, LOG, ENDED = 1, 2, 3, 4
LAST = 1_000_000


class Jobs(Results):
    """Reading, following and stopping jobs."""

    async def job(self, who: Principal, job: str) -> JobDetail:
        """One job with its input, output and attempts. Raises `JobNotFound`."""
        return self.ended.detail(await self.found(who, job))

    async def jobs(
        self, who: Principal, *, state: str | None, kind: str | None, after: str | None, limit: int
    ) -> Sequence[Job]:
        """The caller's jobs from the newest on, up to `limit`, those before `after`; an operator sees everybody's."""
        wanted = Filters()
        if not who.is_admin:
            wanted.add("account = {}", ids.decode("acct", who.account))
        if state is not None:
            wanted.add("state = {}", state)
        if kind is not None:
            wanted.add("kind = {}", kind)
        if after is not None:
            wanted.add("id < {}", ids.decode("job", after))
        return [job_view(job) for job in await read_page(self.db, wanted, limit)]

    @retrying
    async def cancel(self, who: Principal, job: str, once: IdempotencyKey) -> Job:
        """Stop a job; its money goes back.

        Repeating it is harmless. Raises `JobNotFound`, `IllegalMove` once it has ended otherwise.
        """
        async with self.db.unit_of_work() as uow:
            earlier = await uow.replay(once, Job)
            if earlier is not None:
                return earlier
            row = await uow.find(JobRow, job, lock=True, missing=JobNotFound)
            if not who.owns(row.account):
                raise JobNotFound
            if row.state != State.CANCELED:
                attempt = None
                if row.attempt is not None:
                    attempt = await uow.find(AttemptRow, row.attempt, lock=True)
                by_operator = who.account != row.account
                cancel(row, attempt, by_operator=by_operator, at=now())
                tell_end(uow, row, attempt)
                await count_ended(uow, [row])
                if by_operator:
                    await uow.audit(who.account, who.key, "job.cancel", job)
            answer = await uow.answer(once, job_view(row))
        await self.after_end(job_value(row))
        return answer

    @retrying
    async def put_first(self, who: Principal, job: str, reason: str | None) -> Job:
        """Put a job that waits before all others of its lane: an operator's, and noted.

        Raises `JobNotFound`, `IllegalMove` for one that does not wait.
        """
        async with self.db.unit_of_work() as uow:
            row = await uow.find(JobRow, job, lock=True, missing=JobNotFound)
            if row.state != State.QUEUED:
                raise IllegalMove(f"The job is {row.state}, so it waits for nothing.")
            lane = select(func.min(JobRow.rank)).where(JobRow.lane == row.lane, JobRow.state == State.QUEUED)
            row.rank = min(0, (await uow.session.execute(lane)).scalar_one()) - 1
            await uow.audit(who.account, who.key, "job.put_first", job, reason=(reason or "")[:200])
            return job_view(row)

    async def wait(self, who: Principal, job: str, seconds: float) -> JobDetail:
        """The job once it has ended, or as it is when the time is up. Raises `JobNotFound`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + min(seconds, WAIT_SECONDS_MAX)
        while True:
            news = self.watched.watch(job)
            try:
                found = await self.found(who, job)
                left = until - loop.time()
                if found[0].state in TERMINAL or left <= 0 or self.draining.is_set():
                    return self.ended.detail(found)
                await asyncio.wait([news], timeout=left)
            finally:
                self.watched.leave(job, news)

    async def logs(
        self, who: Principal, job: str, *, after: tuple[int, int] | None, limit: int
    ) -> Sequence[JobLogLine]:
        """Log lines in order, those after (attempt, sequence). Raises `JobNotFound`."""
        await self.found(who, job)
        return await self._lines(job, after or (0, 0), limit)

    async def _lines(self, job: str, after: tuple[int, int], limit: int) -> list[JobLogLine]:
        query = (
            select(LogRow)
            .where(LogRow.job == job, tuple_(LogRow.token, LogRow.sequence) > after)
            .order_by(LogRow.token, LogRow.sequence)
            .limit(limit)
        )
        async with self.db.reading() as session:
            return [
                JobLogLine(attempt=row.token, sequence=row.sequence, at=row.at, text=row.text)
                for row in await session.scalars(query)
            ]

    async def follow(self, who: Principal, job: str, last_event_id: str | None) -> AsyncIterator[JobEvent]:
        """What happens to a job, from its beginning or after an event that was seen, until its end.

        Every event but progress has a place in one order, so that a reader who comes back misses nothing and sees
        nothing twice. Raises `JobNotFound`, `InvalidEventId`.
        """
        seen = place_of(last_event_id)
        await self.found(who, job)
        return self._follow(who, job, seen)

    async def _follow(self, who: Principal, job: str, seen: Place) -> AsyncIterator[JobEvent]:
        loop = asyncio.get_running_loop()
        progress: float | None = None
        quiet_since = loop.time()
        while True:
            news = self.watched.watch(job)
            try:
                found = await self.found(who, job)
                async for place, event in self._events_after(found, seen):
                    seen, quiet_since = place, loop.time()
                    yield event
                if found[0].state in TERMINAL or self.draining.is_set():
                    return
                newest = found[1][-1].progress if found[1] else None
                if newest not in (None, progress):
                    progress, quiet_since = newest, loop.time()
                    yield JobEvent(id=None, event="progress", data={"attempt": found[0].token, "progress": newest})
                if loop.time() - quiet_since >= HEARTBEAT_SECONDS:
                    quiet_since = loop.time()
                    yield JobEvent(id=None, event="heartbeat", data={})
                await asyncio.wait([news], timeout=HEARTBEAT_SECONDS)
            finally:
                self.watched.leave(job, news)

    async def _events_after(self, found: Found, seen: Place) -> AsyncIterator[tuple[Place, JobEvent]]:
        """The events of a job after a place, lines of its log in between.

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
            async for line in self._lines_of(job.id, attempt.token, line_seen):
                line_seen = line.sequence
                place = (attempt.token, LOG, line_seen, part_seen)
                yield place, JobEvent(id=id_of(place), event="log", data=asdict(line))
            if KINDS[attempt.kind].streams:
                async for part in self._parts_of(job.id, attempt.token, part_seen):
                    place = (attempt.token, LOG, line_seen, part.sequence)
                    yield place, JobEvent(id=id_of(place), event="part", data=asdict(part))
            if attempt.ended is not None and attempt.ended_at is not None:
                yield _ending(attempt)
        if job.state in TERMINAL and job.completed_at is not None and seen < (LAST, 0, 0, 0):
            yield _state((LAST, 0, 0, 0), job.state, job.completed_at, reason=job.reason, fault=job.fault)

    async def _lines_of(self, job: str, token: int, after: int) -> AsyncIterator[JobLogLine]:
        while True:
            lines = [line for line in await self._lines(job, (token, after), LINES_AT_ONCE) if line.attempt == token]
            for line in lines:
                after = line.sequence
                yield line
            if len(lines) < LINES_AT_ONCE:
                return

    async def _parts_of(self, job: str, token: int, after: int) -> AsyncIterator[ToldPart]:
        while True:
            parts = await self.parts_after(job, token, after, LINES_AT_ONCE)
            for part in parts:
                after = part.sequence
                yield part
            if len(parts) < LINES_AT_ONCE:
                return


def _state(place: Place, state: str, at: datetime, **data: object) -> tuple[Place, JobEvent]:
    return place, JobEvent(id=id_of(place), event="state", data={"state": state, "at": at, **data})


def _beginnings(attempt: AttemptValue) -> list[tuple[Place, JobEvent]]:
    told = {"attempt": attempt.token, "miner": attempt.miner}
    events = [_state((attempt.token, LEASED, 0, 0), State.LEASED, attempt.started_at, **told)]
    if attempt.running_at is not None:
        events.append(_state((attempt.token, RUNNING, 0, 0), State.RUNNING, attempt.running_at, **told))
    return events


def _ending(attempt: AttemptValue) -> tuple[Place, JobEvent]:
    place = (attempt.token, ENDED, 0, 0)
    told = {"attempt": attempt.token, "ended": attempt.ended, "at": attempt.ended_at, "reason": attempt.reason}
    why = {"fault": attempt.fault, "message": attempt.message}
    return place, JobEvent(id=id_of(place), event="attempt", data={**told, **why})


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
    attempt, phase, lines, told = map(int, (*parts, "0")[:4])
    return attempt, phase, lines, told
