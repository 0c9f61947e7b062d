"""How well an account's jobs of a time were served: counted in one statement over the index of its jobs."""

from datetime import datetime, timedelta

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api.service_levels import ServiceLevel, ServiceLimits

COUNTED = """
SELECT count(*) FILTER (WHERE served) AS good, count(*) FILTER (WHERE NOT served) AS bad FROM (
    SELECT CASE
        WHEN coalesce(begun, completed_at, $5) > created_at + $6::interval THEN false
        WHEN coalesce(completed_at, $5) > created_at + $7::interval THEN false
        WHEN state = 'succeeded' THEN true
        WHEN state = 'failed' AND fault IN ('miner', 'platform') THEN false
    END AS served
    FROM (
        SELECT j.*, (SELECT min(a.started_at) FROM ai.attempts a WHERE a.job = j.id) AS begun
        FROM ai.jobs j WHERE j.account = $1 AND j.kind = $2 AND j.id >= $3 AND j.id < $4
    ) AS jobs
) AS counted
"""
"""Late is whoever began or ended beyond a limit, or has not yet and could not any more. Null counts as neither: what is
open and in time, what its owner ended in time, and what failed by nobody's known fault or the requester's."""


async def service_level(
    database: Database, account: str, limits: ServiceLimits, since: datetime, until: datetime
) -> ServiceLevel:
    """How the jobs of a kind that an account submitted from `since` until `until` were served, as far as known now."""
    finish = timedelta(seconds=limits.finish_seconds)
    start = finish if limits.start_seconds is None else timedelta(seconds=limits.start_seconds)
    between = ids.lowest_uuid(since), ids.lowest_uuid(until)
    async with database.raw() as connection:
        row = await connection.fetchrow(
            COUNTED, ids.decode("acct", account), limits.kind, *between, now(), start, finish
        )
    assert row is not None, "an aggregate has a row"
    return ServiceLevel(good=row["good"], bad=row["bad"])
