"""Metrics: how many jobs are queued, leased and running, by kind."""

from collections.abc import Sequence
from datetime import timedelta

from prometheus_client import Metric

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.ids import lowest_uuid
from aitbc.kernel.telemetry.metrics import counter, gauge

OPEN = """
SELECT 'queued' AS state, kind, count(*) AS jobs FROM ai.jobs WHERE state = 'queued' GROUP BY kind
UNION ALL
SELECT CASE WHEN running_at IS NULL THEN 'leased' ELSE 'running' END, kind, count(*)
FROM ai.attempts WHERE ended IS NULL GROUP BY 1, kind"""

COUNTED = """
SELECT coalesce(sum(jobs) FILTER (WHERE NOT ended), 0)::bigint AS submitted,
       coalesce(sum(jobs) FILTER (WHERE ended), 0)::bigint AS ended
FROM ai.job_counts"""
DURATION = """
SELECT avg(extract(epoch FROM ended_at - started_at)) FROM (
    SELECT ended, started_at, ended_at FROM ai.attempts ORDER BY id DESC LIMIT 500) AS newest
WHERE ended = 'succeeded'"""

LATELY = timedelta(minutes=5)
# A success is good; what miners, the platform or nobody known is to blame for is bad; what requesters did is neither.
OUTCOMES = """
SELECT kind, CASE WHEN ended = 'succeeded' THEN 'good' ELSE 'bad' END AS outcome, count(*) AS attempts
FROM ai.attempts WHERE id >= $1 AND (ended = 'succeeded' OR ended IN ('failed', 'lost') AND fault <> 'requester')
GROUP BY 1, 2"""


async def measure(database: Database) -> Sequence[Metric]:
    """The open jobs, from their tables; how many there ever were, and how long the newest took."""
    jobs = gauge("aitbc_jobs", "Jobs that are open.", ("state", "kind"))
    async with database.raw() as connection:
        for row in await connection.fetch(OPEN):
            jobs.add_metric([row["state"], row["kind"]], float(row["jobs"]))
        counts = await connection.fetchrow(COUNTED)
        average = await connection.fetchval(DURATION)
        outcomes = await connection.fetch(OUTCOMES, lowest_uuid(now() - LATELY))
    assert counts is not None
    submitted = counter("aitbc_jobs_submitted_total", "Jobs that were ever written.")
    submitted.add_metric([], float(counts["submitted"]))
    ended = counter("aitbc_jobs_ended_total", "Jobs that have ended.")
    ended.add_metric([], float(counts["ended"]))
    took = gauge("aitbc_attempt_average_seconds", "How long the successes among the newest 500 attempts took.")
    if average is not None:
        took.add_metric([], float(average))
    lately = gauge("aitbc_attempts_lately", "How attempts of the last five minutes ended.", ("kind", "outcome"))
    for row in outcomes:
        lately.add_metric([row["kind"], row["outcome"]], float(row["attempts"]))
    return [jobs, submitted, ended, took, lately]
