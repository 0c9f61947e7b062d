"""The metrics of the ledger: open holds, drift (which must be zero), and how far the chain has come."""

from collections.abc import Sequence

from prometheus_client import Metric

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.telemetry.metrics import gauge

HOLDS = "SELECT count(*) FROM trading.holds WHERE state = 'open'"
DRIFT = """
SELECT coalesce(sum(balances), 0)::bigint AS balances, coalesce(sum(escrow), 0)::bigint AS escrow FROM (
    SELECT abs(sum(balance_units)) AS balances,
           abs(sum(held_units) - coalesce(sum(balance_units) FILTER (WHERE purpose = 'escrow'), 0)) AS escrow
    FROM trading.accounts GROUP BY asset) each_asset"""
UNSEALED = "SELECT count(*) FROM trading.unsealed"
HEAD = "SELECT height, sealed_at FROM trading.blocks ORDER BY height DESC LIMIT 1"


async def measure(database: Database) -> Sequence[Metric]:
    """The figures of the ledger, from its tables."""
    async with database.raw() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        holds = await connection.fetchval(HOLDS)
        drift = await connection.fetchrow(DRIFT)
        unsealed = await connection.fetchval(UNSEALED)
        head = await connection.fetchrow(HEAD)
    assert drift is not None
    found = [
        _of("aitbc_ledger_holds", "Holds that are open.", holds),
        _of("aitbc_ledger_drift", "Minor units by which the ledger disagrees with itself; must be 0.", sum(drift)),
        _of("aitbc_ledger_unsealed", "Records that wait for a block.", unsealed),
    ]
    if head is not None:
        age = max(0.0, (now() - head["sealed_at"]).total_seconds())
        found.append(_of("aitbc_block_height", "The height of the newest block.", head["height"]))
        found.append(_of("aitbc_block_age_seconds", "Seconds since the newest block was sealed.", age))
    return found


def _of(name: str, meaning: str, value: float) -> Metric:
    metric = gauge(name, meaning)
    metric.add_metric([], float(value))
    return metric
