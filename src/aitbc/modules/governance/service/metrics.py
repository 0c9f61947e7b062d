"""The metrics of governance: proposals by state, power, and money that is due."""

from collections.abc import Sequence

from prometheus_client import Metric

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.telemetry.metrics import gauge
from aitbc.modules.governance.api import SHOWN

STATES = "SELECT state, count(*) AS number FROM governance.proposals GROUP BY state"
POWER = "SELECT coalesce(sum(locked_units), 0)::bigint FROM governance.stakes"
DUE = "SELECT count(*) FROM governance.moves WHERE state = 'due' AND due_at <= now()"


async def measure(database: Database) -> Sequence[Metric]:
    """The figures of governance, from its tables."""
    async with database.raw() as connection:
        by_state = {row["state"]: row["number"] for row in await connection.fetch(STATES)}
        power = await connection.fetchval(POWER)
        due = await connection.fetchval(DUE)
    proposals = gauge("aitbc_governance_proposals", "Proposals by state.", ("state",))
    for state in SHOWN:
        proposals.add_metric([state], by_state.get(state, 0))
    stake = gauge("aitbc_governance_stake", "Stake that gives power, in minor units.")
    stake.add_metric([], power)
    moves = gauge("aitbc_governance_moves_due", "Movements of money that are due and not done.")
    moves.add_metric([], due)
    return [proposals, stake, moves]
