"""Workflows, executions, receipts and networks, as the older coordinator had them: agents and runs by other names."""

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal

from litestar import Controller, get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParams
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.legacy.amounts import Amount, units_of
from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.legacy.errors import invalid
from aitbc.kernel.legacy.paging import Limit
from aitbc.kernel.legacy.task_types import kind_named
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.text import Name, Text
from aitbc.modules.hermes.legacy.caller import CALL_ONCE, LOOK, READ, WRITE, Hermes
from aitbc.modules.hermes.models.plans import most_units
from aitbc.modules.hermes.models.shapes import AgentJobStep, AgentLimits, AgentRun, AgentSkill
from aitbc.modules.hermes.models.tables import AgentRow
from aitbc.modules.hermes.service import HermesService
from aitbc.modules.hermes.service.commands import (
    AgentFilter,
    AgentNameTaken,
    AgentNotCallable,
    CallSkill,
    RegisterAgent,
    RunFilter,
)
from aitbc.modules.hermes.service.records import RecordNotFound, body_of
from aitbc.modules.hermes.service.views import encoded, is_online, reputation_of, skills_of

SKILL = "run"
BUDGET_UNITS = 100_000_000
"""What a workflow may cost whose client names no budget: 1 AITBC."""
STATES = {"submitted": "pending", "working": "running", "input_required": "running", "canceled": "cancelled"}
INPUTS: Mapping[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "{{text}}"}], "max_tokens": 512},
    "embed": {"texts": ["{{text}}"]},
}
"""By kind: what its job works on where a step says nothing of it."""
Seconds = Annotated[int, Meta(ge=1, le=604_800)]


class WorkflowBody(Struct, frozen=True, kw_only=True):
    """A workflow: steps by name, and which of them come before which."""

    name: Name
    description: Text | None = None
    steps: Annotated[dict[str, dict[str, Any]], Meta(max_length=32)] | None = None
    dependencies: dict[str, list[str]] = {}
    max_execution_time: Seconds | None = None
    max_cost_budget: Amount | None = None
    workflow_id: Name | None = None
    inputs: dict[str, Any] = {}

    def command(self) -> RegisterAgent:
        """The agent that does it. Raises `Invalid`."""
        skill = AgentSkill(
            id=SKILL, name=self.name, description=self.description or "", tags=("workflow",), steps=self._plan()
        )
        return RegisterAgent(
            name=self.name,
            description=self.description or "",
            endpoint=None,
            skills=(skill,),
            limits=AgentLimits(wall_seconds=self.max_execution_time or 3600),
            handle=self.workflow_id,
            details={"agent_type": "workflow"},
        )

    def _plan(self) -> tuple[AgentJobStep, ...]:
        steps = self.steps or {"inference": {"type": "inference"}}
        budget = units_of(self.max_cost_budget, "/max_cost_budget") if self.max_cost_budget else BUDGET_UNITS
        shares = money.split(budget, [1] * len(steps))
        if min(shares) < 1:
            raise invalid("/max_cost_budget", "Expected more: each step needs a share of it")
        return tuple(_step(name, steps[name], share) for name, share in zip(self._order(steps), shares, strict=True))

    def _order(self, steps: Mapping[str, Any]) -> list[str]:
        """The steps with none before those that it depends on."""
        graph = {name: self.dependencies.get(name, []) for name in steps}
        if unknown := {one for before in graph.values() for one in before} - set(steps):
            raise invalid("/dependencies", f"There is no step {min(unknown)[:40]!r}")
        try:
            return list(TopologicalSorter(graph).static_order())
        except CycleError:
            raise invalid("/dependencies", "Steps cannot depend on each other in a circle") from None


class ExecuteBody(Struct, frozen=True, kw_only=True):
    """With what a workflow is run."""

    inputs: dict[str, Any] = {}
    timeout_seconds: Seconds | None = None
    max_cost_budget: Amount | None = None


class NetworkBody(Struct, frozen=True, kw_only=True):
    """Agents that work together."""

    name: Name
    agents: Annotated[list[str], Meta(min_length=1, max_length=100)]
    description: Text | None = None
    coordination_strategy: Name | None = None


class TaskBody(Struct, frozen=True, kw_only=True):
    """What a network is to do."""

    task: dict[str, Any]
    priority: Name | None = None


class OptimizeBody(Struct, frozen=True, kw_only=True):
    """By what members are chosen."""

    objective: Literal["speed", "efficiency", "cost", "quality"] = "quality"


class ContributionBody(Struct, frozen=True, kw_only=True):
    """What somebody offers to the code of an agent."""

    type: Name
    description: Text
    github_repo: Name | None = None
    target_branch: Name | None = None


class VerifyBody(Struct, frozen=True, kw_only=True):
    """A receipt to be checked."""

    receipt: dict[str, Any]


class Workflows(Controller):
    """Workflows and their executions."""

    path = "/api/v1/agents"

    @post("/workflows", status_code=201, opt=WRITE)
    async def create(self, hermes: Hermes, who: Who, data: JSONBody[WorkflowBody]) -> dict[str, Any]:
        """Keep a workflow; one of the same id is there already."""
        try:
            made = (await hermes.agents.register(who, data.command(), IdempotencyKey.NONE)).id
        except AgentNameTaken:
            made = (await hermes.agents.named(who, data.workflow_id or "")).id
        return _workflow(await hermes.agents.row(made))

    @get("/workflows", opt=READ)
    async def all(self, hermes: Hermes, who: Who, query: QueryParams) -> list[dict[str, Any]]:
        """List the caller's workflows, the newest first."""
        rows = await hermes.agents.rows(AgentFilter(account=who.account, tag="workflow", limit=500))
        return [_workflow(row) for row in rows if row.state != "retired"]

    @get("/workflows/{workflow:str}", opt=READ)
    async def one(self, hermes: Hermes, who: Who, workflow: FromPath[str]) -> dict[str, Any]:
        """Read a workflow."""
        return _workflow(await hermes.agents.named(who, workflow))

    @post("/workflows/{workflow:str}/execute", status_code=202, opt=CALL_ONCE)
    async def execute(
        self, hermes: Hermes, who: Who, once: Once, workflow: FromPath[str], data: JSONBody[ExecuteBody]
    ) -> dict[str, Any]:
        """Run a workflow; it goes on by itself."""
        agent = await hermes.agents.named(who, workflow)
        budget = units_of(data.max_cost_budget, "/max_cost_budget") if data.max_cost_budget else None
        return _execution(await _begun(hermes, who, once, agent, data.inputs, budget, data.timeout_seconds))

    @get("/executions", opt=READ)
    async def executions(self, hermes: Hermes, who: Who, limit: FromQuery[Limit] = 50) -> list[dict[str, Any]]:
        """List the caller's executions, the newest first."""
        return [_execution(run) for run in await hermes.agent_runs.page(who, RunFilter(limit=limit))]

    @get(["/executions/{execution:str}", "/executions/{execution:str}/status"], opt=READ)
    async def execution(self, hermes: Hermes, who: Who, execution: FromPath[str]) -> dict[str, Any]:
        """How far an execution is."""
        return _execution(await hermes.agent_runs.get(who, execution))

    @post("/executions/{execution:str}/cancel", status_code=200, opt=WRITE)
    async def cancel(self, hermes: Hermes, who: Who, execution: FromPath[str]) -> dict[str, Any]:
        """End an execution."""
        return _execution(await hermes.agent_runs.cancel(who, execution)) | {"message": "Execution cancelled"}

    @get("/executions/{execution:str}/receipt", opt=READ)
    async def receipt(self, hermes: Hermes, who: Who, execution: FromPath[str]) -> dict[str, Any]:
        """The signed receipt of an execution that has ended."""
        found = await hermes.agent_receipts.of(who, execution)
        return {
            "id": execution,
            "status": STATES.get(found.statement["state"], found.statement["state"]),
            "statement": found.statement,
            "public_key": found.public_key,
            "signature": found.signature,
        }

    @post("/receipts/verify", status_code=200, opt=LOOK)
    async def verify(self, hermes: Hermes, data: JSONBody[VerifyBody]) -> dict[str, Any]:
        """Whether this server signed a receipt."""
        return {"valid": hermes.agent_receipts.is_genuine(data.receipt)}


class Networks(Controller):
    """Networks of agents, and contributions."""

    path = "/api/v1/agents"

    @post("/networks", status_code=201, opt=WRITE)
    async def create(self, hermes: Hermes, who: Who, data: JSONBody[NetworkBody]) -> dict[str, Any]:
        """Keep a network of agents that exist."""
        members = [(await hermes.agents.named(who, agent)).id for agent in data.agents]
        body = {
            "name": data.name,
            "description": data.description,
            "agents": members,
            "coordination_strategy": data.coordination_strategy or "centralized",
        }
        kept = await hermes.records.keep(who, "network", body, name=data.name)
        return body | {
            "id": kept.id,
            "status": "active",
            "created_at": kept.created_at.isoformat(),
            "owner_id": kept.account,
        }

    @post("/networks/{network:str}/execute", status_code=202, opt=CALL_ONCE)
    async def execute(
        self, hermes: Hermes, who: Who, once: Once, network: FromPath[str], data: JSONBody[TaskBody]
    ) -> dict[str, Any]:
        """Have the most successful member that can be called do a task. 409 where none can."""
        body = body_of(await _network(hermes, who, network))
        rows = [await hermes.agents.row(agent) for agent in body["agents"]]
        able = [row for row in rows if is_online(row, hermes.settings.online_seconds) and skills_of(row)]
        if not able:
            raise AgentNotCallable("No agent of this network can be called now.")
        best = min(able, key=lambda row: _rank(row, body.get("objective", "quality")))
        return _execution(await _begun(hermes, who, once, best, data.task, None, None, context=network))

    @get("/networks/{network:str}/status", opt=READ)
    async def status(self, hermes: Hermes, who: Who, network: FromPath[str], query: QueryParams) -> dict[str, Any]:
        """Which members can be called, and what the network has done."""
        row = await _network(hermes, who, network)
        body = body_of(row)
        members = [await hermes.agents.row(agent) for agent in body["agents"]]
        runs = await hermes.agent_runs.page(who, RunFilter(context=network, limit=500))
        return {
            "id": row.id,
            "name": body["name"],
            "status": "active",
            "agents": {one.id: is_online(one, hermes.settings.online_seconds) for one in members},
            "executions": len(runs),
            "completed": sum(run.state == "completed" for run in runs),
        }

    @post("/networks/{network:str}/optimize", status_code=200, opt=WRITE)
    async def optimize(
        self, hermes: Hermes, who: Who, network: FromPath[str], data: JSONBody[OptimizeBody]
    ) -> dict[str, Any]:
        """Say by what the member is chosen that does the next task; the answer has their order now."""
        row = await _network(hermes, who, network)
        body = body_of(row) | {"objective": data.objective}
        rows = [await hermes.agents.row(agent) for agent in body["agents"]]
        order = sorted(rows, key=lambda one: _rank(one, data.objective))
        await hermes.records.keep(who, "network", body, name=row.name)
        return {"id": row.id, "objective": data.objective, "order": [one.id for one in order], "status": "optimized"}

    @post("/contributions", status_code=201, opt=WRITE)
    async def contribute(self, hermes: Hermes, who: Who, data: JSONBody[ContributionBody]) -> dict[str, Any]:
        """Keep an offer of code; people look at it."""
        body = {
            "type": data.type,
            "description": data.description,
            "github_repo": data.github_repo,
            "target_branch": data.target_branch,
        }
        kept = await hermes.records.keep(who, "contribution", body)
        return body | {"id": kept.id, "status": "submitted", "created_at": kept.created_at.isoformat()}


def _rank(row: AgentRow, objective: str) -> tuple[float, str]:
    """Where a member stands: by what settled runs say of it, and by what its first skill can cost."""
    known, skills = reputation_of(row), skills_of(row)
    units = most_units(skills[0]) if skills else 2**62
    match objective:
        case "speed":
            return (known.seconds if known.seconds is not None else float("inf")), row.id
        case "cost":
            return float(units), row.id
        case "efficiency":
            return units / max(known.success, 1e-9), row.id
    return -known.success, row.id


async def _network(hermes: HermesService, who: Principal, network: str) -> Any:
    row = await hermes.records.one("network", network)
    if not who.owns(row.account):
        raise RecordNotFound
    return row


async def _begun(
    hermes: HermesService,
    who: Principal,
    once: IdempotencyKey,
    agent: AgentRow,
    inputs: dict[str, Any],
    budget: int | None,
    seconds: int | None,
    context: str | None = None,
) -> AgentRun:
    said = next((inputs[name] for name in ("prompt", "text", "payload") if isinstance(inputs.get(name), str)), None)
    call = CallSkill(
        agent=agent.id,
        skill=None,
        text=encoded(inputs) if said is None else said,
        data=inputs,
        budget_units=budget,
        wall_seconds=seconds,
        context=context,
    )
    return await hermes.agent_runs.call(who, call, once)


def _step(name: str, said: Mapping[str, Any], share: int) -> AgentJobStep:
    kind = kind_named(str(said.get("type", said.get("step_type", "inference"))))
    work = said.get("input", INPUTS.get(kind))
    if not isinstance(work, dict):
        raise invalid(f"/steps/{name}", f"A step of type {kind[:40]!r} needs an `input`")
    slug = "".join(one if one.isalnum() and one.isascii() else "-" for one in name.lower())[:64].lstrip("-") or "step"
    return AgentJobStep(name=slug, kind=kind, input=work, max_price=money.render(share))


def _workflow(row: AgentRow) -> dict[str, Any]:
    steps = [step for skill in skills_of(row) for step in skill.steps]
    return {
        "id": row.handle or row.id,
        "agent": row.id,
        "owner_id": row.account,
        "name": row.name,
        "description": row.description,
        "steps": {step.name: {"type": getattr(step, "kind", "custom")} for step in steps},
        "status": "active" if row.state == "active" else "inactive",
        "created_at": row.created_at.isoformat(),
        "updated_at": row.changed_at.isoformat(),
    }


def _execution(run: AgentRun) -> dict[str, Any]:
    over = sum(step.state == "done" for step in run.steps)
    return {
        "id": run.id,
        "execution_id": run.id,
        "workflow_id": run.agent,
        "status": STATES.get(run.state, run.state if run.state == "completed" else "failed"),
        "current_step": over,
        "total_steps": len(run.steps),
        "progress": 100 if run.state == "completed" else round(100 * over / max(len(run.steps), 1)),
        "total_cost": float(run.spent),
        "result": run.output,
        "error_message": None if run.state in ("submitted", "working", "input_required", "completed") else run.reason,
        "started_at": run.created_at.isoformat(),
        "completed_at": None if run.ended_at is None else run.ended_at.isoformat(),
    }
