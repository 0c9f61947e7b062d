"""Metrics of the miners: how many there are in each state, the age of the oldest last heartbeat, and what GPUs read."""

from collections.abc import Sequence
from typing import Any

from prometheus_client import Metric

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.telemetry.metrics import gauge
from aitbc.modules.gpu.models.reputation import NEWCOMER_BELOW

MINERS = """
SELECT m.status, CASE WHEN coalesce(r.good + r.bad, 0) < $1 THEN 'newcomer' ELSE 'known' END AS trust, count(*) AS miners
FROM gpu.miners m LEFT JOIN gpu.reputations r ON r.miner = m.id WHERE m.status <> 'removed' GROUP BY 1, 2"""
QUIETEST = "SELECT min(seen_at) FROM gpu.miners WHERE status IN ('online', 'draining')"

GPUS_MAX = 50
"""Of so many names of GPUs there are figures, the most frequent: miners name theirs."""
# What the GPUs of live miners read last, by what their drivers call them. A figure that no driver gives is left out.
GPUS = """
SELECT d->>'name' AS name, count(*) AS gpus, count(*) FILTER (WHERE d->>'fault' IS NOT NULL) AS faulty,
    count(*) FILTER (WHERE d->>'rests' IS NOT NULL AND d->>'fault' IS NULL) AS resting,
    sum((d->>'memory_used_mib')::float8) * 1048576 AS used, avg((d->>'utilization')::float8) / 100 AS utilization,
    sum((d->>'power_watts')::float8) AS watts, max((d->>'temperature_celsius')::float8) AS celsius
FROM gpu.miners m, json_array_elements(m.readings::json->'devices') AS d
WHERE m.status IN ('online', 'draining') AND m.readings IS NOT NULL AND d->>'type' IS DISTINCT FROM 'cpu'
    AND d->>'name' IS NOT NULL
GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $1"""
FIGURES = (
    ("used", "aitbc_gpu_memory_used_bytes", "Memory in use of the GPUs of live miners."),
    ("utilization", "aitbc_gpu_utilization_ratio", "How busy the GPUs of live miners are, on average."),
    ("watts", "aitbc_gpu_power_watts", "What the GPUs of live miners draw."),
    ("celsius", "aitbc_gpu_temperature_celsius", "The hottest GPU of live miners."),
)


async def measure(database: Database) -> Sequence[Metric]:
    """The figures of the fleet, from its tables."""
    miners = gauge("aitbc_miners", "Miners that have not been removed.", ("state", "trust"))
    age = gauge("aitbc_miner_heartbeat_age_seconds", "Seconds since the last heartbeat of the quietest live miner.")
    async with database.raw() as connection:
        for row in await connection.fetch(MINERS, NEWCOMER_BELOW):
            miners.add_metric([row["status"], row["trust"]], float(row["miners"]))
        quietest = await connection.fetchval(QUIETEST)
        gpus = await connection.fetch(GPUS, GPUS_MAX)
    if quietest is not None:
        age.add_metric([], max(0.0, (now() - quietest).total_seconds()))
    return [miners, age, *_gpu_metrics(gpus)]


def _gpu_metrics(rows: Sequence[Any]) -> list[Metric]:
    states = gauge("aitbc_gpus", "GPUs of live miners.", ("model", "state"))
    for row in rows:
        for state, count in (
            ("faulty", row["faulty"]),
            ("resting", row["resting"]),
            ("working", row["gpus"] - row["faulty"] - row["resting"]),
        ):
            states.add_metric([row["name"], state], float(count))
    figures = []
    for column, name, meaning in FIGURES:
        figure = gauge(name, meaning, ("model",))
        for row in rows:
            if row[column] is not None:
                figure.add_metric([row["name"]], row[column])
        figures.append(figure)
    return [states, *figures]
