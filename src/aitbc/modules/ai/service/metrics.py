"""Metrics: how many jobs are queued, leased and running, by kind."""

from collections.abc import Sequence

from prometheus_client import Metric

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.telemetry.metrics import gauge

OPEN = """
SELECT 'queued' AS state, kind, count(*) AS jobs FROM ai.jobs WHERE state = 'queued' GROUP BY kind
UNION ALL
SELECT CASE WHEN running_at IS NULL THEN 'leased' ELSE 'running' END, kind, count(*)
FROM ai.attempts WHERE ended IS NULL GROUP BY 1, kind"""


async def measure(database: Database) -> Sequence[Metric]:
    """Gauges of the open jobs, from their tables."""
    jobs = gauge("aitbc_jobs", "Jobs that are open.", ("state", "kind"))
    async with database.raw() as connection:
        for row in await connection.fetch(OPEN):
            jobs.add_metric([row["state"], row["kind"]], float(row["jobs"]))
    return [jobs]
