"""Calls of skills: checked against every limit, and written as a run with its steps, once for each message."""

import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.modules.hermes.api import AgentNotFound
from aitbc.modules.hermes.models.life import OVER, RunState, StepState, left_units
from aitbc.modules.hermes.models.plans import INPUT_BYTES_MAX, most_units
from aitbc.modules.hermes.models.shapes import AgentSkill
from aitbc.modules.hermes.models.tables import AgentRow, RunRow, StepRow
from aitbc.modules.hermes.service.commands import (
    AgentNotCallable,
    AgentRunNotFound,
    AgentSkillNotFound,
    BudgetExhausted,
    BudgetTooLow,
    CallSkill,
    CallTooLarge,
    DelegationRefused,
    RunOver,
    SpendLimitReached,
    TooManyRuns,
)
from aitbc.modules.hermes.service.pushes import tell_of
from aitbc.modules.hermes.service.rows import new_step, steps_of
from aitbc.modules.hermes.service.settings import HermesSettings
from aitbc.modules.hermes.service.views import Asked, encoded, is_online, limits_of, skills_of

OPEN_STATES = tuple(state for state in RunState if state not in OVER)


STEPS_MAX = 64
"""How many steps a run may have, those that a remote agent adds included."""


class RunId(Struct, frozen=True, kw_only=True):
    """The run of an answer that is repeated."""

    id: str


class Above(Struct, frozen=True, kw_only=True):
    """The run that delegates a part of itself, and which part."""

    run: str
    step: int
    """The number of its step."""


class Calls:
    """Takes calls."""

    def __init__(self, db: Database, settings: HermesSettings, secret: bytes) -> None:
        self._db = db
        self._settings = settings
        self._secret = secret

    @retrying
    async def place(self, who: Principal, call: CallSkill, once: IdempotencyKey) -> str:
        """Write the run of a client's call; answers its id. Money is set aside when it is driven on.

        Raises `AgentNotFound`, `AgentSkillNotFound`, `AgentNotCallable`, `BudgetTooLow`, `SpendLimitReached`,
        `TooManyRuns`, `CallTooLarge`.
        """
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, RunId)) is not None:
                return earlier.id
            agent = await uow.find(AgentRow, call.agent, lock=True, missing=AgentNotFound)
            if call.message is not None and (known := await _known(uow, who.account, call)) is not None:
                return (await uow.answer(once, RunId(id=known))).id
            run = await self._write(uow, agent, call, self._origin(who))
            return (await uow.answer(once, RunId(id=run.id))).id

    @retrying
    async def delegate(self, above: Above, call: CallSkill) -> str:
        """Write the run of a step that was begun: its budget is what the step has reserved. Answers its id.

        Repeating it gives the same run. Raises as `place`, and `DelegationRefused`.
        """
        async with self._db.unit_of_work() as uow:
            return await self._delegate(uow, above, call)

    @retrying
    async def delegate_by_ticket(self, run: str, ticket: str, name: str, call: CallSkill) -> str:
        """Write a run that a remote agent begins while it works, paid out of the budget of the run it works on.

        The same name gives the same run. Raises as `delegate`, `RunOver`, and `AgentRunNotFound` for a wrong ticket,
        `BudgetExhausted`.
        """
        if not hmac.compare_digest(ticket, self.ticket_of(run)):
            raise AgentRunNotFound
        async with self._db.unit_of_work() as uow:
            parent = await uow.find(RunRow, run, lock=True, missing=AgentRunNotFound)
            steps = await steps_of(uow.session, run)
            known = next((step.reference for step in steps if step.does == "delegate" and step.name == name), None)
            if known is not None:
                return known
            if parent.verdict is not None or not any(step.does == "call" and step.state == "working" for step in steps):
                raise RunOver
            budget = call.budget_units or 0
            if budget > left_units(parent) or len(steps) >= STEPS_MAX:
                raise BudgetExhausted
            parent.reserved_units += budget
            step = new_step(run, len(steps) + 1, name, "delegate", None)
            step.state, step.reserved_units, step.started_at = StepState.WORKING, budget, now()
            uow.add(step)
            step.reference = await self._delegate(uow, Above(run=run, step=step.number), call)
            return step.reference

    def ticket_of(self, run: str) -> str:
        """What an agent shows to delegate a part of a run that it works on."""
        return hmac.digest(self._secret, f"aitbc.hermes.ticket:{run}".encode(), "sha256").hex()

    async def _delegate(self, uow: UnitOfWork, above: Above, call: CallSkill) -> str:
        if (known := await _child_of(uow, above)) is not None:
            return known
        parent = await uow.session.get_one(RunRow, above.run)
        agent = await uow.find(AgentRow, call.agent, lock=True, missing=AgentNotFound)
        skill = _skill_of(agent, call.skill)
        path = msgspec.json.decode(parent.path, type=list[str])
        if f"{agent.id}/{skill.id}" in path:
            raise DelegationRefused("This skill stands above the run already: it would be called within itself.")
        if parent.depth + 1 > parent.depth_max:
            raise DelegationRefused(f"At most {parent.depth_max} agents may stand one below the other here.")
        origin = _Origin(account=parent.account, key=parent.key, parent=parent, step=above.step, path=path)
        return (await self._write(uow, agent, call, origin)).id

    def _origin(self, who: Principal) -> "_Origin":
        return _Origin(account=who.account, key=who.key, parent=None, step=None, path=[])

    async def _write(self, uow: UnitOfWork, agent: AgentRow, call: CallSkill, origin: "_Origin") -> RunRow:
        """Write a run. The agent's row is locked, so its counts hold until the commit."""
        if not is_online(agent, self._settings.online_seconds):
            raise AgentNotCallable
        skill = _skill_of(agent, call.skill)
        asked = encoded(Asked(text=call.text, data=call.data))
        if len(asked) > INPUT_BYTES_MAX:
            raise CallTooLarge
        price = money.parse(skill.price, zero=True)
        budget = most_units(skill) if call.budget_units is None else call.budget_units
        if budget < price:
            raise BudgetTooLow(f"The budget must be at least {money.render(price)}, the price of this skill.")
        await self._check_limits(uow, agent, origin.account, budget)
        run = self._row(agent, skill, call, origin, price, budget, asked)
        uow.add(run)
        await uow.session.flush()
        for step in _steps(run, agent, skill):
            uow.add(step)
        await tell_of(uow, run, [])
        return run

    async def _check_limits(self, uow: UnitOfWork, agent: AgentRow, account: str, budget: int) -> None:
        limits = limits_of(agent)
        is_open = RunRow.state.in_(OPEN_STATES)
        of_agent = await uow.session.scalar(
            select(func.count()).select_from(RunRow).where(is_open, RunRow.agent == agent.id)
        )
        of_account = await uow.session.scalar(
            select(func.count()).select_from(RunRow).where(is_open, RunRow.account == account)
        )
        if (of_agent or 0) >= limits.open_runs or (of_account or 0) >= self._settings.open_runs_max:
            raise TooManyRuns
        if limits.spend_per_run is not None and budget > money.parse(limits.spend_per_run):
            raise SpendLimitReached(f"A run of this agent may have a budget of {limits.spend_per_run} at most.")
        if limits.spend_per_day is not None:
            today = now().replace(hour=0, minute=0, second=0, microsecond=0)
            counted = select(total(RunRow.budget_units)).where(RunRow.agent == agent.id, RunRow.created_at >= today)
            if (await uow.session.scalar(counted) or 0) + budget > money.parse(limits.spend_per_day):
                raise SpendLimitReached(f"The runs of this agent may have {limits.spend_per_day} a day together.")

    def _row(
        self,
        agent: AgentRow,
        skill: AgentSkill,
        call: CallSkill,
        origin: "_Origin",
        price: int,
        budget: int,
        asked: str,
    ) -> RunRow:
        at, parent, limits = now(), origin.parent, limits_of(agent)
        run = ids.new_id("run")
        depth = 0 if parent is None else parent.depth + 1
        return RunRow(
            id=run,
            account=origin.account,
            key=origin.key,
            agent=agent.id,
            owner=agent.account,
            skill=skill.id,
            context=call.context or (ids.new_id("ctx") if parent is None else parent.context),
            message=call.message or run,
            parent=None if parent is None else parent.id,
            parent_step=origin.step,
            root=run if parent is None else parent.root,
            path=encoded([*origin.path, f"{agent.id}/{skill.id}"]),
            depth=depth,
            depth_max=min(
                depth + limits.depth, self._settings.depth_max, *([] if parent is None else [parent.depth_max])
            ),
            state=RunState.SUBMITTED,
            verdict=None,
            reason="",
            input=asked,
            output=None,
            price_units=price,
            budget_units=budget,
            reserved_units=price,
            spent_units=0,
            payment="due" if price else "none",
            transaction=None,
            due_at=at,
            created_at=at,
            deadline_at=_deadline(at, min(limits.wall_seconds, call.wall_seconds or limits.wall_seconds), parent),
            ended_at=None,
        )


class _Origin(Struct, frozen=True, kw_only=True):
    """Who begins a run, and below which."""

    account: str
    key: str
    parent: Any
    step: int | None
    path: list[str]


def _deadline(at: datetime, wall_seconds: int, parent: RunRow | None) -> datetime:
    own = at + timedelta(seconds=wall_seconds)
    return own if parent is None else min(own, parent.deadline_at)


def _skill_of(agent: AgentRow, skill: str | None) -> AgentSkill:
    skills = skills_of(agent)
    found = skills[0] if skill is None and skills else next((one for one in skills if one.id == skill), None)
    if found is None:
        raise AgentSkillNotFound
    return found


def _steps(run: RunRow, agent: AgentRow, skill: AgentSkill) -> Sequence[StepRow]:
    plans: list[tuple[str, str, Any]] = [(step.name, str(step.__struct_config__.tag), step) for step in skill.steps]
    if agent.endpoint is not None:
        plans = [("call", "call", None)]
    return [new_step(run.id, number, *plan) for number, plan in enumerate(plans, 1)]


async def _known(uow: UnitOfWork, account: str, call: CallSkill) -> str | None:
    same = (RunRow.account == account, RunRow.agent == call.agent, RunRow.message == call.message)
    return await uow.session.scalar(select(RunRow.id).where(*same, RunRow.parent.is_(None)))


async def _child_of(uow: UnitOfWork, above: Above) -> str | None:
    mine = (RunRow.parent == above.run, RunRow.parent_step == above.step)
    return await uow.session.scalar(select(RunRow.id).where(*mine))
