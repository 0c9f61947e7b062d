"""Drives batches on: their lines are submitted as jobs, their ends are noted, and at last the answers are written.

Whatever is done can be done again: a line has a request key of its own, by which it is submitted once, and what is
counted is counted in the transaction that notes it. So a batch goes on from its rows wherever it was left.
"""

import asyncio

import structlog
from sqlalchemy import func, select, update

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.models.batch_tables import BatchLineRow, BatchRow
from aitbc.modules.ai.models.life import State
from aitbc.modules.ai.models.tables import JobRow
from aitbc.modules.ai.service.batches.intake import Intake
from aitbc.modules.ai.service.batches.line_jobs import LineJobs
from aitbc.modules.ai.service.batches.outputs import Outputs

BATCHES_AT_ONCE = 4
"""How many batches a round drives at the same time."""
PAGE = 1000
WINDOW = 200
"""How many lines of a batch are open as jobs at most."""

log = structlog.get_logger("aitbc.ai.batches")


class Batchwork:
    """Drives batches on, in one process at a time."""

    def __init__(self, db: Database, intake: Intake, line_jobs: LineJobs, outputs: Outputs) -> None:
        self._db = db
        self._intake = intake
        self._line_jobs = line_jobs
        self._outputs = outputs

    async def drive(self) -> None:
        """Drive every open batch on by a step."""
        if not await self._db.is_any("ai.batches WHERE ended_at IS NULL"):
            return
        wanted = select(BatchRow).where(BatchRow.ended_at.is_(None)).order_by(BatchRow.id).limit(PAGE)
        async with self._db.reading() as session:
            batches = (await session.scalars(wanted)).all()
        turn = asyncio.Semaphore(BATCHES_AT_ONCE)

        async def one(batch: BatchRow) -> None:
            async with turn:
                try:
                    await self._drive(batch)
                except AppError as error:
                    log.warning("batch_postponed", batch=batch.id, reason=error.message)
                except Exception as fault:  # noqa: BLE001 - one batch that cannot be driven must not keep the others
                    log.error("batch_stuck", batch=batch.id, reason=repr(fault))

        await asyncio.gather(*map(one, batches))

    async def _drive(self, batch: BatchRow) -> None:
        if batch.status == "validating":
            await self._intake.read(batch)
            return
        if batch.status != "finalizing":
            await self._harvest(batch.id)
            waiting, open_lines = await self._counts(batch.id)
            is_ending = batch.status == "cancelling" or batch.expires_at <= now()
            if is_ending:
                await self._line_jobs.cancel_waiting(batch)
            elif waiting and open_lines < WINDOW:
                await self._line_jobs.submit(batch, WINDOW - open_lines, open_lines=open_lines)
            if open_lines or (waiting and not is_ending):
                return
            if batch.status != "cancelling":
                await self._finalize(batch.id)
        await self._outputs.write(batch.id)

    async def _counts(self, batch: str) -> tuple[int, int]:
        """How many lines wait to be submitted, and how many are open as jobs."""
        counted = (
            select(BatchLineRow.state, func.count().label("lines"))
            .where(BatchLineRow.batch == batch, BatchLineRow.state.in_(("waiting", "open")))
            .group_by(BatchLineRow.state)
        )
        async with self._db.reading() as session:
            counts = {row.state: row.lines for row in await session.execute(counted)}
        return counts.get("waiting", 0), counts.get("open", 0)

    @retrying
    async def _harvest(self, batch: str) -> None:
        """Note the lines whose jobs have ended, and what they cost."""
        async with self._db.unit_of_work() as uow:
            row = await uow.find(BatchRow, batch, lock=True)
            ended = (
                select(BatchLineRow.line, JobRow.state, JobRow.price_units)
                .join(JobRow, JobRow.id == BatchLineRow.job)
                .where(BatchLineRow.batch == batch, BatchLineRow.state == "open", JobRow.completed_at.is_not(None))
                .limit(PAGE)
            )
            found = (await uow.session.execute(ended)).all()
            done = [line for line, state, _ in found if state == State.SUCCEEDED]
            failed = [line for line, state, _ in found if state != State.SUCCEEDED]
            for lines, state in ((done, "done"), (failed, "failed")):
                if lines:
                    these = BatchLineRow.batch == batch, BatchLineRow.line.in_(lines)
                    await uow.session.execute(update(BatchLineRow).where(*these).values(state=state))
            row.completed += len(done)
            row.failed += len(failed)
            row.spent_units += sum(price or 0 for _, state, price in found if state == State.SUCCEEDED)

    @retrying
    async def _finalize(self, batch: str) -> None:
        async with self._db.unit_of_work() as uow:
            row = await uow.find(BatchRow, batch, lock=True)
            if row.status == "in_progress":
                row.status, row.finalizing_at = "finalizing", now()
