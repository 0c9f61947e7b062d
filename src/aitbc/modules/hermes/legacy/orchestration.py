"""The endpoints of the older service: routing, offloading, collaboration, splitting, edges, and its ecosystem."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from litestar import Controller, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.legacy.errors import invalid
from aitbc.kernel.primitives.clock import now
from aitbc.modules.hermes.legacy.caller import LOOK, WRITE, Hermes
from aitbc.modules.hermes.legacy.edges import (
    WRITE_ONCE,
    EdgeCoordinateBody,
    EdgeDeployBody,
    edge_coordinate,
    edge_deploy,
)
from aitbc.modules.hermes.legacy.votes import AgentVotes, question_of, vote_for, votes_on
from aitbc.modules.hermes.models.decisions import Known, Split, Whole, collaborate, hybrid, offload
from aitbc.modules.hermes.models.plans import most_units
from aitbc.modules.hermes.models.routing import Wish
from aitbc.modules.hermes.service import HermesService
from aitbc.modules.hermes.service.commands import AgentFilter
from aitbc.modules.hermes.service.views import reputation_of

SkillType = Literal["inference", "training", "data_processing", "verification", "custom"]
Values = dict[str, Any]


class RouteSkill(Struct, frozen=True, kw_only=True):
    """Which skill is wanted."""

    skill_type: SkillType | None = None
    requirements: Values = {}
    performance_optimization: bool = True


class OffloadJob(Struct, frozen=True, kw_only=True):
    """Which work may be offloaded."""

    job_data: Values = {}
    cost_optimization: bool = True
    performance_analysis: bool = True


class Collaborate(Struct, frozen=True, kw_only=True):
    """Which agents are to work together on what; `task_data` may hold `subtasks`, and `votes` of agents of the caller's.

    With `decision_id` in it, it is asked how the votes on an earlier question stand.
    """

    task_data: Values = {}
    agent_ids: Annotated[list[str], Meta(max_length=100)] = []
    collaboration_algorithm: str | None = None
    coordination_algorithm: Literal["distributed_consensus", "central_coordination"] = "distributed_consensus"


class OptimizeExecution(Struct, frozen=True, kw_only=True):
    """What is to be split; `execution_request` may hold what there is: `local` and `network`."""

    execution_request: Values = {}
    optimization_strategy: Literal["performance", "cost", "balanced"] = "performance"


class Orchestration(Controller):
    """Decisions over what is registered here; each is kept with what it was made of."""

    @post("/routing/skill", status_code=200, opt=LOOK)
    async def route(self, hermes: Hermes, data: JSONBody[RouteSkill]) -> dict[str, Any]:
        """The agent that fits best: one that is registered, online and meets every requirement. 409 where none does."""
        wish = Wish(skill=data.skill_type, prefers_performance=data.performance_optimization)
        (best,) = await hermes.agent_routing.best(wish, 1)
        return {
            "selected_agent": {"agent_id": best.agent, "skill_type": best.skill, "capabilities": [best.skill]}
            | {"performance_score": best.score, "cost_per_call": float(best.most)},
            "routing_strategy": "performance_optimized" if data.performance_optimization else "cost_optimized",
            "expected_performance": best.terms.success,
            "estimated_cost": float(best.most),
        }

    @post("/offloading/intelligent", status_code=200, opt=WRITE)
    async def offloading(self, hermes: Hermes, who: Who, data: JSONBody[OffloadJob]) -> dict[str, Any]:
        """Whether work is better done by the network, with what that costs and saves."""
        job = data.job_data
        batch = _number(job, "batch_size", 32)
        task = str(job.get("task_type", ""))
        known = await _known(hermes, task)
        found = offload(
            task,
            str(job.get("model_size", "medium")),
            int(batch),
            known=known,
            is_private=job.get("privacy") == "local-only",
            deadline_seconds=_number(job, "deadline_seconds", 0) or None,
        )
        answer = {
            "should_offload": found.should_offload,
            "reason": found.reason,
            "job_size": {
                "complexity": found.complexity,
                "estimated_duration": found.seconds,
                "resource_requirements": {
                    "cpu_cores": found.cpu_cores,
                    "memory_gb": found.memory_gb,
                    "gpu_required": found.gpu_required,
                },
            },
            "cost_analysis": {
                "should_offload": found.should_offload,
                "estimated_savings": found.savings,
                "local_cost": found.local_cost,
                "aitbc_cost": found.network_cost,
            },
            "performance_prediction": {
                "local_time": found.seconds,
                "aitbc_time": found.network_seconds,
                "speedup_factor": found.speedup,
            },
            "fallback_mechanism": "local_execution",
            "based_on": {"agents": known.capacity, "price": known.price, "measured_seconds": known.seconds},
        }
        kept = await hermes.records.keep(who, "decision", {"asked": job, "decided": answer})
        return answer | {"decision_id": kept.id}

    @post("/collaboration/coordinate", status_code=200, opt=WRITE)
    async def coordinate(self, hermes: Hermes, who: Who, data: JSONBody[Collaborate]) -> dict[str, Any]:
        """Split a task over agents that exist; they agree where more than half of them voted so.

        An agent's vote is its owner's: in `votes` for agents of the caller's, else by `votes` below the decision.
        """
        if len(set(data.agent_ids)) < 2:
            raise invalid("/agent_ids", "Expected at least two different agents")
        rows = [await hermes.agents.named(who, agent) for agent in data.agent_ids]
        names = {row.id: given for row, given in zip(rows, data.agent_ids, strict=True)}
        success = {names[row.id]: reputation_of(row).success for row in rows}
        subtasks = data.task_data.get("subtasks", [f"subtask_{number}" for number in range(1, len(names) + 1)])
        votes = data.task_data.get("votes", {})
        if not isinstance(subtasks, list) or not isinstance(votes, dict):
            raise invalid("/task_data", "Expected a list of `subtasks`, and `votes` by agent")
        question = await question_of(hermes, who, data.task_data, rows)
        await vote_for(hermes, who, question, {agent: votes[given] for agent, given in names.items() if given in votes})
        cast = {names[agent]: yes for agent, yes in (await votes_on(hermes, question)).items() if agent in names}
        found = collaborate(list(names.values()), success, subtasks, cast)
        seconds = sum(reputation_of(row).seconds or 300.0 for row in rows)
        answer = {
            "coordination_method": data.coordination_algorithm,
            "selected_coordinator": found.coordinator,
            "consensus_reached": found.consensus_reached,
            "votes": {"yes": found.yes, "no": found.no, "not_cast": len(names) - found.yes - found.no},
            "task_distribution": {
                agent: parts[0] if len(parts) == 1 else list(parts) for agent, parts in found.parts.items()
            },
            "estimated_completion_time": seconds,
        }
        return answer | {"decision_id": question.id, "agents": sorted(names)}

    @post("/collaboration/{decision:str}/votes", status_code=200, opt=WRITE)
    async def vote(
        self, hermes: Hermes, who: Who, decision: FromPath[str], data: JSONBody[AgentVotes]
    ) -> dict[str, Any]:
        """Vote for agents of the caller's on what they were asked to do together; the last vote of each counts."""
        question = await hermes.records.one("decision", decision)
        await vote_for(hermes, who, question, data.votes)
        cast = await votes_on(hermes, question)
        yes = sum(cast.values())
        return {"decision_id": question.id, "votes": {"yes": yes, "no": len(cast) - yes}}

    @post("/execution/hybrid-optimize", status_code=200, opt=WRITE)
    async def optimize(self, hermes: Hermes, who: Who, data: JSONBody[OptimizeExecution]) -> dict[str, Any]:
        """Split work between here and the network; nothing is given out that is not there.

        Where the request does not say what the network has, it has the agents and miners that are online. Work that it
        names by `task_type` is split by what agents ask for it and took for it, as soon as both are known.
        """
        asked = data.execution_request
        here = _amounts(asked, "local", {"cpu_cores": 8, "memory_gb": 16})
        there = _amounts(asked, "network", await _capacity(hermes))
        deadline = _number(asked, "deadline_seconds", 0, "execution_request") or None
        sides, known = await _sides(hermes, asked)
        found = hybrid(data.optimization_strategy, here, there, sides, deadline)
        answer = {
            "execution_mode": "aitbc_offload"
            if found.network_ratio > 0.8
            else "hybrid"
            if found.network_ratio
            else "local",
            "strategy": {
                "local_ratio": found.local_ratio,
                "aitbc_ratio": found.network_ratio,
                "optimization_target": data.optimization_strategy,
            },
            "resource_allocation": {"local_resources": dict(found.local), "aitbc_resources": dict(found.network)},
            "performance_tuning": {},
            "expected_improvement": None if sides is None else _improvement(found, sides[0]),
            "based_on": known,
        }
        kept = await hermes.records.keep(who, "decision", {"asked": asked, "decided": answer})
        return answer | {"decision_id": kept.id}

    @post("/edge/deploy", status_code=200, opt=WRITE_ONCE)
    async def edge_deploy(self, hermes: Hermes, who: Who, once: Once, data: JSONBody[EdgeDeployBody]) -> dict[str, Any]:
        """Deploy an agent of the caller's to edges: one deployment, with what is so at each location."""
        return await edge_deploy(hermes, who, once, data)

    @post("/edge/coordinate", status_code=200, opt=WRITE)
    async def edge_coordinate(self, hermes: Hermes, who: Who, data: JSONBody[EdgeCoordinateBody]) -> dict[str, Any]:
        """Keep how callers of a deployment are spread."""
        return await edge_coordinate(hermes, who, data)

    @post("/ecosystem/develop", status_code=200, opt=WRITE)
    async def ecosystem(self, hermes: Hermes, who: Who, data: JSONBody[Values]) -> dict[str, Any]:
        """What is registered here; nothing is claimed that is not."""
        agents = await hermes.agents.page(AgentFilter(limit=500))
        kept = await hermes.records.keep(who, "decision", {"asked": data, "at": now().isoformat()})
        contributions = await hermes.records.below("contribution")
        return {
            "ecosystem_id": kept.id,
            "developer_tools": {"cli": "aitbc agent", "api": "/api/v1/hermes", "a2a": "1.0"},
            "marketplace": {"agents": len(agents), "skills": sum(len(agent.skills) for agent in agents)},
            "community": {"contributions": len(contributions)},
            "partnerships": [],
            "status": "active",
        }


class EnhancedOrchestration(Orchestration):
    """The same at the older coordinator."""

    path = "/v1/hermes/enhanced"


async def _known(hermes: HermesService, task: str) -> Known:
    """What is stored of the agents that can be called now, and of those that do such work."""
    agents = [one for one in await hermes.agents.page(AgentFilter(limit=500)) if one.is_online and one.skills]
    doing = [(one, skill) for one in agents for skill in one.skills if task and task in (skill.id, *skill.tags)]
    seconds = [one.reputation.seconds for one, _ in doing if one.reputation.seconds is not None]
    return Known(
        capacity=len(agents),
        price=min((most_units(skill) / 10**8 for _, skill in doing), default=None),
        seconds=sum(seconds) / len(seconds) if seconds else None,
    )


async def _sides(hermes: HermesService, asked: Mapping[str, Any]) -> tuple[tuple[Whole, Whole] | None, Values]:
    """What the work takes and costs here and there, if agents ask a price for it and their times were measured."""
    task = str(asked.get("task_type", ""))
    known = await _known(hermes, task)
    facts: Values = {"agents": known.capacity, "price": known.price, "measured_seconds": known.seconds}
    if not task or known.price is None or known.seconds is None:
        return None, facts | {"ratios": "fixed"}
    batch = int(_number(asked, "batch_size", 32, "execution_request"))
    alone = offload(task, str(asked.get("model_size", "medium")), batch, known=known, is_private=False)
    here = Whole(seconds=alone.seconds, cost=alone.local_cost)
    return (here, Whole(seconds=alone.network_seconds, cost=alone.network_cost)), facts | {"ratios": "computed"}


def _improvement(found: Split, alone: Whole) -> Values:
    """What splitting saves beside doing all of it here."""
    assert found.seconds is not None and found.cost is not None, "both sides are known"
    told = {"seconds": found.seconds, "cost": found.cost}
    saves = {"seconds_saved": alone.seconds - found.seconds, "cost_saved": alone.cost - found.cost}
    return {name: round(value, 8) for name, value in (told | saves).items()}


async def _capacity(hermes: HermesService) -> dict[str, float]:
    agents = await hermes.agents.page(AgentFilter(limit=500))
    online = sum(one.is_online and bool(one.skills) for one in agents)
    return {"agents": online, "miners": (await hermes.gpu.presence()).online}


def _number(values: Mapping[str, Any], name: str, default: float, where: str = "job_data") -> float:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1e9:
        raise invalid(f"/{where}/{name}", "Expected a number from 0 to a billion")
    return value


def _amounts(values: Mapping[str, Any], name: str, default: dict[str, float]) -> dict[str, float]:
    found = values.get(name, default)
    if not isinstance(found, dict) or len(found) > 50:
        raise invalid(f"/execution_request/{name}", "Expected amounts by name")
    for key, value in found.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1e12:
            raise invalid(f"/execution_request/{name}/{key}", "Expected a number from 0 on")
    return {str(key): float(value) for key, value in found.items()}
