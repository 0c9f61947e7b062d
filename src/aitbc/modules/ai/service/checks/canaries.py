"""Canaries: idle miners get a small paid job through the public road, and a kind that fails it is offered no more."""

import hashlib
from datetime import datetime, timedelta

import structlog
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.api import CanaryResult, Clocks
from aitbc.modules.ai.models.asks import NO_ASKS
from aitbc.modules.ai.models.canaries import KINDS, RETRY, Finding, Known, canary_of, judge
from aitbc.modules.ai.models.fleet import ONLINE, FleetMiner
from aitbc.modules.ai.models.life import TERMINAL
from aitbc.modules.ai.models.submit_job import RetryPolicy, SubmitJob
from aitbc.modules.ai.models.tables import AskRow, AttemptRow, CanaryRow, JobRow
from aitbc.modules.ai.service.fleet_view import FleetView
from aitbc.modules.ai.service.settings import AiSettings
from aitbc.modules.ai.service.submissions import Submissions

PER_ROUND = 20
"""So many are sent at once at most."""
CLOCKS = Clocks(queue_seconds=60, run_seconds=60)
DAY = timedelta(days=1)

log = structlog.get_logger("aitbc.ai")


class Canaries:
    """Sends canary jobs and judges how they went; only where the settings name who pays for them."""

    def __init__(self, db: Database, fleet_view: FleetView, submissions: Submissions, settings: AiSettings) -> None:
        self._db = db
        self._fleet_view = fleet_view
        self._submissions = submissions
        self._settings = settings
        self._known = Known(commands=settings.canary_commands, containers=settings.canary_containers)

    async def of(self, miner: str) -> tuple[CanaryResult, ...]:
        """How the last canary of each kind went on a miner."""
        wanted = select(CanaryRow).where(CanaryRow.miner == miner).order_by(CanaryRow.kind)
        async with self._db.reading() as session:
            return tuple(_view(row) for row in await session.scalars(wanted))

    async def round(self) -> None:
        """Judge those that have ended, and send to those miners whose time it is. Safe to break off anywhere."""
        if not self._settings.canary_hours or not self._settings.canary_account:
            return
        await self._judge_ended()
        for miner, kind in await self._due():
            row = await self._begin(miner.id, kind)
            if row is not None:
                await self._send(miner, row)

    async def _judge_ended(self) -> None:
        """Those whose jobs have ended; one of which nothing is known of a job is sent again under its old key."""
        wanted = select(CanaryRow.miner, CanaryRow.kind).join(JobRow, JobRow.id == CanaryRow.job)
        wanted = wanted.where(CanaryRow.state == "waiting", JobRow.state.in_([state.value for state in TERMINAL]))
        lost = select(CanaryRow).where(CanaryRow.state == "waiting", CanaryRow.job.is_(None))
        async with self._db.reading() as session:
            ended = [(miner, kind) for miner, kind in await session.execute(wanted.limit(1000))]
            unsent = list(await session.scalars(lost.limit(PER_ROUND)))
        for miner, kind in ended:
            await self._judge(miner, kind)
        fleet = {one.id: one for one in await self._fleet_view.miners()} if unsent else {}
        for row in unsent:
            if row.miner in fleet:
                await self._send(fleet[row.miner], row)

    @retrying
    async def _judge(self, miner: str, kind: str) -> None:
        async with self._db.unit_of_work() as uow:
            row = await uow.session.get(CanaryRow, (miner, kind), with_for_update=True)
            if row is None or row.state != "waiting" or row.job is None:
                return
            job = await uow.session.get_one(JobRow, row.job)
            newest = select(AttemptRow.reason, AttemptRow.running_at).where(AttemptRow.job == row.job)
            last = (await uow.session.execute(newest.order_by(AttemptRow.token.desc()).limit(1))).one_or_none()
            attempt = (job.reason, False) if last is None else (last.reason, last.running_at is not None)
            finding = judge(kind, job.state, job.fault, job.output, attempt, row.expects)
            if finding.is_void:
                _conclude(row, "unsent", Finding(None, f"The job ended as {job.state}: {job.reason}."), RETRY)
            elif finding.step is None:
                _conclude(row, "passed", finding, timedelta(hours=self._settings.canary_hours))
                row.unproven = False
            else:
                _conclude(row, "failed", finding, RETRY)
                row.unproven = True
            await self._offer(uow, miner)

    async def _offer(self, uow: UnitOfWork, miner: str) -> None:
        """Write down for claims and quotes which kinds of a miner are not offered now."""
        await uow.session.flush()
        wanted = select(CanaryRow.kind).where(CanaryRow.miner == miner, CanaryRow.unproven).order_by(CanaryRow.kind)
        unproven = " ".join(await uow.session.scalars(wanted))
        making = insert(AskRow).values(miner=miner, asks=NO_ASKS).on_conflict_do_nothing()
        await uow.session.execute(making)
        ask = await uow.session.get_one(AskRow, miner, with_for_update=True)
        ask.unproven = unproven

    async def _due(self) -> list[tuple[FleetMiner, str]]:
        """The idle miners with the kinds whose time it is, as many as today's number allows."""
        at = now()
        account = self._settings.canary_account
        made = select(func.count()).where(
            JobRow.account == account, JobRow.id >= ids.encode("job", ids.lowest_uuid(at - DAY))
        )
        async with self._db.reading() as session:
            left = self._settings.canaries_per_day - int((await session.execute(made)).scalar_one())
            busy = set(await session.scalars(select(AttemptRow.miner).where(AttemptRow.ended.is_(None))))
            rows = await session.scalars(select(CanaryRow))
            later = {(row.miner, row.kind) for row in rows if row.state == "waiting" or row.next_at > at}
        found = [
            (miner, kind)
            for miner in await self._fleet_view.miners()
            if miner.status == ONLINE and miner.booking is None and miner.id not in busy
            for kind in KINDS
            if kind in miner.kinds and (miner.id, kind) not in later and canary_of(kind, miner, "", self._known)
        ]
        return found[: max(0, min(left, PER_ROUND))]

    @retrying
    async def _begin(self, miner: str, kind: str) -> CanaryRow | None:
        """Note that a canary is on its way, before it is: so it is sent once, whatever happens."""
        at = now()
        async with self._db.unit_of_work() as uow:
            row = await uow.session.get(CanaryRow, (miner, kind), with_for_update=True)
            if row is None:
                row = CanaryRow(miner=miner, kind=kind, number=0, state="unsent", unproven=False, expects="")
                uow.add(row)
            elif row.state == "waiting":
                return None
            row.number += 1
            row.state, row.step, row.message, row.job = "waiting", None, "", None
            row.at, row.next_at = at, at
        return row

    async def _send(self, miner: FleetMiner, row: CanaryRow) -> None:
        """Submit the job of a canary, as any payer would, for this miner alone."""
        account = self._settings.canary_account
        name = f"canary:{row.miner}:{row.kind}:{row.number}"
        canary = canary_of(row.kind, miner, name, self._known)
        if canary is None:
            await self._note(row, None, "Its miner has nothing of this kind any more that can be asked.")
            return
        command = SubmitJob(
            kind=row.kind,
            input=canary.input,
            max_price=self._settings.canary_max_price,
            clocks=CLOCKS,
            retry=RetryPolicy(attempts_max=1),
        )
        once = IdempotencyKey(account, name, hashlib.sha256(name.encode()).digest())
        who = Principal(account, "canary", "live", frozenset())
        try:
            job = await self._submissions.submit(who, command, once, only_miner=row.miner)
        except AppError as refusal:
            log.warning("canary_not_sent", miner=row.miner, kind=row.kind, reason=refusal.message)
            await self._note(row, None, refusal.message)
        else:
            await self._note(row, job.id, canary.expects)

    @retrying
    async def _note(self, sent: CanaryRow, job: str | None, told: str) -> None:
        """Note the job that was sent with what its answer must be told as, or why none was."""
        async with self._db.unit_of_work() as uow:
            row = await uow.session.get_one(CanaryRow, (sent.miner, sent.kind), with_for_update=True)
            if (row.state, row.number, row.job) != ("waiting", sent.number, None):
                return
            if job is None:
                _conclude(row, "unsent", Finding("submitted", told[:500]), RETRY)
            else:
                row.job, row.expects = job, told


def _conclude(row: CanaryRow, state: str, finding: Finding, again: timedelta) -> None:
    at: datetime = now()
    row.state, row.step, row.message = state, finding.step, finding.message
    row.at, row.next_at = at, at + again


def _view(row: CanaryRow) -> CanaryResult:
    return CanaryResult(kind=row.kind, state=row.state, step=row.step, message=row.message, job=row.job, at=row.at)
