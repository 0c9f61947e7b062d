"""Runs as their callers see and change them."""

from collections.abc import Sequence

from sqlalchemy import Select, func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.modules.hermes.models.life import OVER, RunState, StepState, end_step, move_run
from aitbc.modules.hermes.models.shapes import AgentRun
from aitbc.modules.hermes.models.tables import RunRow, StepRow
from aitbc.modules.hermes.service.approve_steps import NOT_APPROVED
from aitbc.modules.hermes.service.calls import Calls
from aitbc.modules.hermes.service.commands import AgentRunNotFound, CallSkill, NotWaiting, RunFilter, RunOver
from aitbc.modules.hermes.service.driver import Driver
from aitbc.modules.hermes.service.ends import Ends
from aitbc.modules.hermes.service.pushes import tell_of
from aitbc.modules.hermes.service.rows import steps_of
from aitbc.modules.hermes.service.views import run_view
from aitbc.modules.trading.api import InsufficientFunds


class AgentRuns:
    """Calls skills, and shows, cancels and answers runs."""

    def __init__(self, db: Database, calls: Calls, driver: Driver, ends: Ends) -> None:
        self._db = db
        self._calls = calls
        self._driver = driver
        self._ends = ends

    async def call(self, who: Principal, call: CallSkill, once: IdempotencyKey) -> AgentRun:
        """Call a skill, and answer its run once it waits for somebody or has ended.

        Raises what `Calls.place` raises, and `InsufficientFunds` where its price could not be set aside.
        """
        found = await self.begin(who, call, once)
        if (found.state, found.reason) == (RunState.REJECTED, InsufficientFunds.code):
            raise InsufficientFunds
        return found

    async def begin(self, who: Principal, call: CallSkill, once: IdempotencyKey) -> AgentRun:
        """The same, with a run that was rejected where its price could not be set aside."""
        run = await self._calls.place(who, call, once)
        await self._driver.drive(run)
        return await self.get(who, run)

    async def call_by_ticket(self, run: str, ticket: str, name: str, call: CallSkill) -> AgentRun:
        """Call a skill for a run that a remote agent works on. Raises what `Calls.delegate_by_ticket` raises."""
        child = await self._calls.delegate_by_ticket(run, ticket, name, call)
        await self._driver.drive(child)
        row, steps = await self._read(child)
        return run_view(row, steps)

    async def _read(self, run: str) -> tuple[RunRow, Sequence[StepRow]]:
        async with self._db.unit_of_work() as uow:
            row = await uow.find(RunRow, run, missing=AgentRunNotFound)
            return row, await steps_of(uow.session, run)

    async def rows(self, who: Principal, run: str) -> tuple[RunRow, Sequence[StepRow]]:
        """A run and its steps; the agent's owner may see it too. Raises `AgentRunNotFound`."""
        row, steps = await self._read(run)
        if not who.owns(row.account) and row.owner != who.account:
            raise AgentRunNotFound
        return row, steps

    async def get(self, who: Principal, run: str) -> AgentRun:
        """A run that the caller pays, or that an agent of the caller's does. Raises `AgentRunNotFound`."""
        return run_view(*await self.rows(who, run))

    async def paid(self, who: Principal, run: str) -> AgentRun:
        """A run that the caller's account pays, and nobody else's. Raises `AgentRunNotFound`."""
        row, steps = await self._read(run)
        if row.account != who.account:
            raise AgentRunNotFound
        return run_view(row, steps)

    async def page(self, who: Principal, wanted: RunFilter) -> Sequence[AgentRun]:
        """The runs that the caller's account pays, from the newest on."""
        found = _wanted(who, wanted).order_by(RunRow.id.desc())
        if wanted.after is not None:
            found = found.where(RunRow.id < wanted.after)
        async with self._db.reading() as session:
            rows = (await session.scalars(found.limit(wanted.limit))).all()
            all_steps = select(StepRow).where(StepRow.run.in_([row.id for row in rows])).order_by(StepRow.number)
            steps = (await session.scalars(all_steps)).all() if rows else []
        return [run_view(row, [step for step in steps if step.run == row.id]) for row in rows]

    async def count(self, who: Principal, wanted: RunFilter) -> int:
        """How many runs such a list has on all its pages."""
        async with self._db.reading() as session:
            return await session.scalar(select(func.count()).select_from(_wanted(who, wanted).subquery())) or 0

    async def cancel(self, who: Principal, run: str) -> AgentRun:
        """End a run that the caller pays; what is under way is stopped, and what is not spent returns.

        Doing it again changes nothing. Raises `AgentRunNotFound`, `RunOver` for one that ended otherwise.
        """
        found = await self.paid(who, run)
        if found.state == RunState.CANCELED:
            return found
        if found.state in OVER:
            raise RunOver
        await self._ends.condemn(run, RunState.CANCELED, "canceled_by_caller")
        await self._driver.drive(run)
        return await self.paid(who, run)

    async def answer(self, who: Principal, run: str, *, step: int, approve: bool, note: str = "") -> AgentRun:
        """Say yes or no to what a step of a run waits for; the same again changes nothing.

        Raises `AgentRunNotFound`, `NotWaiting`.
        """
        await self.paid(who, run)
        await self._note_answer(who, run, step, approve=approve, note=note)
        await self._driver.drive(run)
        return await self.paid(who, run)

    @retrying
    async def _note_answer(self, who: Principal, run: str, number: int, *, approve: bool, note: str) -> None:
        to = StepState.DONE if approve else StepState.FAILED
        async with self._db.unit_of_work() as uow:
            row = await uow.find(RunRow, run, lock=True, missing=AgentRunNotFound)
            steps = await steps_of(uow.session, run)
            step = next((one for one in steps if one.number == number), None)
            if step is not None and (step.state, step.answered_by) == (to, who.account):
                return
            at = now()
            if (
                step is None
                or step.state != StepState.WAITING
                or row.verdict is not None
                or step.due_at is None
                or at >= step.due_at
            ):
                raise NotWaiting
            end_step(row, step, to, 0, at)
            step.answered_by = who.account
            step.output = (note or "approved") if approve else None
            step.error = "" if approve else NOT_APPROVED
            if not approve:
                row.verdict, row.reason = RunState.FAILED, NOT_APPROVED
            move_run(row, RunState.WORKING, at)
            row.due_at = at
            await uow.audit(who.account, who.key, "agent_run.answer", run, approve=approve)
            await tell_of(uow, row, steps)


def _wanted(who: Principal, wanted: RunFilter) -> Select[RunRow]:
    found = select(RunRow).where(RunRow.account == who.account)
    if wanted.states is not None:
        found = found.where(RunRow.state.in_(wanted.states))
    if wanted.agent is not None:
        found = found.where(RunRow.agent == wanted.agent)
    if wanted.context is not None:
        found = found.where(RunRow.context == wanted.context)
    return found
