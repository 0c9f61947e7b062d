"""What processes take of rate limits: shares of a minute, and places for requests at once, under a row's lock each."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.models.rate_limits import RateLimit

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
SLOTS_LAST = timedelta(seconds=30)
"""Places of a process that says nothing for so long are free again."""

READ_LIMITS = """
SELECT id, account, key, model, requests_per_minute, tokens_per_minute, concurrency, changed_at, ended_at
FROM ai.rate_limits WHERE changed_at >= $1 ORDER BY changed_at"""
LOCK_LIMIT = "SELECT FROM ai.rate_limits WHERE id = $1 FOR UPDATE"

LOCK_WINDOW = "SELECT window_start, granted FROM ai.rate_windows WHERE rate_limit = $1 AND measure = $2 FOR UPDATE"
ADD_WINDOW = """
INSERT INTO ai.rate_windows (rate_limit, measure, window_start, granted) VALUES ($1, $2, $3, 0) ON CONFLICT DO NOTHING"""
SAVE_WINDOW = "UPDATE ai.rate_windows SET window_start = $3, granted = $4 WHERE rate_limit = $1 AND measure = $2"

OTHERS_SLOTS = """
SELECT coalesce(sum(slots), 0)::bigint AS slots FROM ai.rate_slots
WHERE rate_limit = $1 AND process <> $2 AND seen_at > $3"""
SAVE_SLOTS = """
INSERT INTO ai.rate_slots (rate_limit, process, slots, seen_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (rate_limit, process) DO UPDATE SET slots = excluded.slots, seen_at = excluded.seen_at"""
DROP_SLOTS = "DELETE FROM ai.rate_slots WHERE rate_limit = ANY($1::uuid[]) AND process = $2"
DROP_OLD_SLOTS = "DELETE FROM ai.rate_slots WHERE rate_limit = $1 AND seen_at < $2"


class Granted(NamedTuple):
    """What a process got of a window, and how much of it all of them have now."""

    amount: int
    granted: int


async def read_limits(database: Database, since: datetime) -> list[RateLimit]:
    """The limits that changed from a time on, those that ended too."""
    async with database.raw() as connection:
        rows = await connection.fetch(READ_LIMITS, since)
    limits = []
    for row in rows:
        values = dict(row) | {"id": ids.encode("rlim", row["id"]), "account": ids.encode("acct", row["account"])}
        values["key"] = None if row["key"] is None else ids.encode("key", row["key"])
        limits.append(RateLimit(**values))
    return limits


async def take_of_window(
    database: Database, limit: str, measure: str, start: datetime, *, wanted: int, most: int
) -> Granted:
    """Take up to so much of a window that begins at a time; less where others have taken the rest."""
    place = ids.decode("rlim", limit), measure
    async with database.raw_transaction() as connection:
        row = await connection.fetchrow(LOCK_WINDOW, *place)
        if row is None:
            await connection.execute(ADD_WINDOW, *place, NEVER)
            row = await connection.fetchrow(LOCK_WINDOW, *place)
            assert row is not None, "it was added"
        # A process whose clock is behind takes of the window that the others are in.
        granted = row["granted"] if row["window_start"] >= start else 0
        amount = max(min(wanted, most - granted), 0)
        if amount:
            await connection.execute(SAVE_WINDOW, *place, max(row["window_start"], start), granted + amount)
    return Granted(amount, granted + amount)


async def take_slots(database: Database, limit: str, process: UUID, *, held: int, wanted: int, most: int) -> int:
    """Take up to so many more places for requests at once; answers how many the process has then."""
    id_, at = ids.decode("rlim", limit), now()
    async with database.raw_transaction() as connection:
        await connection.execute(LOCK_LIMIT, id_)
        await connection.execute(DROP_OLD_SLOTS, id_, at - 2 * SLOTS_LAST)
        row = await connection.fetchrow(OTHERS_SLOTS, id_, process, at - SLOTS_LAST)
        others = 0 if row is None else int(row["slots"])
        slots = held + max(min(wanted, most - others - held), 0)
        await connection.execute(SAVE_SLOTS, id_, process, slots, at)
    return slots


async def keep_slots(database: Database, limit: str, process: UUID, slots: int) -> None:
    """Say how many places a process still has: those of one that says nothing are free after `SLOTS_LAST`."""
    async with database.raw(writes=True) as connection:
        await connection.execute(SAVE_SLOTS, ids.decode("rlim", limit), process, slots, now())


async def drop_slots(database: Database, limits: Sequence[str], process: UUID) -> None:
    """Give back all places that a process has of these limits."""
    async with database.raw(writes=True) as connection:
        await connection.execute(DROP_SLOTS, [ids.decode("rlim", limit) for limit in limits], process)
