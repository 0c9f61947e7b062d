"""Plans of skills: what they can cost at most, whether they can work, and the texts that are put into them."""

from collections.abc import Mapping, Sequence
from typing import Any

from aitbc.kernel.primitives import money, templates
from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.kernel.primitives.templates import DEPTH_MAX, TooDeep, places_in
from aitbc.modules.hermes.models.shapes import (
    AgentApproveStep,
    AgentDelegateStep,
    AgentJobStep,
    AgentSkill,
    AgentToolStep,
    SkillStep,
)

INPUT_BYTES_MAX = 256 * 1024
"""What a call may weigh."""


class AgentPlanInvalid(Invalid):
    """The skills of this agent cannot work as they are."""

    code = "agent_plan_invalid"


def check_skills(skills: Sequence[AgentSkill], *, has_endpoint: bool) -> None:
    """Check the skills of an agent against each other and their steps. Raises `AgentPlanInvalid`, `InvalidAmount`."""
    for number, skill in enumerate(skills):
        where = f"/skills/{number}"
        if skill.id in {other.id for other in skills[:number]}:
            _refuse(f"{where}/id", "Another skill of this agent has this id.")
        if has_endpoint and skill.steps:
            _refuse(f"{where}/steps", "An agent with an endpoint does its skills itself.")
        if not has_endpoint and not skill.steps:
            _refuse(f"{where}/steps", "Without an endpoint a skill needs steps.")
        money.parse(skill.price, zero=True)
        _check_steps(skill.steps, f"{where}/steps")
        most_units(skill)


def _check_steps(steps: Sequence[SkillStep], where: str) -> None:
    names: set[str] = set()
    known: set[str] = set()
    for number, step in enumerate(steps):
        if step.name in names:
            _refuse(f"{where}/{number}/name", "An earlier step has this name.")
        for place in places(_template_of(step)):
            name = place.removeprefix("steps.")
            if place not in ("text", "data") and (name == place or name not in known):
                _refuse(f"{where}/{number}", f"There is nothing to put for {{{{{place}}}}}.")
        names.add(step.name)
        if not isinstance(step, AgentApproveStep):
            _cost(step)
            known.add(step.name)


def _template_of(step: SkillStep) -> Any:
    match step:
        case AgentJobStep():
            return step.input
        case AgentDelegateStep():
            return step.text
        case AgentToolStep():
            return step.arguments
        case AgentApproveStep():
            return ""


def servers_of(skills: Sequence[AgentSkill]) -> set[str]:
    """The MCP servers that skills use."""
    return {step.server for skill in skills for step in skill.steps if isinstance(step, AgentToolStep)}


def _cost(step: SkillStep) -> int:
    match step:
        case AgentJobStep():
            return money.parse(step.max_price)
        case AgentDelegateStep():
            return money.parse(step.budget, zero=True)
        case AgentApproveStep() | AgentToolStep():
            return 0


def cost_of(plan: SkillStep | None) -> int:
    """The most that a step may cost, in minor units; a call costs nothing beside the skill's price."""
    return 0 if plan is None else _cost(plan)


def most_units(skill: AgentSkill) -> int:
    """The most that a call can cost: the price and what all steps may. Raises `AmountOverflow`."""
    return money.checked(money.parse(skill.price, zero=True) + sum(map(_cost, skill.steps)))


def places(template: Any) -> set[str]:
    """The names in braces in a template. Raises `AgentPlanInvalid` where it is nested too deep."""
    try:
        return set(places_in(template))
    except TooDeep:
        raise AgentPlanInvalid(f"An input is nested at most {DEPTH_MAX} deep.") from None


def fill(template: Any, text: str, data: Any, outputs: Mapping[str, str]) -> Any:
    """A template with what was asked and what earlier steps made filled in, once. Raises `FilledTooLarge`."""

    def at(name: str) -> Any:
        if name == "text":
            return text
        return data if name == "data" else outputs.get(name.removeprefix("steps."), "")

    return templates.fill(template, at)


def _refuse(pointer: str, message: str) -> None:
    raise AgentPlanInvalid(message, fields=(FieldError(pointer, message),))
