"""The offers that fit a job: what it costs there, how fast they were, and which of them its payer prefers."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.models.fleet import FleetMiner
from aitbc.modules.ai.models.kinds.registry import price_of
from aitbc.modules.ai.models.preference import Candidate, Speed
from aitbc.modules.ai.models.queue import Needs
from aitbc.modules.ai.service.fleet_view import FleetView
from aitbc.modules.ai.service.market_asks import MarketAsks
from aitbc.modules.ai.service.market_terms import MarketTerms

JOBS_MAX = 2_000
"""So many of the newest paid jobs of a sort are looked at."""
WINDOW = timedelta(days=7)
"""Speeds are those of the last days."""
REMEMBERED = timedelta(seconds=30)
"""How long measured speeds are kept in memory."""
SORTS_MAX = 200
"""Of so many sorts of work speeds are kept in memory."""

# By the primary key, which is in the order of time; each job's last attempt is the one that brought its result.
SPEEDS = """
SELECT a.miner, count(*)::int AS jobs,
    percentile_disc(0.5) WITHIN GROUP (
        ORDER BY j.units / greatest(0.05, extract(epoch FROM a.ended_at - a.started_at)::float8)) AS speed
FROM (
    SELECT id, units, account FROM ai.jobs
    WHERE id >= $1 AND kind = $2 AND state = 'succeeded' AND units > 0
      AND ($3::text IS NULL OR needs::json->>'model' = $3)
    ORDER BY id DESC LIMIT $4) AS j
JOIN ai.attempts a ON a.job = j.id AND a.ended = 'succeeded' AND a.miner_account <> j.account GROUP BY a.miner"""

# How many slots of each miner are taken.
TAKEN_SLOTS = """
SELECT miner, count(*)::int AS leases FROM ai.attempts
WHERE ended IS NULL AND miner = ANY($1::uuid[]) GROUP BY miner"""


class FittingOffers:
    """Knows what miners that fit a job ask, and how fast they were."""

    def __init__(self, db: Database, fleet_view: FleetView, asks: MarketAsks, terms: MarketTerms) -> None:
        self._db = db
        self._terms = terms
        self._fleet_view = fleet_view
        self._asks = asks
        self._speeds: dict[tuple[str, str | None], tuple[datetime, Mapping[str, Speed]]] = {}

    async def fleet(self) -> Sequence[FleetMiner]:
        """Every miner that has not been removed."""
        return await self._fleet_view.miners()

    async def least_most(self, needs: Needs, units_max: int) -> tuple[int | None, bool]:
        """The most that a job can cost at the cheapest offer that fits, none where there is none; and whether a miner
        that fits works at the platform's price.
        """
        if not await self._asks.are_there():
            return None, True
        offered = await self._fleet_view.offered(needs, await self._fleet_view.miners())
        mosts = [price_of(units_max, ask.units, money.LARGEST) for _, ask in offered if ask is not None]
        return min(mosts, default=None), len(mosts) < len(offered) or not offered

    async def candidates(
        self, payer: str, needs: Needs, list_price_units: int, fleet: Sequence[FleetMiner]
    ) -> list[Candidate]:
        """The online miners that fit a job, with what a unit costs there and how fast they were.

        Those that ask something are left out where their owner and the payer do not deal with each other.
        """
        offered = await self._fleet_view.offered(needs, fleet)
        if await self._terms.are_there():
            owners = await self._asks.owners([miner.id for miner, _ in offered])
            refused = await self._terms.refused(payer, set(owners.values()))
            offered = [one for one in offered if owners.get(one[0].id) not in refused]
        speeds = await self.measured(needs.kind, needs.model)
        taken = await self._taken_slots([miner.id for miner, _ in offered])
        return [
            Candidate(
                miner=miner.id,
                ask=ask,
                unit_price_units=list_price_units if ask is None else ask.units,
                speed=speeds.get(miner.id),
                is_free=miner.slots > taken.get(miner.id, 0) and needs.kind not in miner.resting,
            )
            for miner, ask in offered
        ]

    async def measured(self, kind: str, model: str | None) -> Mapping[str, Speed]:
        """How fast miners did this sort of work in the last days; as it was up to half a minute ago."""
        sort = (kind, model)
        known = self._speeds.get(sort)
        if known is not None and timedelta() <= now() - known[0] < REMEMBERED:
            return known[1]
        since = ids.lowest_uuid(now() - WINDOW)
        async with self._db.raw() as connection:
            rows = await connection.fetch(SPEEDS, since, *sort, JOBS_MAX)
        speeds = {ids.encode("mnr", row["miner"]): Speed(round(row["speed"], 3), row["jobs"]) for row in rows}
        while len(self._speeds) >= SORTS_MAX:
            del self._speeds[next(iter(self._speeds))]
        self._speeds[sort] = (now(), speeds)
        return speeds

    async def _taken_slots(self, miners: Sequence[str]) -> Mapping[str, int]:
        async with self._db.raw() as connection:
            rows = await connection.fetch(TAKEN_SLOTS, [ids.decode("mnr", miner) for miner in miners])
        return {ids.encode("mnr", row["miner"]): row["leases"] for row in rows}
