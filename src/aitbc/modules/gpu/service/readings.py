"""The history of GPUs: a sample of live miners' readings every minute, sums of each hour, and what is shown of it."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.modules.gpu.models.readings import Reading, ReadingRow, Step, reading_of
from aitbc.modules.gpu.service.miners import Miners
from aitbc.modules.gpu.service.retention import Retention

FRESH = timedelta(minutes=2)
"""Readings of a miner that was not heard for longer are none of this minute."""

# The newest readings of live miners, each GPU once a minute. A reading that is no number, or too large for its column,
# cannot be stored by a heartbeat.
SAMPLE = """
INSERT INTO gpu.readings (miner, uuid, step, at, samples, utilization, memory_used_mib, memory_total_mib,
    temperature_celsius, power_watts, brake_reasons)
SELECT DISTINCT ON (m.id, d->>'uuid') m.id, d->>'uuid', 'minute', date_trunc('minute', $1::timestamptz), 1,
    (d->>'utilization')::float8, (d->>'memory_used_mib')::int8, (d->>'memory_total_mib')::int8,
    (d->>'temperature_celsius')::float8, (d->>'power_watts')::float8,
    CASE json_typeof(d->'brake_reasons') WHEN 'array' THEN coalesce(
        (SELECT string_agg(b, ' ' ORDER BY b) FROM json_array_elements_text(d->'brake_reasons') AS b), '') END
FROM gpu.miners m, json_array_elements(m.readings::json->'devices') AS d
WHERE m.status IN ('online', 'draining') AND m.seen_at > $2 AND m.readings IS NOT NULL
    AND d->>'type' IS DISTINCT FROM 'cpu' AND d->>'uuid' IS NOT NULL
ON CONFLICT DO NOTHING"""

# The hours that have minutes and no sum yet, and that are over.
SUM_HOURS = """
INSERT INTO gpu.readings (miner, uuid, step, at, samples, utilization, memory_used_mib, memory_total_mib,
    temperature_celsius, power_watts, brake_reasons)
SELECT miner, uuid, 'hour', date_trunc('hour', at), count(*), round(avg(utilization)::numeric, 2)::float8,
    max(memory_used_mib), max(memory_total_mib), max(temperature_celsius),
    round(avg(power_watts)::numeric, 2)::float8,
    CASE WHEN count(brake_reasons) > 0 THEN coalesce((
        SELECT string_agg(DISTINCT word, ' ' ORDER BY word)
        FROM unnest(array_agg(brake_reasons)) AS told, regexp_split_to_table(told, ' ') AS word WHERE word <> ''), '') END
FROM gpu.readings WHERE step = 'minute' AND at < date_trunc('hour', $1::timestamptz) AND at >= $2
GROUP BY miner, uuid, date_trunc('hour', at)
ON CONFLICT DO NOTHING"""

DROP = "DELETE FROM gpu.readings WHERE step = $1 AND at < $2"


class Readings:
    """Kept by the clock, read by owners."""

    def __init__(self, db: Database, miners: Miners, retention: Retention) -> None:
        self._db = db
        self._miners = miners
        self._retention = retention
        self._summed: datetime | None = None
        """The hour up to which this process has summed up."""

    async def keep(self) -> None:
        """Take this minute's sample, sum up hours that are over, and drop what is old."""
        at = now()
        async with self._db.raw(writes=True) as connection:
            await connection.execute(SAMPLE, at, at - FRESH)
            hour = at.replace(minute=0, second=0, microsecond=0)
            if self._summed != hour:
                await connection.execute(SUM_HOURS, at, hour - self._retention.of_readings(Step.MINUTE))
                for step in Step:
                    await connection.execute(DROP, step.value, at - self._retention.of_readings(step))
                self._summed = hour

    async def of(
        self,
        who: Principal,
        miner: str,
        *,
        step: Step,
        uuid: str | None = None,
        since: datetime | None = None,
        limit: int,
    ) -> Sequence[Reading]:
        """The newest readings of a miner's GPUs, or of one of them, the newest first. Raises `MinerNotFound`."""
        await self._miners.owned(who, miner)
        query = select(ReadingRow).where(ReadingRow.miner == miner, ReadingRow.step == step.value)
        if uuid is not None:
            query = query.where(ReadingRow.uuid == uuid)
        if since is not None:
            query = query.where(ReadingRow.at >= since)
        async with self._db.reading() as session:
            rows = await session.scalars(query.order_by(ReadingRow.at.desc(), ReadingRow.uuid).limit(limit))
            return [reading_of(row) for row in rows]
