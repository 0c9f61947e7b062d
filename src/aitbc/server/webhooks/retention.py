"""Retention of webhooks: old deliveries are deleted, expired secrets too, and what waits for a disabled endpoint is given up."""

from datetime import timedelta

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now

PENDING_MAX = 100_000
"""An endpoint for which more than this waits is disabled: nobody catches up with that."""
UNSENT_KEPT = timedelta(days=7)
"""How long a message waits for an endpoint that is disabled."""
TIDIED_MAX = 10_000
TIDY_ROUNDS_MAX = 100
"""So many times so many rows are forgotten at one time."""

TIDY = """
DELETE FROM kernel.webhook_deliveries WHERE id = ANY(ARRAY(
    SELECT id FROM kernel.webhook_deliveries WHERE ended_at < $1 ORDER BY ended_at LIMIT $2))"""
FORGET_SECRETS = """
UPDATE kernel.webhook_endpoints SET previous_secret = NULL, previous_until = NULL WHERE previous_until < $1"""
GIVE_UP = """
UPDATE kernel.webhook_deliveries SET state = 'dead', ended_at = $1, error = coalesce(error, 'the endpoint is disabled')
WHERE state = 'pending' AND id = ANY(ARRAY(
    SELECT d.id FROM kernel.webhook_deliveries d JOIN kernel.webhook_endpoints w ON w.id = d.endpoint
    WHERE w.disabled_at < $2 AND d.state = 'pending' AND d.created_at < $2 LIMIT $3))"""
OVERRUN = """
UPDATE kernel.webhook_endpoints w SET disabled_at = $1, disabled_reason = 'overrun' WHERE disabled_at IS NULL AND $2::int8 < (
    SELECT count(*) FROM (
        SELECT 1 FROM kernel.webhook_deliveries WHERE endpoint = w.id AND state = 'pending' LIMIT $2::int8 + 1) waiting)"""


async def tidy(database: Database, kept: timedelta) -> None:
    """Forget what ended long ago and secrets that count no more, and give up what waits for nobody."""
    at = now()
    before = at - kept
    async with database.raw() as connection:
        for statement, arguments in ((TIDY, (before, TIDIED_MAX)), (GIVE_UP, (at, at - UNSENT_KEPT, TIDIED_MAX))):
            for _ in range(TIDY_ROUNDS_MAX):
                done = await connection.execute(statement, *arguments)
                if int(done.rpartition(" ")[2]) < TIDIED_MAX:
                    break
        await connection.execute(FORGET_SECRETS, at)
        await connection.execute(OVERRUN, at, PENDING_MAX)
