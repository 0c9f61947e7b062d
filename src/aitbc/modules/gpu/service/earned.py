"""Earnings: what miners were paid by their receipts, by GPU, and what miners like them were paid."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import AiApi
from aitbc.modules.gpu.models.earnings import ESTIMATE_DAYS, EarningsEstimate, MinerEarnings, by_device, estimate
from aitbc.modules.gpu.models.life import Status
from aitbc.modules.gpu.service.miners import Miners
from aitbc.modules.trading.api import TradingApi

# The slots of all miners that compete for work of each kind.
COMPETING = """
SELECT k.kind, sum(m.slots)::int AS slots FROM gpu.miners m JOIN gpu.profiles p ON p.miner = m.id
CROSS JOIN LATERAL json_array_elements_text(p.capabilities::json -> 'kinds') AS k(kind)
WHERE m.status = 'online' AND k.kind = ANY($1::text[]) GROUP BY k.kind"""


class Earned:
    """Sums up earnings."""

    def __init__(self, db: Database, miners: Miners, ai: AiApi, trading: TradingApi) -> None:
        self._db = db
        self._miners = miners
        self._ai = ai
        self._trading = trading

    async def of(
        self, who: Principal, miner: str, since: datetime | None, until: datetime | None = None
    ) -> MinerEarnings:
        """What a miner was paid, the sum over its receipts of a time, and what is set aside for it now.

        Raises `MinerNotFound`.
        """
        found = await self._miners.owned(who, miner)
        rows = await self._trading.earned_by_devices(miner, since, until)
        pending = await self._ai.pending_of(miner)
        own = [row for row in rows if row.is_own_work]
        missing = 0 if found.status == Status.ONLINE else found.slots
        return MinerEarnings(
            miner=miner,
            since=since,
            jobs=sum(row.jobs for row in rows),
            earned=money.render(sum(row.earned_units for row in rows)),
            pending_jobs=pending.jobs,
            pending=money.render(pending.held_units),
            own_jobs=sum(row.jobs for row in own),
            own=money.render(sum(row.earned_units for row in own)),
            by_device=by_device(rows),
            estimate=await self._estimate(found.kinds, found.slots, missing),
        )

    async def expected(self, kinds: Collection[str], slots: int) -> EarningsEstimate:
        """What a further miner with so many slots for these kinds would have earned in a day, by what was paid."""
        return await self._estimate(sorted(set(kinds)), slots, slots)

    async def _estimate(self, kinds: Sequence[str], slots: int, missing: int) -> EarningsEstimate:
        """`missing` are those of the slots that are not online now, and would compete beside those that are."""
        async with self._db.raw() as connection:
            rows = await connection.fetch(COMPETING, list(kinds))
        there = {row["kind"]: row["slots"] for row in rows}
        competing = {kind: there.get(kind, 0) + missing for kind in kinds}
        paid = await self._trading.paid_by_kind(now() - timedelta(days=ESTIMATE_DAYS), ())
        return estimate(kinds, slots, competing, paid)
