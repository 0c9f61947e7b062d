"""Leases of legacy miners, which know jobs only: remembered here, kept alive for them, and closed when they end."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby

from sqlalchemy import Select, select, update

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import AiApi, JobNotFound, Lease, Renewal
from aitbc.modules.gpu.models.legacy import LegacyLeaseRow, LegacyMinerRow
from aitbc.modules.gpu.models.tables import MinerRow
from aitbc.modules.gpu.service.heartbeats import LEASES_MAX
from aitbc.modules.gpu.service.legacy_keys import is_called

ROUND = 500
"""How many leases the periodic task looks after at a time."""


class LegacyLeases:
    """The leases that legacy miners were given, by job."""

    def __init__(self, db: Database, ai: AiApi, patience_seconds: float) -> None:
        """Leases are kept alive for `patience_seconds` after the last heartbeat of their miner."""
        self._db = db
        self._ai = ai
        self._patience = timedelta(seconds=patience_seconds)

    async def add(self, miner: str, lease: Lease) -> None:
        """Remember a lease that a miner was just given, and renew it: its work has begun."""
        async with self._db.unit_of_work() as uow:
            uow.add(
                LegacyLeaseRow(
                    attempt=lease.attempt,
                    job=lease.job,
                    token=lease.token,
                    miner=miner,
                    kind=lease.kind,
                    input_digest=lease.input_digest,
                    taken_at=now(),
                )
            )
        await self._ai.renew(miner, [Renewal(attempt=lease.attempt, token=lease.token)])

    async def find(self, who: Principal, name: str | None, job: str) -> LegacyLeaseRow:
        """The newest lease of a job that a legacy miner of the caller's was given. Raises `JobNotFound`."""
        if not ids.is_id("job", job):
            raise JobNotFound
        query = (
            select(LegacyLeaseRow)
            .join(LegacyMinerRow, LegacyMinerRow.miner == LegacyLeaseRow.miner)
            .where(LegacyLeaseRow.job == job, LegacyMinerRow.account == who.account)
            .order_by(LegacyLeaseRow.token.desc())
        )
        if who.subject is not None:
            query = query.where(LegacyLeaseRow.miner == who.subject)
        if name is not None:
            query = query.where(is_called(name))
        leases = await self._read(query.limit(1))
        if not leases:
            raise JobNotFound
        return leases[0]

    async def open_of(self, miner: str) -> Sequence[LegacyLeaseRow]:
        """The leases of a miner that have not ended."""
        return await self._read(_open_leases().where(LegacyLeaseRow.miner == miner).limit(LEASES_MAX))

    @retrying
    async def close(
        self, attempts: Sequence[str], *, receipt: str | None = None, earned_units: int | None = None
    ) -> bool:
        """Record that leases are over; whether that was not known before.

        Whoever brings the receipt has the last word: a heartbeat may have recorded the end without it a moment earlier.
        """
        if not attempts:
            return False
        unknown = LegacyLeaseRow.ended_at.is_(None) if receipt is None else LegacyLeaseRow.receipt.is_(None)
        values = {"ended_at": now(), "receipt": receipt, "earned_units": earned_units}
        changed = update(LegacyLeaseRow).where(LegacyLeaseRow.attempt.in_(attempts), unknown).values(**values)
        changed = changed.returning(LegacyLeaseRow.attempt)
        async with self._db.unit_of_work() as uow:
            return bool((await uow.session.scalars(changed)).all())

    async def keep_alive(self) -> None:
        """Renew the leases of legacy miners whose last heartbeat is recent, and close those that have ended."""
        edge, after = now() - self._patience, None
        while True:
            query = _open_leases().limit(ROUND)
            if after is not None:
                query = query.where(LegacyLeaseRow.attempt > after)
            leases = await self._read(query)
            for miner, held in groupby(sorted(leases, key=lambda lease: lease.miner), lambda lease: lease.miner):
                await self._keep(miner, list(held), edge)
            if len(leases) < ROUND:
                return
            after = leases[-1].attempt

    async def _keep(self, miner: str, leases: Sequence[LegacyLeaseRow], edge: datetime) -> None:
        async with self._db.reading() as session:
            seen_at = await session.scalar(select(MinerRow.seen_at).where(MinerRow.id == miner))
        if max([seen_at or edge, *(lease.taken_at for lease in leases)]) > edge:
            renewals = [Renewal(attempt=lease.attempt, token=lease.token) for lease in leases]
            ended = [one.attempt for one in await self._ai.renew(miner, renewals) if one.status != "live"]
        else:
            live = {lease.attempt for lease in await self._ai.leases_of(miner)}
            ended = [lease.attempt for lease in leases if lease.attempt not in live]
        await self.close(ended)

    async def _read(self, query: Select[LegacyLeaseRow]) -> Sequence[LegacyLeaseRow]:
        async with self._db.reading() as session:
            return list(await session.scalars(query))


def _open_leases() -> Select[LegacyLeaseRow]:
    return select(LegacyLeaseRow).where(LegacyLeaseRow.ended_at.is_(None)).order_by(LegacyLeaseRow.attempt)
