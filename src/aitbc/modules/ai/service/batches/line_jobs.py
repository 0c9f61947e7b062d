"""The lines of a batch as jobs: submitted once each, for as much as their account has, and cancelled if they wait."""

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from msgspec import Struct
from sqlalchemy import select, update

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, TooMany
from aitbc.modules.ai.models.batch_tables import BatchLineRow, BatchRow
from aitbc.modules.ai.models.life import State
from aitbc.modules.ai.models.tables import JobRow
from aitbc.modules.ai.service.artifacts import Artifacts
from aitbc.modules.ai.service.batches.formats import FORMATS
from aitbc.modules.ai.service.batches.intake import decode_line
from aitbc.modules.ai.service.batches.line_submissions import LineSubmissions
from aitbc.modules.ai.service.stops import Stops
from aitbc.modules.trading.api import InsufficientFunds

AT_ONCE = 16
"""How many lines of a batch are submitted at the same time."""
SHORT = timedelta(seconds=60)
"""How long a line that cannot be paid waits for money, once no other line of its batch holds any."""

log = structlog.get_logger("aitbc.ai.batches")


class Submitted(Struct, frozen=True):
    """What came of a line: a job, or a refusal; neither where it is to be tried again."""

    line: int
    job: str | None = None
    refusal: AppError | None = None
    is_short: bool = False
    """Whether there was no money for it."""


class LineJobs:
    """Submits lines, and cancels those that wait for a miner."""

    def __init__(self, db: Database, artifacts: Artifacts, submissions: LineSubmissions, stops: Stops) -> None:
        self._db = db
        self._artifacts = artifacts
        self._submissions = submissions
        self._stops = stops
        self._short_since: dict[str, datetime] = {}
        """By batch: since when there is no money for its next line. A process that begins anew waits anew."""

    async def submit(self, batch: BatchRow, room: int, *, open_lines: int) -> None:
        """Submit the next lines of a batch, up to `room` of them, until there is no money for one."""
        if batch.id in self._short_since:
            room = 1
        lines = await self._waiting(batch.id, room)
        for start in range(0, len(lines), AT_ONCE):
            some = lines[start : start + AT_ONCE]
            contents = await self._artifacts.slices_of(
                batch.input_artifact, [(one.position, one.bytes) for one in some]
            )
            tried = [self._submit(batch, one.line, content) for one, content in zip(some, contents, strict=True)]
            came = await asyncio.gather(*tried)
            open_lines += sum(one.job is not None for one in came)
            came = [self._or_refused(batch.id, one, is_alone=not open_lines) for one in came]
            await self._note(batch, came)
            if any(one.job is None and one.refusal is None for one in came):
                return

    def _or_refused(self, batch: str, came: Submitted, *, is_alone: bool) -> Submitted:
        """What came of a line, without its refusal for want of money while it is worth waiting for some."""
        if not came.is_short:
            if came.job is not None:
                self._short_since.pop(batch, None)
            return came
        since = self._short_since.setdefault(batch, now())
        if is_alone and now() - since >= SHORT:
            return came
        if not is_alone:
            self._short_since[batch] = now()
        return Submitted(came.line)

    async def _waiting(self, batch: str, room: int) -> Sequence[BatchLineRow]:
        waiting = select(BatchLineRow).where(BatchLineRow.batch == batch, BatchLineRow.state == "waiting")
        async with self._db.reading() as session:
            return (await session.scalars(waiting.order_by(BatchLineRow.line).limit(room))).all()

    async def _submit(self, batch: BatchRow, line: int, content: bytes) -> Submitted:
        once = IdempotencyKey(batch.account, f"{batch.id}:{line}", hashlib.sha256(content).digest())
        who = owner_of(batch)
        try:
            earlier = await self._submissions.submitted(once)  # by a process that died before it noted the job
            if earlier is not None:
                return Submitted(line, earlier.id)
            work = FORMATS[batch.endpoint].read(bytes(decode_line(content).body))
            job = await self._submissions.submit(who, work, once, until=batch.expires_at)
        except InsufficientFunds as error:
            return Submitted(line, refusal=error, is_short=True)
        except AppError as error:
            if error.status >= 500 or isinstance(error, TooMany):
                log.info("batch_line_postponed", batch=batch.id, line=line, reason=error.message)
                return Submitted(line)
            return Submitted(line, refusal=error)
        return Submitted(line, job.id)

    @retrying
    async def _note(self, batch: BatchRow, came: Sequence[Submitted]) -> None:
        async with self._db.unit_of_work() as uow:
            row = await uow.find(BatchRow, batch.id, lock=True)
            for one in came:
                if one.job is None and one.refusal is None:
                    continue
                values: dict[str, object] = {"state": "open", "job": one.job}
                if one.refusal is not None:
                    status, body = FORMATS[batch.endpoint].error(one.refusal)
                    values = {"state": "failed", "error_status": status, "error": body.decode()}
                this = BatchLineRow.batch == batch.id, BatchLineRow.line == one.line, BatchLineRow.state == "waiting"
                changed = await uow.session.execute(update(BatchLineRow).where(*this).values(**values).returning(1))
                row.failed += len(changed.all()) if one.refusal is not None else 0

    async def cancel_waiting(self, batch: BatchRow) -> None:
        """Cancel the jobs of a batch that no miner has; what is worked on ends by itself."""
        self._short_since.pop(batch.id, None)
        waiting = (
            select(JobRow.id)
            .join(BatchLineRow, BatchLineRow.job == JobRow.id)
            .where(BatchLineRow.batch == batch.id, BatchLineRow.state == "open", JobRow.state == State.QUEUED)
        )
        async with self._db.reading() as session:
            jobs = (await session.scalars(waiting)).all()
        for job in jobs:
            try:
                await self._stops.cancel(owner_of(batch), job, IdempotencyKey(batch.account))
            except AppError as error:
                log.info("batch_line_not_cancelled", job=job, reason=error.message)


def owner_of(batch: BatchRow) -> Principal:
    """Whoever made a batch, by the key that it was made with."""
    return Principal(batch.account, batch.key, "live", frozenset())
