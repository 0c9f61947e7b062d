"""Agents and runs as everyone speaks of them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.clock import now
from aitbc.modules.hermes.models.shapes import (
    Agent,
    AgentApproveStep,
    AgentLimits,
    AgentReputation,
    AgentRun,
    AgentSkill,
    AgentStep,
    SkillStep,
)
from aitbc.modules.hermes.models.tables import AgentRow, RunRow, StepRow

_plans: msgspec.json.Decoder[SkillStep | None] = msgspec.json.Decoder(SkillStep | None)
PRIOR = 1
"""How many successes and failures are added before a share is taken: little is learned from one run."""


class Asked(Struct, frozen=True, kw_only=True):
    """What a run was asked, as its row has it."""

    text: str
    data: Any = None


def skills_of(row: AgentRow) -> tuple[AgentSkill, ...]:
    """What an agent can do."""
    return msgspec.json.decode(row.skills, type=tuple[AgentSkill, ...])


def limits_of(row: AgentRow) -> AgentLimits:
    """What an agent's runs may use."""
    return msgspec.json.decode(row.limits, type=AgentLimits)


def plan_of(step: StepRow) -> SkillStep | None:
    """A step as the skill had it; none for a call of an endpoint."""
    return _plans.decode(step.plan)


def asked_of(run: RunRow) -> Asked:
    """What a run was asked."""
    return msgspec.json.decode(run.input, type=Asked)


def encoded(value: Any) -> str:
    """A value as JSON text."""
    return msgspec.json.encode(value).decode()


def reputation_of(row: AgentRow) -> AgentReputation:
    """What is known of an agent, from the counts in its row."""
    known = row.completed + row.failed
    return AgentReputation(
        completed=row.completed,
        failed=row.failed,
        success=round((row.completed + PRIOR) / (known + 2 * PRIOR), 4),
        seconds=round(row.milliseconds / row.completed / 1000, 3) if row.completed else None,
    )


def seen_at(row: AgentRow) -> datetime | None:
    """When an agent was last heard of."""
    return max((at for at in (row.heartbeat_at, row.probed_at) if at is not None), default=None)


def is_online(row: AgentRow, online_seconds: float) -> bool:
    """Whether an agent can be called now."""
    seen = seen_at(row)
    is_fresh = seen is not None and now() - seen <= timedelta(seconds=online_seconds)
    return row.state == "active" and (row.endpoint is None or is_fresh)


def agent_view(row: AgentRow, online_seconds: float) -> Agent:
    """An agent."""
    return Agent(
        id=row.id,
        account=row.account,
        name=row.name,
        description=row.description,
        endpoint=row.endpoint,
        skills=skills_of(row),
        limits=limits_of(row),
        state=row.state,
        is_online=is_online(row, online_seconds),
        seen_at=seen_at(row),
        problem=row.fault,
        reputation=reputation_of(row),
        version=row.version,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )


def step_view(row: StepRow) -> AgentStep:
    """A step of a run."""
    plan = plan_of(row)
    return AgentStep(
        number=row.number,
        name=row.name,
        does=row.does,
        state=row.state,
        reference=row.reference,
        reserved=money.render(row.reserved_units),
        spent=money.render(row.spent_units),
        output=row.output,
        error=row.error,
        question=plan.question if isinstance(plan, AgentApproveStep) else None,
        due_at=row.due_at if row.does == "approve" else None,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


def run_view(row: RunRow, steps: Sequence[StepRow]) -> AgentRun:
    """A run with its steps."""
    return AgentRun(
        id=row.id,
        account=row.account,
        agent=row.agent,
        skill=row.skill,
        context=row.context,
        parent=row.parent,
        depth=row.depth,
        state=row.state,
        reason=row.reason,
        text=asked_of(row).text,
        output=row.output,
        price=money.render(row.price_units),
        budget=money.render(row.budget_units),
        spent=money.render(row.spent_units),
        reserved=money.render(row.reserved_units),
        transaction=row.transaction,
        steps=tuple(map(step_view, steps)),
        created_at=row.created_at,
        deadline_at=row.deadline_at,
        ended_at=row.ended_at,
    )
