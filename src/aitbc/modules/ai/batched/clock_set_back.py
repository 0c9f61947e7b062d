"""Set-based repairs after a clock that was ahead: leases and pauses that it put off end in their time all the same."""

from datetime import datetime, timedelta

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import CLOCK_SKEW_MAX
from aitbc.modules.ai.models.life import BACKOFF_SECONDS_MAX, LEASE

# What was leased in the future was leased now, for all that anybody knows. Locked in the order of jobs, as renewals are.
RESTART_LEASES = """UPDATE ai.attempts a
SET started_at = $1::timestamptz, running_at = CASE WHEN a.running_at IS NOT NULL THEN $1::timestamptz END,
    expires_at = $1::timestamptz + $3::interval, run_until = $1::timestamptz + (a.run_until - a.started_at)
FROM (SELECT id FROM ai.attempts WHERE ended IS NULL AND started_at > $2 ORDER BY job FOR UPDATE SKIP LOCKED) AS ahead
WHERE a.id = ahead.id"""
END_PAUSES = """UPDATE ai.jobs j
SET due_at = $1::timestamptz, expires_at = least($1::timestamptz + make_interval(secs => j.queue_seconds), j.deadline_at)
FROM (SELECT id FROM ai.jobs WHERE state = 'queued' AND due_at > $2 ORDER BY id FOR UPDATE SKIP LOCKED) AS ahead
WHERE j.id = ahead.id"""


async def bring_forward(database: Database, at: datetime) -> int:
    """Restart the leases and end the pauses that began in the future; answers how many there were."""
    changed = 0
    async with database.raw(writes=True) as connection:
        for statement, values in (
            (RESTART_LEASES, (at, at + CLOCK_SKEW_MAX, LEASE)),
            (END_PAUSES, (at, at + CLOCK_SKEW_MAX + timedelta(seconds=BACKOFF_SECONDS_MAX))),
        ):
            changed += int((await connection.execute(statement, *values)).rpartition(" ")[2])
    return changed
