"""Retention: removes inputs, outputs, logs and artifacts that were kept for as long as was asked."""

from datetime import timedelta

from sqlalchemy import delete, select, update

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.models.tables import FlowRow, JobRow, LogRow, PartRow
from aitbc.modules.ai.service.artifacts import Artifacts
from aitbc.modules.ai.service.waiters import WatchedJobs

PAGE = 200
FLOWS_KEPT = timedelta(days=1)
"""How long the place of an account in a lane is kept after its last job."""


class Retention:
    """Removes what is past its retention; the jobs themselves stay."""

    def __init__(self, db: Database, artifacts: Artifacts, watched: WatchedJobs) -> None:
        self._db = db
        self._artifacts = artifacts
        self._watched = watched

    async def tidy(self) -> None:
        """Remove inputs, outputs, their parts and logs past their retention, old artifacts, and unused flows.

        What uploads left that died goes first: it frees room, and the first round is at the start.
        """
        await self._artifacts.remove_abandoned()
        while len(removed := await self._remove_payloads()) == PAGE:
            pass
        self._watched.notify(removed)
        await self._artifacts.remove_expired()
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(delete(FlowRow).where(FlowRow.used_at < now() - FLOWS_KEPT))

    async def _remove_payloads(self) -> list[str]:
        async with self._db.unit_of_work() as uow:
            due = select(JobRow.id).where(JobRow.kept_until <= now()).order_by(JobRow.kept_until, JobRow.id).limit(PAGE)
            jobs = list(await uow.session.scalars(due.with_for_update(skip_locked=True)))
            if jobs:
                empty = {"input": None, "output": None, "kept_until": None}
                await uow.session.execute(update(JobRow).where(JobRow.id.in_(jobs)).values(**empty))
                await uow.session.execute(delete(LogRow).where(LogRow.job.in_(jobs)))
                await uow.session.execute(delete(PartRow).where(PartRow.job.in_(jobs)))
        return jobs
