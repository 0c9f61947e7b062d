"""The HTTP of runs: called, followed, approved, cancelled and receipted."""

from typing import Annotated, Any, Literal

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.money import InvalidAmount, parse
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.kernel.primitives.text import Text
from aitbc.modules.hermes.api import AgentNotFound
from aitbc.modules.hermes.models.shapes import AgentRun, Amount, Word
from aitbc.modules.hermes.service.commands import (
    AgentNotCallable,
    AgentRunNotFound,
    AgentSkillNotFound,
    BudgetExhausted,
    BudgetTooLow,
    CallSkill,
    CallTooLarge,
    DelegationRefused,
    NotWaiting,
    RunFilter,
    RunOver,
    SpendLimitReached,
    TooManyRuns,
)
from aitbc.modules.hermes.service.receipts import AgentReceipt, AgentReceipts, RunNotOver
from aitbc.modules.hermes.service.runs import AgentRuns
from aitbc.modules.trading.api import InsufficientFunds

Who = NamedDependency[Principal]
Once = NamedDependency[IdempotencyKey]
InState = Annotated[
    Literal["submitted", "working", "input_required", "completed", "failed", "canceled", "rejected"] | None,
    QueryParameter(name="state"),
]
AgentId = Annotated[
    str,
    Meta(max_length=30, pattern=r"^agt_[0-9a-z]{26}\Z"),
    Meta(extra_json_schema={"pattern": "^agt_[0-9a-z]{26}$", "examples": ["agt_01k0000000000000000000000a"]}),
]
Content = Annotated[str, Meta(max_length=262_144)]
MessageId = Annotated[str, Meta(min_length=1, max_length=200)]
CALL = {"permission": "agents:call", "idempotency": "required"}
READ = {"permission": "agents:read"}
REFUSALS = (
    *(AgentNotFound, AgentSkillNotFound, AgentNotCallable, BudgetTooLow, SpendLimitReached, TooManyRuns, CallTooLarge),
    *(InvalidAmount, AmountOverflow),
)


class CallAgentSkill(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A skill to be called, and the most that it may cost."""

    agent: AgentId
    """The agent. For example `agt_01k0000000000000000000000a`."""
    skill: Word | None = None
    """The skill; left out, the agent's first. For example `summarize`."""
    text: Content
    """What is asked. For example `Summarize: ...`."""
    data: Any = None
    """Data beside the text. For example `{"sentences": 3}`."""
    budget: Amount | None = None
    """The most that it may cost with everything below it, in AITBC; left out, the most that the skill says it can
    cost. For example `1`."""
    wall_seconds: Annotated[int, Meta(ge=1, le=604_800)] | None = None
    """After how long it is ended, if its owner does not allow less. For example `600`."""
    context: MessageId | None = None
    """The conversation that it belongs to; left out, a new one. For example `ctx_01k0000000000000000000000a`."""
    message: MessageId | None = None
    """The id of the message: sent again, it finds the same run. For example `order-17`."""

    def command(self) -> CallSkill:
        """As the service takes it. Raises `InvalidAmount`."""
        return CallSkill(
            agent=self.agent,
            skill=self.skill,
            text=self.text,
            data=self.data,
            budget_units=None if self.budget is None else parse(self.budget, zero=True),
            wall_seconds=self.wall_seconds,
            context=self.context,
            message=self.message,
        )


class DelegateSkill(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a run that an agent hands on while it works on it."""

    ticket: Annotated[str, Meta(min_length=64, max_length=64)]
    """What the agent was sent with the run.
    For example `5f0c4d1f2c7e9b0a5f0c4d1f2c7e9b0a5f0c4d1f2c7e9b0a5f0c4d1f2c7e9b0a`."""
    name: Word
    """What the part is called: the same name gives the same run. For example `review`."""
    agent: AgentId
    """The agent that is to do it. For example `agt_01k0000000000000000000000a`."""
    skill: Word
    """Its skill. For example `proofread`."""
    text: Content
    """What is asked. For example `Proofread: ...`."""
    budget: Amount
    """The most that it may cost, out of what is left of the run's budget, in AITBC. For example `0.2`."""

    def command(self) -> CallSkill:
        """As the service takes it. Raises `InvalidAmount`."""
        return CallSkill(agent=self.agent, skill=self.skill, text=self.text, budget_units=parse(self.budget, zero=True))


class AnswerAgentRun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's word."""

    step: Annotated[int, Meta(ge=1, le=64)]
    """The number of the step that asks: so an answer that is sent twice answers one question. For example `1`."""
    approve: bool
    """Whether it may go on. For example `true`."""
    note: Text = ""
    """What else there is to say; later steps may use it. For example `Send it, but not before Monday.`."""


class CheckAgentReceipt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A receipt to be checked."""

    receipt: dict[str, Any]
    """As it was answered: statement, key and signature."""


class AgentReceiptChecked(Struct, frozen=True, kw_only=True):
    """What a check found."""

    valid: bool
    """Whether this server signed it, and nothing in it was changed. For example `true`."""


class AgentRunController(Controller):
    """Runs."""

    path = "/runs"
    tags = ("agents",)

    @post(
        "/",
        operation_id="call_agent",
        summary="Call a skill",
        opt=CALL | {"errors": (*REFUSALS, InsufficientFunds)},
    )
    async def call(
        self, agent_runs: NamedDependency[AgentRuns], who: Who, once: Once, data: JSONBody[CallAgentSkill]
    ) -> AgentRun:
        """Call a skill of an agent. Its price is set aside now, and paid when it succeeds.

        The run goes on by itself, and never costs more than its budget with everything that it begins."""
        return await agent_runs.call(who, data.command(), once)

    @get("/", operation_id="list_agent_runs", summary="List your runs", opt=READ | {"errors": (InvalidCursor,)})
    async def page(
        self,
        agent_runs: NamedDependency[AgentRuns],
        who: Who,
        in_state: InState = None,
        agent: FromQuery[str | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[AgentRun]:
        """List the runs that the caller's account pays, from the newest on."""
        bound = (in_state or "", agent or "")
        after = after_id("agent_runs", cursor, "run", bound_to=bound)
        states = None if in_state is None else (in_state,)
        found = await agent_runs.page(who, RunFilter(states=states, agent=agent, after=after, limit=limit + 1))
        return Page.of("agent_runs", found, limit, lambda one: one.id, bound_to=bound)

    @get(
        "/{agent_run:str}",
        operation_id="get_agent_run",
        summary="Get a run",
        opt=READ | {"errors": (AgentRunNotFound,)},
    )
    async def one(self, agent_runs: NamedDependency[AgentRuns], who: Who, agent_run: FromPath[str]) -> AgentRun:
        """Read a run with its steps: one that the caller pays, or that an agent of the caller's does."""
        return await agent_runs.get(who, agent_run)

    @post(
        "/{agent_run:str}/cancel",
        status_code=200,
        operation_id="cancel_agent_run",
        summary="Cancel a run",
        opt={"permission": "agents:call", "idempotency": "natural", "errors": (AgentRunNotFound, RunOver)},
    )
    async def cancel(self, agent_runs: NamedDependency[AgentRuns], who: Who, agent_run: FromPath[str]) -> AgentRun:
        """End a run and everything below it; what was done stays and is paid, the rest of the money returns."""
        return await agent_runs.cancel(who, agent_run)

    @post(
        "/{agent_run:str}/answer",
        status_code=200,
        operation_id="answer_agent_run",
        summary="Approve or refuse",
        opt={"permission": "agents:call", "idempotency": "natural", "errors": (AgentRunNotFound, NotWaiting)},
    )
    async def answer(
        self,
        agent_runs: NamedDependency[AgentRuns],
        who: Who,
        agent_run: FromPath[str],
        data: JSONBody[AnswerAgentRun],
    ) -> AgentRun:
        """Say yes or no to what a step of a run waits for; without an answer its deadline decides as the skill says.

        The same answer to the same step again changes nothing."""
        return await agent_runs.answer(who, agent_run, step=data.step, approve=data.approve, note=data.note)

    @post(
        "/{agent_run:str}/delegate",
        operation_id="delegate_agent_run",
        summary="Hand on a part of a run",
        opt={
            "permission": "agents:call",
            "idempotency": "natural",
            "errors": (*REFUSALS, AgentRunNotFound, RunOver, BudgetExhausted, DelegationRefused),
        },
    )
    async def delegate(
        self, agent_runs: NamedDependency[AgentRuns], agent_run: FromPath[str], data: JSONBody[DelegateSkill]
    ) -> AgentRun:
        """Have another agent do a part of a run that one works on, paid out of what is left of its budget."""
        return await agent_runs.call_by_ticket(agent_run, data.ticket, data.name, data.command())

    @get(
        "/{agent_run:str}/receipt",
        operation_id="get_agent_receipt",
        summary="Get the receipt of a run",
        opt=READ | {"errors": (AgentRunNotFound, RunNotOver)},
    )
    async def receipt(
        self, agent_receipts: NamedDependency[AgentReceipts], who: Who, agent_run: FromPath[str]
    ) -> AgentReceipt:
        """Read the signed receipt of a run that has ended; one that failed has one over what was done until then."""
        return await agent_receipts.of(who, agent_run)


class AgentReceiptController(Controller):
    """Receipts."""

    path = "/receipts"
    tags = ("agents",)

    @post(
        "/verify",
        status_code=200,
        operation_id="verify_agent_receipt",
        summary="Check a receipt",
        opt={"permission": "agents:read", "idempotency": "natural"},
    )
    async def verify(
        self, agent_receipts: NamedDependency[AgentReceipts], data: JSONBody[CheckAgentReceipt]
    ) -> AgentReceiptChecked:
        """Check that this server signed a receipt and that nothing in it was changed."""
        return AgentReceiptChecked(valid=agent_receipts.is_genuine(data.receipt))
