"""Models that jobs wait for while nobody who is online serves them, for who would make somebody serve them."""

from collections.abc import Collection, Sequence

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids
from aitbc.modules.ai.api.demand import UnservedModel
from aitbc.modules.ai.models.fleet import ONLINE, FleetMiner
from aitbc.modules.ai.models.queue import Needs, needs_of
from aitbc.modules.ai.service.fleet_view import FleetView

JOBS_MAX = 20
"""So many waiting jobs of a model are named."""

# The lanes of what waits, one look into the index for each, and the first jobs of each.
WAITING = """
WITH RECURSIVE lanes AS (
    (SELECT lane FROM ai.jobs WHERE state = 'queued' ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT (SELECT j.lane FROM ai.jobs j WHERE j.state = 'queued' AND j.lane > l.lane ORDER BY j.lane LIMIT 1)
    FROM lanes l WHERE l.lane IS NOT NULL)
SELECT j.id, j.needs, j.created_at FROM lanes l CROSS JOIN LATERAL (
    SELECT id, needs, created_at, rank FROM ai.jobs
    WHERE lane = l.lane AND state = 'queued' ORDER BY rank, id LIMIT $1) AS j
WHERE l.lane IS NOT NULL ORDER BY j.created_at, j.id"""

NOT_FAILED = "SELECT id FROM ai.jobs WHERE id = ANY($1::uuid[]) AND state NOT IN ('failed', 'canceled', 'expired')"


class UnservedModels:
    """Finds what waits for a model that nobody serves."""

    def __init__(self, db: Database, fleet_view: FleetView) -> None:
        self._db = db
        self._fleet_view = fleet_view

    async def waiting(self) -> Sequence[UnservedModel]:
        """The models that jobs wait for and no miner that is online serves, by whoever has waited the longest."""
        async with self._db.raw() as connection:
            rows = await connection.fetch(WAITING, JOBS_MAX)
        if not rows:
            return ()
        served = _served(await self._fleet_view.miners())
        found: dict[tuple[str, str], UnservedModel] = {}
        for row in rows:
            needs, job = needs_of(row["needs"]), ids.encode("job", row["id"])
            if needs.model is None or not _for_anybody(needs) or (needs.kind, needs.model) in served:
                continue
            sort = (needs.kind, needs.model)
            known = found.get(sort)
            if known is None:
                found[sort] = UnservedModel(kind=needs.kind, model=needs.model, since=row["created_at"], jobs=(job,))
            elif len(known.jobs) < JOBS_MAX:
                found[sort] = UnservedModel(
                    kind=needs.kind, model=needs.model, since=known.since, jobs=(*known.jobs, job)
                )
        return tuple(found.values())

    async def not_failed(self, jobs: Sequence[str]) -> Sequence[str]:
        """Those of these jobs that have succeeded or may still, in any order."""
        async with self._db.raw() as connection:
            rows = await connection.fetch(NOT_FAILED, [ids.decode("job", job) for job in jobs])
        return [ids.encode("job", row["id"]) for row in rows]


def _for_anybody(needs: Needs) -> bool:
    """Whether whoever serves the model may do it: neither a booking nor a miner is named."""
    return needs.booking is None and needs.miner is None


def _served(fleet: Sequence[FleetMiner]) -> Collection[tuple[str, str]]:
    return {
        (kind, model)
        for miner in fleet
        if miner.status == ONLINE
        for kind, models in miner.models.items()
        for model in models
    }
