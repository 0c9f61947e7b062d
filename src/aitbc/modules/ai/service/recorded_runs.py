"""Recorded runs: how long work took that was done and paid, with how sure that is; nothing of too few."""

import math
from collections.abc import Sequence
from datetime import timedelta

from msgspec import Struct

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now

DAYS = 7
RUNS_MAX = 1000
RUNS_MIN = 6
"""Of fewer runs an interval of 95 % does not exist."""

# By the primary key, which is in the order of time; what an account's own miner did for it does not count.
RUNS = """
SELECT extract(epoch FROM a.ended_at - a.started_at)::float8 AS seconds FROM (
    SELECT id, account FROM ai.jobs WHERE id >= $1 AND state = 'succeeded' AND ($2::text IS NULL OR kind = $2)
      AND ($3::text IS NULL OR needs::json->>'model' = $3)
    ORDER BY id DESC LIMIT $4) AS j
JOIN ai.attempts a ON a.job = j.id AND a.ended = 'succeeded' AND a.miner_account <> j.account"""


class RecordedRuns(Struct, frozen=True, kw_only=True):
    """How long the runs of the last seven days took."""

    runs: int
    median_seconds: float
    low_seconds: float
    """The median of all such work lies above this with a chance of 97.5 %."""
    high_seconds: float
    """And below this likewise."""
    p90_seconds: float


class RunRecords:
    """Reads what runs took."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def of(self, *, kind: str | None = None, model: str | None = None) -> RecordedRuns | None:
        """How long runs of a kind or a model took; none where too few are recorded to say how sure that is."""
        since = ids.lowest_uuid(now() - timedelta(days=DAYS))
        async with self._db.raw() as connection:
            rows = await connection.fetch(RUNS, since, kind, model, RUNS_MAX)
        return summary([float(row["seconds"]) for row in rows])


def summary(seconds: Sequence[float]) -> RecordedRuns | None:
    """The median with its interval of 95 % by order statistics, which assumes nothing about how times are spread."""
    times, count = sorted(seconds), len(seconds)
    if count < RUNS_MIN:
        return None
    below = 0
    while sum(math.comb(count, k) for k in range(below + 1)) / 2**count <= 0.025:
        below += 1  # so many of the least may lie below the median's interval
    lowest = max(below - 1, 0)
    return RecordedRuns(
        runs=count,
        median_seconds=round(times[count // 2], 3),
        low_seconds=round(times[lowest], 3),
        high_seconds=round(times[count - 1 - lowest], 3),
        p90_seconds=round(times[min(count * 9 // 10, count - 1)], 3),
    )
