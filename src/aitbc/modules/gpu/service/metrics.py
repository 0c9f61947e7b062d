"""Metrics of the miners: how many there are in each state, and the age of the oldest last heartbeat."""

from collections.abc import Sequence

from prometheus_client import Metric

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.telemetry.metrics import gauge
from aitbc.modules.gpu.models.reputation import NEWCOMER_BELOW

MINERS = """
SELECT m.status, CASE WHEN coalesce(r.good + r.bad, 0) < $1 THEN 'newcomer' ELSE 'known' END AS trust, count(*) AS miners
FROM gpu.miners m LEFT JOIN gpu.reputations r ON r.miner = m.id WHERE m.status <> 'removed' GROUP BY 1, 2"""
QUIETEST = "SELECT min(seen_at) FROM gpu.miners WHERE status IN ('online', 'draining')"


async def measure(database: Database) -> Sequence[Metric]:
    """The figures of the fleet, from its tables."""
    miners = gauge("aitbc_miners", "Miners that have not been removed.", ("state", "trust"))
    age = gauge("aitbc_miner_heartbeat_age_seconds", "Seconds since the last heartbeat of the quietest live miner.")
    async with database.raw() as connection:
        for row in await connection.fetch(MINERS, NEWCOMER_BELOW):
            miners.add_metric([row["status"], row["trust"]], float(row["miners"]))
        quietest = await connection.fetchval(QUIETEST)
    if quietest is not None:
        age.add_metric([], max(0.0, (now() - quietest).total_seconds()))
    return [miners, age]
