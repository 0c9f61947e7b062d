"""Which bookings are live: looked at in the transaction that writes or leases their jobs.

So an end comes before it or after it.
"""

from collections.abc import Collection
from datetime import datetime

from aitbc.kernel.database.unit_of_work import Connection

# The share lock makes an end wait for the commit of what was found live; then it finds those jobs and ends them.
LIVE_BOOKINGS = """
SELECT id FROM ai.bookings
WHERE id = ANY($1::text[]) AND ended_at IS NULL AND (ends_at IS NULL OR ends_at > $2) ORDER BY id FOR SHARE"""


async def live_bookings(connection: Connection, bookings: Collection[str], at: datetime) -> set[str]:
    """Those of these bookings that last; they do until the end of the transaction. Without any it asks nothing."""
    if not bookings:
        return set()
    return {row["id"] for row in await connection.fetch(LIVE_BOOKINGS, sorted(bookings), at)}
