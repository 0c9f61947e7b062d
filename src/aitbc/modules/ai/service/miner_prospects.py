"""Why a miner got work, or did not: the jobs of a time held against what it offers now."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import JobsPassedBy, MinerProspects
from aitbc.modules.ai.models.asks import Ask, ask_for
from aitbc.modules.ai.models.fleet import FleetMiner
from aitbc.modules.ai.models.life import TERMINAL, State
from aitbc.modules.ai.models.queue import FILTERS, Needs, needs_of
from aitbc.modules.ai.service.checks.canaries import Canaries
from aitbc.modules.ai.service.fleet_view import FleetView
from aitbc.modules.ai.service.market_asks import MarketAsks

JOBS_MAX = 5000
NOT_KNOWN = "not_known"
"""The miner has not announced itself, or is removed."""

# The newest jobs of a time by their ids, which are made of the time and run ahead of it after a clock was set back; whether
SUBMITTED = """
SELECT j.needs, j.state, j.max_price_units / j.copies AS share_units, j.units_max, j.unit_price_units, j.preferred,
    j.trusted_only, a.is_mine, a.is_owners, a.is_taken
FROM ai.jobs j
LEFT JOIN LATERAL (
    SELECT bool_or(t.miner = $1) AS is_mine, count(*) > 0 AS is_taken, j.copies > 1 AND bool_or(t.miner_account = (
        SELECT o.miner_account FROM ai.attempts o WHERE o.miner = $1 ORDER BY o.id DESC LIMIT 1)) AS is_owners
    FROM ai.attempts t WHERE t.job = j.id) a ON true
WHERE j.id >= $2 AND j.created_at >= $4 ORDER BY j.id DESC LIMIT $3"""


class ProspectsOfMiners:
    """Tells miners' owners what became of the jobs that were there."""

    def __init__(self, db: Database, fleet_view: FleetView, asks: MarketAsks, canaries: Canaries) -> None:
        self._db = db
        self._canaries = canaries
        self._fleet_view = fleet_view
        self._asks = asks

    async def of(self, miner: str, since: datetime) -> MinerProspects:
        """What became of the jobs that were submitted since then."""
        fleet = {one.id: one for one in await self._fleet_view.miners()}
        known = fleet.get(miner)
        asks = (await self._asks.of([miner])).get(miner, ())
        async with self._db.raw() as connection:
            first = ids.lowest_uuid(since)
            rows = await connection.fetch(SUBMITTED, ids.decode("mnr", miner), first, JOBS_MAX, since)
        counts: Counter[tuple[str, str]] = Counter(_fate(row, known, asks, miner, now()) for row in rows)
        return MinerProspects(
            miner=miner,
            since=since,
            jobs=len(rows),
            taken=counts["taken", ""],
            waiting=counts["waiting", ""],
            filtered=_passed_by(counts, "filtered"),
            lost=_passed_by(counts, "lost"),
            canaries=await self._canaries.of(miner),
        )


def _passed_by(counts: Mapping[tuple[str, str], int], what: str) -> tuple[JobsPassedBy, ...]:
    found = [(reason, jobs) for (fate, reason), jobs in counts.items() if fate == what]
    return tuple(
        JobsPassedBy(reason=reason, jobs=jobs) for reason, jobs in sorted(found, key=lambda pair: (-pair[1], pair[0]))
    )


def _fate(row: Any, miner: FleetMiner | None, asks: tuple[Ask, ...], name: str, at: datetime) -> tuple[str, str]:
    """What became of a job: `taken`, `waiting`, `filtered` by a condition, or `lost` for a reason."""
    if row["is_mine"]:
        return "taken", ""
    if miner is None:
        return "filtered", NOT_KNOWN
    needs = needs_of(row["needs"])
    if (unmet := _unmet(needs, miner)) is not None:
        return "filtered", unmet
    ask = ask_for(needs, asks, at)
    if row["share_units"] < row["units_max"] * (row["unit_price_units"] if ask is None else ask.units):
        return "lost", "price"
    if row["is_owners"]:
        return "lost", "owner"
    if row["state"] == State.QUEUED:
        return ("lost", "trusted") if row["trusted_only"] else ("waiting", "")
    if not row["is_taken"]:
        return "lost", "untaken" if row["state"] in TERMINAL else "earlier"
    return "lost", "prefer" if row["preferred"] and name not in row["preferred"] else "earlier"


def _unmet(needs: Needs, miner: FleetMiner) -> str | None:
    """The first condition of a job that a miner does not meet."""
    return next((name for name, passes in FILTERS if not passes(needs, miner)), None)
