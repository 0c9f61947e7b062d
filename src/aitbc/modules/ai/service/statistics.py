"""What work was settled at, and how long it waited: from stored jobs alone, nothing of it estimated."""

from datetime import timedelta

from msgspec import Struct

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.models.kinds.registry import kind_of

JOBS_MAX = 10_000
"""So many of the newest jobs of a window are looked at."""

# By the primary key, which is in the order of time. Jobs for a booked GPU cost what their booking does, and do not count;
# neither do those that an account's own miner did: they would say what that account likes.
STATISTICS = """
WITH jobs AS (
    SELECT state, price_units, units, started_at - created_at AS waited, EXISTS (
        SELECT FROM ai.attempts a WHERE a.job = jobs.id AND a.ended = 'succeeded' AND a.newcomer) AS by_newcomer
    FROM ai.jobs
    WHERE id >= $1 AND kind = $2 AND strpos(needs, '"booking":"') = 0 AND strpos(needs, '"miner":"') = 0
      AND NOT EXISTS (SELECT FROM ai.attempts a WHERE a.job = jobs.id AND a.miner_account = jobs.account)
      AND ($3::text IS NULL OR needs::json->>'model' = $3)
    ORDER BY id DESC LIMIT $4)
SELECT count(*) AS jobs,
    count(*) FILTER (WHERE state = 'succeeded') AS settled,
    count(*) FILTER (WHERE state = 'succeeded' AND by_newcomer) AS newcomers,
    count(*) FILTER (WHERE state = 'expired') AS unfilled,
    percentile_disc(ARRAY[0.1, 0.5, 0.9]) WITHIN GROUP (ORDER BY price_units / units)
        FILTER (WHERE state = 'succeeded' AND units > 0) AS prices,
    percentile_disc(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY extract(epoch FROM waited))
        FILTER (WHERE state = 'succeeded' AND waited IS NOT NULL) AS waits
FROM jobs"""


class KindStatistics(Struct, frozen=True, kw_only=True):
    """What work of a kind was settled at in a window of time; null where there is no data."""

    kind: str
    """The kind of work. For example `chat`."""
    model: str | None
    """Only jobs that named this model; null for all. For example `llama-3-8b`."""
    unit: str
    """What is metered. For example `byte`."""
    days: int
    """How many days back the window begins. For example `30`."""
    jobs: int
    """How many jobs of it were looked at: the newest 10 000 at most. For example `812`."""
    settled: int
    """How many of them have a result that was paid. For example `790`."""
    unfilled: int
    """How many no miner took in time. For example `3`."""
    newcomer_share: float | None
    """The share of the settled ones that miners without history did, 0 to 1; one job in eight is theirs first where one
    waits. For example `0.13`."""
    unit_price_p10: str | None
    """One in ten was settled at this price of a unit or less, in AITBC. For example `0.00000018`."""
    unit_price_p50: str | None
    """Half were settled at this price of a unit or less, in AITBC. For example `0.0000002`."""
    unit_price_p90: str | None
    """Nine in ten were settled at this price of a unit or less, in AITBC. For example `0.00000025`."""
    fill_seconds_p50: float | None
    """Half were taken by a miner within so many seconds. For example `0.4`."""
    fill_seconds_p90: float | None
    """Nine in ten were taken by a miner within so many seconds. For example `3.2`."""


class Statistics:
    """Computes statistics of jobs."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def of_kind(self, kind: str, model: str | None, days: int) -> KindStatistics:
        """What work of a kind was settled at in the last days. Raises `UnknownKind`."""
        unit = kind_of(kind).unit
        since = ids.lowest_uuid(now() - timedelta(days=days))
        async with self._db.raw() as connection:
            row = await connection.fetchrow(STATISTICS, since, kind, model, JOBS_MAX)
        assert row is not None, "counts are there of no rows too"
        prices: list[str | None] = [money.render(units) for units in row["prices"] or ()]
        waits: list[float | None] = [round(float(seconds), 3) for seconds in row["waits"] or ()]
        low, middle, high = prices or [None] * 3
        half, most = waits or [None] * 2
        return KindStatistics(
            kind=kind,
            model=model,
            unit=unit,
            days=days,
            jobs=row["jobs"],
            settled=row["settled"],
            unfilled=row["unfilled"],
            newcomer_share=round(row["newcomers"] / row["settled"], 4) if row["settled"] else None,
            unit_price_p10=low,
            unit_price_p50=middle,
            unit_price_p90=high,
            fill_seconds_p50=half,
            fill_seconds_p90=most,
        )
