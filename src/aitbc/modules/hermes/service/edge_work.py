"""What a version of a deployment does at an edge: made of a model, or of an agent's skill."""

from collections.abc import Mapping
from typing import Any

from aitbc.kernel.identity.principal import Principal
from aitbc.modules.hermes.api import AgentNotFound
from aitbc.modules.hermes.models.edge_shapes import EDGE_KINDS, EdgeNeeds, EdgeStep
from aitbc.modules.hermes.models.plans import places
from aitbc.modules.hermes.models.shapes import AgentJobStep, AgentSkill
from aitbc.modules.hermes.service.agents import Agents
from aitbc.modules.hermes.service.commands import AgentSkillNotFound
from aitbc.modules.hermes.service.edge_commands import DeploymentContent, EdgeWorkInvalid, ServeAgent, ServeModel
from aitbc.modules.hermes.service.views import encoded, skills_of

INPUTS: Mapping[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "{{text}}"}], "max_tokens": 512},
    "embed": {"texts": ["{{text}}"]},
}
CONTENT_BYTES_MAX = 64 * 1024


class EdgeWork:
    """Makes versions."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def of(self, who: Principal, wanted: ServeModel | ServeAgent, needs: EdgeNeeds) -> DeploymentContent:
        """What is to be done. Raises `EdgeWorkInvalid`, `AgentNotFound`, `AgentSkillNotFound`."""
        match wanted:
            case ServeModel():
                made = DeploymentContent(steps=(_step_of(wanted),), needs=needs)
            case ServeAgent():
                skill = await self._skill(who, wanted)
                made = DeploymentContent(steps=tuple(map(_job_of, skill.steps)), needs=needs, agent=wanted.agent)
        if len(encoded(made)) > CONTENT_BYTES_MAX:
            raise EdgeWorkInvalid(f"A version weighs {CONTENT_BYTES_MAX // 1024} KiB at most.")
        return made

    async def _skill(self, who: Principal, wanted: ServeAgent) -> AgentSkill:
        agent = await self._agents.row(wanted.agent)
        if agent.account != who.account or agent.state == "retired":
            raise AgentNotFound
        if agent.endpoint is not None:
            raise EdgeWorkInvalid("This agent answers at an endpoint of its own: nothing of it can be deployed.")
        skills = skills_of(agent)
        found = next((one for one in skills if wanted.skill in (None, one.id)), None)
        if found is None:
            raise AgentSkillNotFound
        return found


def _step_of(wanted: ServeModel) -> EdgeStep:
    work = dict(INPUTS[wanted.kind] if wanted.input is None else wanted.input)
    for place in places(work):
        if place.partition(".")[0] not in ("text", "data"):
            raise EdgeWorkInvalid(f"There is nothing to put for {{{{{place}}}}}.")
    if wanted.name is not None:
        work["model"] = wanted.name
    return EdgeStep(name="answer", kind=wanted.kind, input=work)


def _job_of(step: Any) -> EdgeStep:
    if not isinstance(step, AgentJobStep) or step.kind not in EDGE_KINDS:
        raise EdgeWorkInvalid(f"An edge does steps that are jobs of {' and '.join(EDGE_KINDS)}; {step.name} is none.")
    return EdgeStep(name=step.name, kind=step.kind, input=step.input)
