"""What miners did: the jobs that they work on and worked on, what these earned, and the sums of them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import func, select

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.modules.ai.api import AiApi, Lease
from aitbc.modules.gpu.api import Miner
from aitbc.modules.gpu.models.legacy import LegacyLeaseRow, LegacyMinerRow
from aitbc.modules.gpu.service.attempt_queries import ended_attempts
from aitbc.modules.gpu.service.miners import Miners


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


class MinerRecord(Struct, frozen=True, kw_only=True):
    """What a miner did so far, from its attempts that ended, and how many it works on now."""

    completed: int = 0
    failed: int = 0
    seconds: float = 0.0
    """The mean time that a completed one took."""
    inflight: int = 0
    receipt: str | None = None
    """Of the last job that was paid for; none for miners with a key of their own, which keep their receipts
    themselves."""


def is_busy(miner: Miner, record: MinerRecord) -> bool:
    """Whether every slot of a miner works."""
    return record.inflight >= miner.slots


class PaidJob(Struct, frozen=True, kw_only=True):
    """A job that was paid for."""

    job: str
    receipt: str
    earned_units: int | None
    """None where the ledger settled later."""
    ended_at: datetime


class MinerHistory:
    """Reading what miners did, from their attempts that ended and from the leases that are live."""

    def __init__(self, db: Database, ai: AiApi, miners: Miners) -> None:
        self._db = db
        self._ai = ai
        self._miners = miners

    async def jobs(self, who: Principal, miner: str, filters: WorkedJobFilter) -> tuple[Sequence[WorkedJob], int]:
        """A miner's jobs from the newest on, what it works on before what ended, and how many there are in all.

        Raises `MinerNotFound`.
        """
        await self._miners.owned(who, miner)
        live = [_live(lease) for lease in await self._ai.leases_of(miner) if filters.takes_live(lease.kind)]
        attempts = ended_attempts()
        worked = attempts.c
        fits = [worked.miner == miner]
        if filters.kind is not None:
            fits.append(worked.kind == filters.kind)
        if filters.outcomes is not None:
            fits.append(worked.outcome.in_(filters.outcomes))
        if filters.earned_min_units is not None:
            fits.append(worked.earned_units >= filters.earned_min_units)
        query = select(attempts).where(*fits).order_by(worked.ended_at.desc(), worked.attempt.desc())
        query = query.offset(max(filters.offset - len(live), 0)).limit(filters.limit)
        async with self._db.reading() as session:
            total = (await session.execute(select(func.count(worked.attempt)).where(*fits))).scalar_one()
            ended = [_ended(row) for row in await session.execute(query)]
        return [*live[filters.offset :], *ended][: filters.limit], len(live) + total

    async def records(self, miners: Sequence[Miner]) -> dict[str, MinerRecord]:
        """What each of these miners did so far."""
        wanted = [miner.id for miner in miners]
        worked, lease = ended_attempts().c, LegacyLeaseRow
        good, bad = worked.outcome == "succeeded", worked.outcome.in_(("failed", "lost"))
        took = func.avg(func.extract("epoch", worked.ended_at - worked.started_at)).filter(good)
        done = select(worked.miner, func.count().filter(good), func.count().filter(bad), took)
        done = done.where(worked.miner.in_(wanted)).group_by(worked.miner)
        held = select(lease.miner, func.count()).where(lease.miner.in_(wanted), lease.ended_at.is_(None))
        paid = select(lease.miner, lease.receipt).where(lease.miner.in_(wanted), lease.receipt.is_not(None))
        paid = paid.distinct(lease.miner).order_by(lease.miner, lease.ended_at.desc())
        without_key = select(LegacyMinerRow.miner).where(LegacyMinerRow.miner.in_(wanted))
        async with self._db.reading() as session:
            ended = {row[0]: row for row in await session.execute(done)}
            open_now = {row[0]: int(row[1]) for row in await session.execute(held.group_by(lease.miner))}
            receipts = {row[0]: row[1] for row in await session.execute(paid)}
            keyless = set(await session.scalars(without_key))
        return {
            miner.id: MinerRecord(
                completed=ended[miner.id][1] if miner.id in ended else 0,
                failed=ended[miner.id][2] if miner.id in ended else 0,
                seconds=float(ended[miner.id][3] or 0) if miner.id in ended else 0.0,
                inflight=open_now.get(miner.id, 0) if miner.id in keyless else miner.slots_busy,
                receipt=receipts.get(miner.id),
            )
            for miner in miners
        }

    async def paid_jobs(
        self, miner: str, since: datetime | None, until: datetime | None, limit: int
    ) -> Sequence[PaidJob]:
        """The jobs that a legacy miner was paid for, from the newest on."""
        lease = LegacyLeaseRow
        query = select(lease).where(lease.miner == miner, lease.receipt.is_not(None))
        if since is not None:
            query = query.where(lease.ended_at >= since)
        if until is not None:
            query = query.where(lease.ended_at < until)
        async with self._db.reading() as session:
            rows = await session.scalars(query.order_by(lease.taken_at.desc()).limit(limit))
            return [
                PaidJob(job=row.job, receipt=row.receipt, earned_units=row.earned_units, ended_at=row.ended_at)
                for row in rows
                if row.receipt is not None and row.ended_at is not None
            ]


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
