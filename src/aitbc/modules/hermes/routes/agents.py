"""The HTTP of agents: registered, found, changed, and chosen."""

from typing import Annotated, Literal

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.money import InvalidAmount, parse
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.kernel.primitives.text import Name, Text
from aitbc.modules.hermes.api import AgentNotFound
from aitbc.modules.hermes.models.plans import AgentPlanInvalid
from aitbc.modules.hermes.models.routing import Wish
from aitbc.modules.hermes.models.shapes import Agent, AgentLimits, AgentSkill, Amount, Endpoint, Mode, Word
from aitbc.modules.hermes.service.agents import Agents
from aitbc.modules.hermes.service.commands import (
    AgentChanged,
    AgentFilter,
    ChangeAgent,
    NoAgentFits,
    RegisterAgent,
    TooManyAgents,
)
from aitbc.modules.hermes.service.routing import AgentChoice, AgentRouting

Who = NamedDependency[Principal]
Once = NamedDependency[IdempotencyKey]
Skills = Annotated[tuple[AgentSkill, ...], Meta(min_length=1, max_length=50)]
WRITE = {"permission": "agents:write", "idempotency": "required"}
READ = {"permission": "agents:read"}


class RegisterAgentBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent of yours."""

    name: Name
    """What it is called. For example `Editor`."""
    description: Text = ""
    """What it is for. For example `Edits texts.`."""
    endpoint: Endpoint | None = None
    """Where it answers A2A 1.0; left out, its skills are steps that are done here.
    For example `https://agents.example.org/editor/`."""
    skills: Skills
    """What it can do, and what that costs."""
    limits: AgentLimits = AgentLimits()
    """What its runs may use."""

    def command(self) -> RegisterAgent:
        """As the service takes it."""
        return RegisterAgent(
            name=self.name,
            description=self.description,
            endpoint=self.endpoint,
            skills=self.skills,
            limits=self.limits,
        )


class ChangeAgentBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different about an agent; what is left out stays."""

    version: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    """The version that this is a change of; refused where the agent has changed since. For example `3`."""
    name: Name | None = None
    """What it is called. For example `Editor`."""
    description: Text | None = None
    """What it is for. For example `Edits texts.`."""
    skills: Skills | None = None
    """All its skills, in place of those before."""
    limits: AgentLimits | None = None
    """What its runs may use."""
    state: Literal["active", "paused", "retired"] | None = None
    """`paused` takes no calls; `retired` is for good. Runs that are under way go on."""

    def command(self) -> ChangeAgent:
        """As the service takes it."""
        return ChangeAgent(
            version=self.version,
            name=self.name,
            description=self.description,
            skills=self.skills,
            limits=self.limits,
            state=self.state,
        )


class ChooseAgent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an agent is wanted for."""

    skill: Word | None = None
    """The id or a tag of the skill. For example `summarize`."""
    tags: Annotated[tuple[Word, ...], Meta(max_length=20)] = ()
    """Words of which the skill must have one, the more the better. For example `["inference"]`."""
    input_modes: Annotated[tuple[Mode, ...], Meta(max_length=10)] = ()
    """Media types that it must take, all of them. For example `["text/plain"]`."""
    output_modes: Annotated[tuple[Mode, ...], Meta(max_length=10)] = ()
    """Media types of which it must answer with one. For example `["text/plain"]`."""
    budget: Amount | None = None
    """The most that a call may cost, in AITBC. For example `1`."""
    min_success: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """The share of its runs that must have succeeded. For example `0.9`."""
    prefer: Literal["performance", "cost"] = "performance"
    """What counts more."""
    limit: Annotated[int, Meta(ge=1, le=100)] = 10
    """How many are wanted. For example `10`."""

    def wish(self) -> Wish:
        """As the service takes it. Raises `InvalidAmount`."""
        return Wish(
            skill=self.skill,
            tags=self.tags,
            input_modes=self.input_modes,
            output_modes=self.output_modes,
            max_units=None if self.budget is None else parse(self.budget, zero=True),
            min_success=self.min_success,
            prefers_performance=self.prefer == "performance",
        )


class AgentChoices(Struct, frozen=True, kw_only=True):
    """The agents that fit, the best first."""

    data: list[AgentChoice]
    """Each with its score and what that is made of."""


class AgentController(Controller):
    """Agents."""

    path = "/agents"
    tags = ("agents",)

    @post(
        "/",
        operation_id="register_agent",
        summary="Register an agent",
        opt=WRITE | {"errors": (AgentPlanInvalid, InvalidAmount, AmountOverflow, TooManyAgents)},
    )
    async def register(
        self, agents: NamedDependency[Agents], who: Who, once: Once, data: JSONBody[RegisterAgentBody]
    ) -> Agent:
        """Register an agent: one that answers A2A at an endpoint, or a chain of steps that is done here."""
        return await agents.register(who, data.command(), once)

    @get("/", operation_id="list_agents", summary="List agents", opt=READ | {"errors": (InvalidCursor,)})
    async def page(
        self,
        agents: NamedDependency[Agents],
        who: Who,
        own: FromQuery[bool] = False,
        tag: FromQuery[str | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[Agent]:
        """List the active agents of everybody, or all of the caller's own, from the newest on."""
        bound = (str(own), tag or "")
        after = after_id("agents", cursor, "agt", bound_to=bound)
        wanted = AgentFilter(account=who.account if own else None, tag=tag, after=after, limit=limit + 1)
        return Page.of("agents", await agents.page(wanted), limit, lambda one: one.id, bound_to=bound)

    @get("/{agent:str}", operation_id="get_agent", summary="Get an agent", opt=READ | {"errors": (AgentNotFound,)})
    async def one(self, agents: NamedDependency[Agents], agent: FromPath[str]) -> Agent:
        """Read an agent, whoever registered it."""
        return await agents.find(agent)

    @post(
        "/{agent:str}/change",
        status_code=200,
        operation_id="change_agent",
        summary="Change an agent",
        opt=WRITE | {"errors": (AgentNotFound, AgentChanged, AgentPlanInvalid, InvalidAmount, AmountOverflow)},
    )
    async def change(
        self,
        agents: NamedDependency[Agents],
        who: Who,
        once: Once,
        agent: FromPath[str],
        data: JSONBody[ChangeAgentBody],
    ) -> Agent:
        """Change an agent of the caller's. Runs that are under way keep the steps and the price they began with."""
        return await agents.change(who, agent, data.command(), once)

    @post(
        "/{agent:str}/heartbeat",
        status_code=200,
        operation_id="agent_heartbeat",
        summary="Say that an agent is there",
        opt={"permission": "agents:write", "idempotency": "natural", "errors": (AgentNotFound,)},
    )
    async def heartbeat(self, agents: NamedDependency[Agents], who: Who, agent: FromPath[str]) -> Agent:
        """Say that an agent of the caller's is there; it counts as online for a while."""
        return await agents.heartbeat(who, agent)


class AgentRouteController(Controller):
    """Which agent to call."""

    path = "/routes"
    tags = ("agents",)

    @post(
        "/",
        status_code=200,
        operation_id="choose_agents",
        summary="Choose an agent",
        opt={
            "permission": "agents:read",
            "idempotency": "natural",
            "errors": (NoAgentFits, InvalidAmount, AmountOverflow),
        },
    )
    async def choose(self, agent_routing: NamedDependency[AgentRouting], data: JSONBody[ChooseAgent]) -> AgentChoices:
        """Choose by conditions that must hold, then by a score whose terms are shown.

        The same agents give the same order. Where nobody fits, the refusal says what each condition left over, and what
        would fit."""
        return AgentChoices(data=list(await agent_routing.best(data.wish(), data.limit)))
