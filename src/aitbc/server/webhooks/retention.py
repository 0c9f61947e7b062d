"""Retention of webhooks: deletes old deliveries and expired secrets, and disables endpoints with too many pending."""

from datetime import timedelta

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import CLOCK_SKEW_MAX, now

PENDING_MAX = 100_000
"""An endpoint with more pending deliveries than this is disabled: it would never catch up."""
UNSENT_KEPT = timedelta(days=7)
"""How long a delivery may wait for an endpoint that is disabled."""
PURGE_BATCH = 10_000
PURGE_ROUNDS_MAX = 100
"""At most so many batches are deleted at one time."""

DELETE_ENDED = """
DELETE FROM kernel.webhook_deliveries WHERE id = ANY(ARRAY(
    SELECT id FROM kernel.webhook_deliveries WHERE ended_at < $1 ORDER BY ended_at LIMIT $2))"""
DELETE_SECRETS = """
UPDATE kernel.webhook_endpoints SET previous_secret = NULL, previous_until = NULL WHERE previous_until < $1"""
GIVE_UP = """
UPDATE kernel.webhook_deliveries SET state = 'dead', ended_at = $1, error = coalesce(error, 'the endpoint is disabled')
WHERE state = 'pending' AND id = ANY(ARRAY(
    SELECT d.id FROM kernel.webhook_deliveries d JOIN kernel.webhook_endpoints w ON w.id = d.endpoint
    WHERE w.disabled_at < $2 AND d.state = 'pending' AND d.created_at < $2 LIMIT $3))"""
BRING_FORWARD = """
UPDATE kernel.webhook_deliveries SET due_at = $1
WHERE state = 'pending' AND due_at > $2 AND coalesce(attempted_at, created_at) > $2"""
DISABLE_OVERRUN = """
UPDATE kernel.webhook_endpoints w SET disabled_at = $1, disabled_reason = 'overrun' WHERE disabled_at IS NULL AND $2::int8 < (
    SELECT count(*) FROM (
        SELECT 1 FROM kernel.webhook_deliveries WHERE endpoint = w.id AND state = 'pending' LIMIT $2::int8 + 1) waiting)"""


async def purge(database: Database, kept: timedelta) -> None:
    """Delete old deliveries and expired secrets, give up those to disabled endpoints, and disable overrun endpoints.

    What was written or tried while the clock was ahead is due at once.
    """
    at = now()
    before = at - kept
    async with database.raw(writes=True) as connection:
        for statement, arguments in (
            (DELETE_ENDED, (before, PURGE_BATCH)),
            (GIVE_UP, (at, at - UNSENT_KEPT, PURGE_BATCH)),
        ):
            for _ in range(PURGE_ROUNDS_MAX):
                done = await connection.execute(statement, *arguments)
                if int(done.rpartition(" ")[2]) < PURGE_BATCH:
                    break
        await connection.execute(BRING_FORWARD, at, at + CLOCK_SKEW_MAX)
        await connection.execute(DELETE_SECRETS, at)
        await connection.execute(DISABLE_OVERRUN, at, PENDING_MAX)
