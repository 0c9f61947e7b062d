"""Retention: removes inputs, outputs, logs and artifacts that were kept for as long as was asked."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, select, update

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import JobNotFound
from aitbc.modules.ai.models.life import TERMINAL, IllegalMove
from aitbc.modules.ai.models.tables import ArtifactRow, AttemptRow, DeliveryRow, FlowRow, JobRow, LogRow, PartRow
from aitbc.modules.ai.service.artifacts import Artifacts
from aitbc.modules.ai.service.jobs import Jobs
from aitbc.modules.ai.service.waiters import WatchedJobs

PAGE = 200
FLOWS_KEPT = timedelta(days=1)
"""How long the place of an account in a lane is kept after its last job."""


class Retention:
    """Removes what is past its retention; the jobs themselves stay."""

    def __init__(self, db: Database, artifacts: Artifacts, watched: WatchedJobs, jobs: Jobs) -> None:
        self._db = db
        self._artifacts = artifacts
        self._watched = watched
        self._jobs = jobs

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

    @retrying
    async def forget(self, who: Principal, job: str) -> None:
        """Remove what a job of the caller's was asked and answered before its retention is over; again changes nothing.

        Raises `JobNotFound`, `IllegalMove` for one that has not ended.
        """
        async with self._db.unit_of_work() as uow:
            row = await uow.find(JobRow, job, lock=True, missing=JobNotFound)
            if row.account != who.account:
                raise JobNotFound
            if row.state not in TERMINAL:
                raise IllegalMove(f"The job is {row.state}; cancel it first.")
            await _empty(uow, [job])
            await uow.audit(who.account, who.key, "job.forget", job)
        self._jobs.forget(job)
        self._watched.notify([job])

    async def _remove_payloads(self) -> list[str]:
        async with self._db.unit_of_work() as uow:
            due = select(JobRow.id).where(JobRow.kept_until <= now()).order_by(JobRow.kept_until, JobRow.id).limit(PAGE)
            jobs = list(await uow.session.scalars(due.with_for_update(skip_locked=True)))
            if jobs:
                await _empty(uow, jobs)
        return jobs


async def _empty(uow: UnitOfWork, jobs: Sequence[str]) -> None:
    empty = {"input": None, "output": None, "kept_until": None}
    await uow.session.execute(update(JobRow).where(JobRow.id.in_(jobs)).values(**empty))
    await uow.session.execute(delete(LogRow).where(LogRow.job.in_(jobs)))
    await uow.session.execute(delete(DeliveryRow).where(DeliveryRow.job.in_(jobs)))
    attempts = select(AttemptRow.id).where(AttemptRow.job.in_(jobs))
    # What programs wrote last stands in the messages of failures, and files were delivered under the leases.
    said = update(AttemptRow).where(AttemptRow.job.in_(jobs), AttemptRow.message != "")
    await uow.session.execute(said.values(message=""))
    files = update(ArtifactRow).where(ArtifactRow.attempt.in_(attempts), ArtifactRow.expires_at > now())
    await uow.session.execute(files.values(expires_at=now()))
    await uow.session.execute(delete(PartRow).where(PartRow.job.in_(jobs)))
