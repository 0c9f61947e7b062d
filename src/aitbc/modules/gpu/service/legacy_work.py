"""Work in the older dialect: a job is given out under its own id, and the server remembers the lease and signs the result."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from msgspec import Struct
from sqlalchemy import Select, func, select, update

from aitbc.kernel.crypto.signing import canonical, value_digest, work_statement
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Invalid
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.modules.ai.api import JobNotFound, Lease, LeaseLost, Outcome, Renewal
from aitbc.modules.gpu.api import Inventory
from aitbc.modules.gpu.models.legacy import LegacyLeaseRow, LegacyMinerRow
from aitbc.modules.gpu.models.tables import MinerRow
from aitbc.modules.gpu.models.values import Heartbeat
from aitbc.modules.gpu.service.attempt_queries import worked_attempts
from aitbc.modules.gpu.service.legacy_miners import OlderMiners, acting_as
from aitbc.modules.gpu.service.work import (
    LEASES_MAX,
    WAIT_SECONDS_MAX,
    AskForWork,
    DeliverResult,
    KeepLease,
    ReportFailure,
    SendHeartbeat,
    Working,
)

ROUND = 500
"""How many leases the chore looks after at a time."""
OVER = "This job was delivered, given up or lost before."


class OutputNotTaken(Invalid):
    """The result is not what this kind of work gives; the job goes to another miner."""

    code = "output_not_taken"


class LegacyHeartbeat(Struct, frozen=True, kw_only=True):
    """A heartbeat of the older dialect."""

    inflight: int | None = None
    """How many jobs it works on; none leaves what it said before."""
    pause: str | None = None
    leaving: bool = False
    telemetry: Inventory | None = None


class WorkedJob(Struct, frozen=True, kw_only=True):
    """A job that a miner works on, or that an attempt of its ended."""

    job: str
    kind: str
    outcome: str
    """`running`, or as attempts end: `succeeded`, `failed`, `lost`, `released` or `canceled`."""
    reason: str
    made_at: datetime
    started_at: datetime
    ended_at: datetime | None
    expires_at: datetime | None
    receipt: str | None
    earned_units: int | None


class WorkedJobFilter(Struct, frozen=True, kw_only=True):
    """Which of a miner's jobs are wanted."""

    kind: str | None = None
    outcomes: frozenset[str] | None = None
    earned_min_units: int | None = None
    """Only jobs of which it is known that at least so much was earned with them."""
    offset: int = 0
    limit: int = 20

    def takes_live(self, kind: str) -> bool:
        """Whether a job of this kind that is still worked on is wanted."""
        running = self.outcomes is None or "running" in self.outcomes
        return running and self.earned_min_units is None and self.kind in (None, kind)


class OlderWork(OlderMiners, Working):
    """Polls, results and heartbeats of miners whose keys the server keeps."""

    async def poll_older(self, who: Principal, name: str | None, wait_seconds: float) -> Lease | None:
        """One job, as soon as there is one, or none. Raises `MinerNotFound`, `TooManyPolls`."""
        row, miner = await self.speaker(who, name)
        assert row.miner is not None
        await self.beat(Heartbeat(miner=row.miner, request_id=current_request_id()))  # a poll is a sign of life here
        wish = AskForWork(slots=1, wait_seconds=min(max(wait_seconds, 0.0), WAIT_SECONDS_MAX))
        work = await self.poll(miner, wish)
        if not work.leases:
            return None
        (lease,) = work.leases
        async with self.db.unit_of_work() as uow:
            uow.add(
                LegacyLeaseRow(
                    attempt=lease.attempt,
                    job=lease.job,
                    token=lease.token,
                    miner=row.miner,
                    kind=lease.kind,
                    input_digest=lease.input_digest,
                    taken_at=now(),
                )
            )
        await self.ai.renew(row.miner, [Renewal(attempt=lease.attempt, token=lease.token)])  # it has begun
        return lease

    async def heartbeat_older(self, who: Principal, name: str | None, sign: LegacyHeartbeat) -> None:
        """Hear a sign of life, which is one of every job that the miner works on. Raises `MinerNotFound`."""
        row, miner = await self.speaker(who, name)
        assert row.miner is not None
        leases = await self._leases(_open_leases().where(LegacyLeaseRow.miner == row.miner).limit(LEASES_MAX))
        known = await self.miner(row.miner)
        told = await self.heartbeat(
            miner,
            SendHeartbeat(
                slots=known.slots,
                slots_busy=known.slots_busy if sign.inflight is None else sign.inflight,
                leases=tuple(KeepLease(attempt=lease.attempt, token=lease.token) for lease in leases),
                telemetry=sign.telemetry,
                pause=sign.pause,
                leaving=sign.leaving,
            ),
        )
        await self._close([status.attempt for status in told.leases if status.status != "live"])

    async def given(self, who: Principal, name: str | None, job: str) -> LegacyLeaseRow:
        """The newest lease of a job that an older miner of the caller's was given. Raises `JobNotFound`."""
        if not ids.is_id("job", job):
            raise JobNotFound
        wanted = (
            select(LegacyLeaseRow)
            .join(LegacyMinerRow, LegacyMinerRow.miner == LegacyLeaseRow.miner)
            .where(LegacyLeaseRow.job == job, LegacyMinerRow.account == who.account)
            .order_by(LegacyLeaseRow.token.desc())
        )
        if name is not None:
            same = LegacyMinerRow.miner == name if ids.is_id("mnr", name) else LegacyMinerRow.legacy_id == name
            wanted = wanted.where(same)
        leases = await self._leases(wanted.limit(1))
        if not leases:
            raise JobNotFound
        return leases[0]

    async def deliver_older(self, who: Principal, lease: LegacyLeaseRow, output: Any, usage: dict[str, int]) -> Outcome:
        """Sign a result for its miner and deliver it, once.

        Raises `LeaseLost` for one that was delivered before or came too late, `OutputNotTaken`, `OutputTooLarge`,
        `LegacyKeyLost`.
        """
        if lease.ended_at is not None:
            raise LeaseLost(OVER)
        row, miner = await self.speaker(who, lease.miner)
        digest = value_digest(output)
        statement = work_statement(
            job=lease.job,
            attempt=lease.attempt,
            token=lease.token,
            miner=lease.miner,
            kind=lease.kind,
            input_digest=lease.input_digest,
            output_digest=digest,
        )
        result = DeliverResult(
            token=lease.token,
            output=output,
            output_digest=digest,
            usage=usage,
            signature=self.opened(row).sign(canonical(statement)),
        )
        outcome = await self.deliver(miner, lease.attempt, result)
        if outcome.receipt is None:
            await self._close([lease.attempt])
            raise OutputNotTaken(state=outcome.state)
        earned = None if outcome.earned is None else money.parse(outcome.earned, zero=True)
        if not await self._close([lease.attempt], receipt=outcome.receipt, earned_units=earned):
            raise LeaseLost(OVER)  # another request brought the same meanwhile
        return outcome

    async def fail_older(self, who: Principal, lease: LegacyLeaseRow, report: ReportFailure) -> Outcome:
        """Give a job up. Raises `LeaseLost`."""
        if lease.ended_at is not None:
            raise LeaseLost(OVER)
        outcome = await self.fail(acting_as(who, lease.miner), lease.attempt, report)
        await self._close([lease.attempt])
        return outcome

    async def worked_jobs(self, who: Principal, miner: str, wish: WorkedJobFilter) -> tuple[Sequence[WorkedJob], int]:
        """A miner's jobs from the newest on, what it works on before what ended, and how many there are in all.

        Raises `MinerNotFound`.
        """
        await self.miner_of(who, miner)
        live = [_live(lease) for lease in await self.ai.leases_of(miner) if wish.takes_live(lease.kind)]
        found = worked_attempts()
        worked = found.c
        fits = [worked.miner == miner]
        if wish.kind is not None:
            fits.append(worked.kind == wish.kind)
        if wish.outcomes is not None:
            fits.append(worked.outcome.in_(wish.outcomes))
        if wish.earned_min_units is not None:
            fits.append(worked.earned_units >= wish.earned_min_units)
        wanted = select(found).where(*fits).order_by(worked.ended_at.desc(), worked.attempt.desc())
        wanted = wanted.offset(max(wish.offset - len(live), 0)).limit(wish.limit)
        async with self.db.reading() as session:
            total = (await session.execute(select(func.count(worked.attempt)).where(*fits))).scalar_one()
            ended = [_ended(row) for row in await session.execute(wanted)]
        return [*live[wish.offset :], *ended][: wish.limit], len(live) + total

    async def keep_older(self) -> None:
        """Keep alive the leases of older miners that showed a sign of life not long ago, and note those that have ended."""
        edge, after = now() - timedelta(seconds=self.settings.older_patience_seconds), None
        while True:
            wanted = _open_leases().limit(ROUND)
            if after is not None:
                wanted = wanted.where(LegacyLeaseRow.attempt > after)
            leases = await self._leases(wanted)
            for miner, held in groupby(sorted(leases, key=lambda lease: lease.miner), lambda lease: lease.miner):
                await self._keep(miner, list(held), edge)
            if len(leases) < ROUND:
                return
            after = leases[-1].attempt

    async def _keep(self, miner: str, leases: Sequence[LegacyLeaseRow], edge: datetime) -> None:
        async with self.db.reading() as session:
            seen_at = await session.scalar(select(MinerRow.seen_at).where(MinerRow.id == miner))
        if max([seen_at or edge, *(lease.taken_at for lease in leases)]) > edge:
            renewals = [Renewal(attempt=lease.attempt, token=lease.token) for lease in leases]
            ended = [one.attempt for one in await self.ai.renew(miner, renewals) if one.status != "live"]
        else:
            live = {lease.attempt for lease in await self.ai.leases_of(miner)}
            ended = [lease.attempt for lease in leases if lease.attempt not in live]
        await self._close(ended)

    async def _leases(self, wanted: Select[LegacyLeaseRow]) -> Sequence[LegacyLeaseRow]:
        async with self.db.reading() as session:
            return list(await session.scalars(wanted))

    @retrying
    async def _close(
        self, attempts: Sequence[str], *, receipt: str | None = None, earned_units: int | None = None
    ) -> bool:
        """Note that leases are over; whether that was not known before.

        Whoever brings the receipt has the last word: a heartbeat may have noted the end without it a moment earlier.
        """
        if not attempts:
            return False
        unknown = LegacyLeaseRow.ended_at.is_(None) if receipt is None else LegacyLeaseRow.receipt.is_(None)
        values = {"ended_at": now(), "receipt": receipt, "earned_units": earned_units}
        changed = update(LegacyLeaseRow).where(LegacyLeaseRow.attempt.in_(attempts), unknown).values(**values)
        changed = changed.returning(LegacyLeaseRow.attempt)
        async with self.db.unit_of_work() as uow:
            return bool((await uow.session.scalars(changed)).all())


def _open_leases() -> Select[LegacyLeaseRow]:
    return select(LegacyLeaseRow).where(LegacyLeaseRow.ended_at.is_(None)).order_by(LegacyLeaseRow.attempt)


def _live(lease: Lease) -> WorkedJob:
    return WorkedJob(
        job=lease.job,
        kind=lease.kind,
        outcome="running",
        reason="working",
        made_at=ids.made_at("job", lease.job),
        started_at=ids.made_at("att", lease.attempt),
        ended_at=None,
        expires_at=lease.expires_at,
        receipt=None,
        earned_units=None,
    )


def _ended(row: Any) -> WorkedJob:
    return WorkedJob(
        job=row.job,
        kind=row.kind,
        outcome=row.outcome,
        reason=row.reason,
        made_at=ids.made_at("job", row.job),
        started_at=row.started_at,
        ended_at=row.ended_at,
        expires_at=None,
        receipt=row.receipt,
        earned_units=row.earned_units,
    )
