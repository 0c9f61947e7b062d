"""What can be asked of hermes, and what it refuses."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from aitbc.kernel.primitives.errors import Conflict, Invalid, NotFound, TooLarge, TooMany
from aitbc.modules.hermes.models.shapes import AgentLimits, AgentSkill


class AgentChanged(Conflict):
    """This agent has changed since the version that you name; read it again."""

    code = "agent_changed"


class AgentNameTaken(Conflict):
    """Another agent of this account has this id already."""

    code = "agent_name_taken"


class TooManyAgents(TooMany):
    """This account has as many agents as it may have; retire some."""

    code = "too_many_agents"


class AgentNotCallable(Conflict):
    """This agent takes no calls now: it is paused, retired or not online."""

    code = "agent_not_callable"


class AgentSkillNotFound(NotFound):
    """This agent has no such skill."""

    code = "agent_skill_not_found"


class AgentRunNotFound(NotFound):
    """There is no such run."""

    code = "agent_run_not_found"


class BudgetTooLow(Invalid):
    """The budget does not cover the price of this skill."""

    code = "budget_too_low"


class BudgetExhausted(Conflict):
    """What is left of the budget does not cover this."""

    code = "budget_exhausted"


class SpendLimitReached(Conflict):
    """The owner of this agent has set a limit on what its runs may spend, and this would pass it."""

    code = "spend_limit_reached"


class DelegationRefused(Conflict):
    """This would call a skill within itself, or stand too deep."""

    code = "delegation_refused"


class TooManyRuns(TooMany):
    """This account, or this agent, has as many runs under way as it may have."""

    code = "too_many_agent_runs"


class CallTooLarge(TooLarge):
    """A call may hold 256 KiB of text and data."""

    code = "call_too_large"


class NotWaiting(Conflict):
    """This run does not wait for a person's word now."""

    code = "not_waiting_for_approval"


class RunOver(Conflict):
    """This run has ended."""

    code = "agent_run_over"


class NoAgentFits(Conflict):
    """No agent fits; the details say what each condition left over, and what would fit."""

    code = "no_agent_fits"


class RegisterAgent(Struct, frozen=True, kw_only=True):
    """An agent to be registered."""

    name: str
    description: str
    endpoint: str | None
    skills: tuple[AgentSkill, ...]
    limits: AgentLimits
    handle: str | None = None
    details: dict[str, Any] = {}


class ChangeAgent(Struct, frozen=True, kw_only=True):
    """What is to be different about an agent; what is none stays."""

    version: int
    name: str | None = None
    description: str | None = None
    skills: tuple[AgentSkill, ...] | None = None
    limits: AgentLimits | None = None
    state: str | None = None


class AgentFilter(Struct, frozen=True, kw_only=True):
    """Which agents of a list are wanted, from the newest on."""

    account: str | None = None
    """Only those of this account; none for everybody's that are active."""
    tag: str | None = None
    after: str | None = None
    limit: int = 50


class CallSkill(Struct, frozen=True, kw_only=True):
    """A skill to be called."""

    agent: str
    skill: str | None
    """None for the first one that the agent has."""
    text: str
    data: Any = None
    budget_units: int | None = None
    """The most that it may cost with everything below it; none for the most that the skill can cost as it is now."""
    wall_seconds: int | None = None
    context: str | None = None
    message: str | None = None
    """The id of the message: another call of the same account and agent with it gets the same run."""


class RunFilter(Struct, frozen=True, kw_only=True):
    """Which runs of a list are wanted, from the newest on."""

    states: Sequence[str] | None = None
    agent: str | None = None
    context: str | None = None
    after: str | None = None
    limit: int = 50
