"""Roll-outs: moved on from the rows, one step at a time; any process may do it, and may die at any point."""

import structlog
from sqlalchemy import exists, or_, select

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.modules.hermes.models.edge_tables import DeploymentRow, PlacementRow
from aitbc.modules.hermes.models.rollout import Gate, next_of
from aitbc.modules.hermes.service.deployment_rows import plan_of, roll_back, set_state, spots_of, tell

PAGE = 200
PROBLEM_LENGTH_MAX = 300

log = structlog.get_logger("aitbc.hermes")


class Rollouts:
    """Moves roll-outs on."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def roll_due(self) -> None:
        """Move on each deployment of which something is left to do."""
        if not await self._db.is_any("hermes.deployments WHERE state NOT IN ('failed', 'ended')"):
            return
        behind = exists().where(
            PlacementRow.deployment == DeploymentRow.id,
            PlacementRow.is_wanted,
            PlacementRow.wanted != DeploymentRow.target,
        )
        is_open = DeploymentRow.state.not_in(("failed", "ended"))
        found = select(DeploymentRow.id).where(is_open, or_(DeploymentRow.state == "rolling", behind))
        async with self._db.reading() as session:
            deployments = (await session.scalars(found.order_by(DeploymentRow.id).limit(PAGE))).all()
        for deployment in deployments:
            await self.roll(deployment)

    @retrying
    async def roll(self, deployment: str) -> None:
        """Take the next step of one."""
        async with self._db.unit_of_work() as uow:
            row = await uow.session.get_one(DeploymentRow, deployment, with_for_update={"key_share": True})
            if row.state in ("failed", "ended"):
                return
            placed = await spots_of(uow.session, deployment, lock=True)
            plan = plan_of(row)
            gate = Gate(
                canary_percent=plan.canary_percent,
                at_once=plan.at_once,
                failures_max=plan.failures_max,
                gate_seconds=plan.gate_seconds,
                ready_seconds=plan.ready_seconds,
            )
            found = next_of(gate, row.target, [one.spot for one in placed], now(), is_live=row.state != "rolling")
            tell(placed, found.begin, row.target)
            if found.verdict == "live":
                row.good = row.target
                set_state(uow, row, "live")
            elif found.verdict == "rolled_back":
                why = next((one.placement.problem for one in placed if one.placement.edge in found.failed), "")
                log.warning("deployment_rolled_back", deployment=deployment, version=row.target, reason=why)
                await uow.session.flush()
                await roll_back(uow, row, (why or "not_ready_in_time")[:PROBLEM_LENGTH_MAX])
