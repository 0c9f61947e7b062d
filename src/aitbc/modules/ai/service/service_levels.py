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
        WHEN coalesce(told, completed_at, $5) > created_at + $9::interval THEN false
        WHEN coalesce(completed_at, $5) > created_at + $7::interval THEN false
        WHEN state = 'succeeded' THEN true
        WHEN state = 'failed' AND fault IN ('miner', 'platform') THEN false
    END AS served
    FROM (
        SELECT j.*, (SELECT min(a.started_at) FROM ai.attempts a WHERE a.job = j.id) AS begun,
            (SELECT a.first_text_at FROM ai.attempts a WHERE a.job = j.id ORDER BY a.token DESC LIMIT 1) AS told
        FROM ai.jobs j WHERE j.account = $1 AND j.kind = $2 AND j.id >= $8 AND j.created_at >= $3 AND j.created_at < $4
    ) AS jobs
) AS counted
"""
"""Late is whoever began, told its first text (the last attempt's is the one that stays) or ended beyond a limit, or has
not yet and could not any more. Null counts as neither: what is open and in time, what its owner ended in time, and what
failed by nobody's known fault or the requester's."""
ID_MARGIN = timedelta(minutes=1)
"""An id is made just before its job is written; after a clock was set back ids are ahead of it, never behind."""


async def service_level(
    database: Database, account: str, limits: ServiceLimits, since: datetime, until: datetime
) -> ServiceLevel:
    """How the jobs of a kind that an account submitted from `since` until `until` were served, as far as known now."""
    finish = timedelta(seconds=limits.finish_seconds)
    start = finish if limits.start_seconds is None else timedelta(seconds=limits.start_seconds)
    text = finish if limits.first_text_seconds is None else timedelta(seconds=limits.first_text_seconds)
    first = ids.lowest_uuid(since - ID_MARGIN)
    async with database.raw() as connection:
        row = await connection.fetchrow(
            COUNTED, ids.decode("acct", account), limits.kind, since, until, now(), start, finish, first, text
        )
    assert row is not None, "an aggregate has a row"
    return ServiceLevel(good=row["good"], bad=row["bad"])
