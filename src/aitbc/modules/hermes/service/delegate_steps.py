"""Steps that other agents do: a run below the run, within what was reserved for it."""

from collections.abc import Awaitable, Callable

from sqlalchemy import update

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.hermes.models.life import OVER, RunState
from aitbc.modules.hermes.models.plans import fill
from aitbc.modules.hermes.models.shapes import AgentDelegateStep
from aitbc.modules.hermes.models.tables import RunRow, StepRow
from aitbc.modules.hermes.service.calls import Above, Calls
from aitbc.modules.hermes.service.commands import CallSkill
from aitbc.modules.hermes.service.outcomes import Broken, Done, Going, Halted, Outcome, refused
from aitbc.modules.hermes.service.views import asked_of, plan_of

LOOK_SECONDS = 30.0
"""A run that ends has the one above it driven on; this is for what was missed."""


class DelegateSteps:
    """Begins runs below runs, and looks what became of them."""

    def __init__(self, db: Database, calls: Calls, choose: Callable[[str, int], Awaitable[str]]) -> None:
        """`choose` answers the agent for a skill and a budget. Raises `NoAgentFits`."""
        self._db = db
        self._calls = calls
        self._choose = choose

    async def do(self, run: RunRow, step: StepRow, outputs: dict[str, str]) -> Outcome:
        """Begin the run, once; then look whether it has ended."""
        if step.reference is None:
            try:
                begun = await self._begin(run, step, outputs)
            except AppError as error:
                return refused(error)
            return Going(reference=begun, drives=begun, seconds=LOOK_SECONDS)
        child = await self._read(step.reference)
        if child.state not in OVER:
            return Going(seconds=LOOK_SECONDS, drives=child.id if child.due_at <= now() else None)
        if child.state == RunState.COMPLETED:
            return Done(spent_units=child.spent_units, output=child.output)
        return Broken(reason=f"delegate_{child.state}", spent_units=child.spent_units)

    async def _begin(self, run: RunRow, step: StepRow, outputs: dict[str, str]) -> str:
        plan, asked = plan_of(step), asked_of(run)
        assert isinstance(plan, AgentDelegateStep)
        agent = plan.agent or await self._choose(plan.skill, step.reserved_units)
        call = CallSkill(
            agent=agent,
            skill=plan.skill,
            text=fill(plan.text, asked.text, asked.data, outputs),
            data=asked.data,
            budget_units=step.reserved_units,
        )
        return await self._calls.delegate(Above(run=run.id, step=step.number), call)

    async def _read(self, run: str) -> RunRow:
        async with self._db.reading() as session:
            return await session.get_one(RunRow, run)

    async def stop(self, run: RunRow, step: StepRow) -> Halted | Going:
        """Cancel the run below."""
        if step.reference is None:
            return Halted(spent_units=0)
        child = await self._read(step.reference)
        if child.state in OVER:
            return Halted(spent_units=child.spent_units)
        await self._condemn(child.id)
        return Going(seconds=LOOK_SECONDS, drives=child.id)

    @retrying
    async def _condemn(self, run: str) -> None:
        open_one = update(RunRow).where(RunRow.id == run, RunRow.ended_at.is_(None), RunRow.verdict.is_(None))
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(
                open_one.values(verdict=RunState.CANCELED, reason="canceled_from_above", due_at=now())
            )
