"""Agents, their skills, and runs, as everyone speaks of them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.text import Name, Text
from aitbc.modules.hermes.api import AGENT_STATES

RUN_STATES = ("submitted", "working", "input_required", "completed", "failed", "canceled", "rejected")
STEP_STATES = ("pending", "working", "waiting", "done", "failed", "skipped")
Amount = Annotated[
    str,
    Meta(max_length=32, pattern=r"^[0-9]{1,20}(\.[0-9]{1,8})?\Z"),
    Meta(
        description="AITBC as a decimal string with at most eight places.",
        extra_json_schema={"pattern": r"^[0-9]{1,20}(\.[0-9]{1,8})?$", "examples": ["0.05", "10"]},
    ),
]
Word = Annotated[
    str,
    Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*\Z"),
    Meta(extra_json_schema={"pattern": "^[a-z0-9][a-z0-9._-]*$", "examples": ["summary"]}),
]
"""An id that its owner chose, or a tag."""
Endpoint = Annotated[str, Meta(min_length=8, max_length=2048)]
"""A URL to which something is sent, under the egress policy."""
Mode = Annotated[
    str,
    Meta(min_length=3, max_length=100, pattern=r"^[a-z0-9.+-]+/[a-z0-9.+-]+\Z"),
    Meta(extra_json_schema={"pattern": "^[a-z0-9.+-]+/[a-z0-9.+-]+$", "examples": ["text/plain"]}),
]
"""A media type."""


class AgentJobStep(Struct, tag_field="does", tag="job", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step that is a job: the caller pays it, out of the budget of the run."""

    name: Word
    """Its name within the skill. For example `answer`."""
    kind: Word
    """The kind of work, one of those that the kinds of ai list. For example `chat`."""
    input: dict[str, Any]
    """What to work on. In its texts `{{text}}` stands for what was asked, and `{{steps.NAME}}` for the text of an
    earlier step; a text that is `{{data}}` and nothing else becomes the data that was sent."""
    max_price: Amount
    """The most that the job may cost, in AITBC. For example `0.05`."""


class AgentDelegateStep(
    Struct, tag_field="does", tag="delegate", frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A step that another agent does, within a part of the budget."""

    name: Word
    """Its name within the skill. For example `review`."""
    skill: Word
    """The skill that is called. For example `proofread`."""
    agent: Annotated[str, Meta(max_length=30)] | None = None
    """The agent; left out, the best one that fits when the step begins.
    For example `agt_01k0000000000000000000000a`."""
    text: Text = "{{text}}"
    """What it is asked; texts in braces are replaced as in a job's input. For example `Proofread: {{steps.answer}}`."""
    budget: Amount
    """The most that it may cost with everything below it, in AITBC. For example `0.2`."""


class AgentApproveStep(Struct, tag_field="does", tag="approve", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step that waits for a person's word."""

    name: Word
    """Its name within the skill. For example `release`."""
    question: Text
    """What is asked. For example `Send this to the customer?`."""
    within_seconds: Annotated[int, Meta(ge=1, le=604_800)]
    """How long an answer is waited for. For example `3600`."""
    otherwise: Literal["approve", "reject"]
    """What counts when nobody answered in time. For example `reject`."""


class AgentToolStep(Struct, tag_field="does", tag="tool", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step that a tool of an MCP server does, over streamable HTTP; it costs the run nothing."""

    name: Word
    """Its name within the skill. For example `look_up`."""
    server: Endpoint
    """Where the server answers; everybody may read it, so that no secret belongs there. For example
    `https://tools.example.org/mcp`."""
    tool: Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_./-]+\Z")]
    """The tool. For example `search`."""
    arguments: dict[str, Any] = {}
    """What it is given; texts in braces are replaced as in a job's input. For example `{"query": "{{text}}"}`."""
    repeatable: bool = False
    """Whether it does no harm twice: it is called again where its answer was lost. Otherwise the step fails then."""


SkillStep = AgentJobStep | AgentDelegateStep | AgentApproveStep | AgentToolStep


class AgentSkill(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that an agent can do, and what it costs."""

    id: Word
    """Its id, unique within the agent. For example `summarize`."""
    name: Name
    """What people call it. For example `Summaries`."""
    description: Text
    """What it does. For example `Summarizes a text in three sentences.`."""
    tags: Annotated[tuple[Word, ...], Meta(max_length=20)] = ()
    """Words by which it is found. For example `["inference"]`."""
    input_modes: Annotated[tuple[Mode, ...], Meta(min_length=1, max_length=10)] = ("text/plain",)
    """The media types that it takes. For example `["text/plain"]`."""
    output_modes: Annotated[tuple[Mode, ...], Meta(min_length=1, max_length=10)] = ("text/plain",)
    """The media types that it answers with. For example `["text/plain"]`."""
    examples: Annotated[tuple[Text, ...], Meta(max_length=10)] = ()
    """What it may be asked. For example `["Summarize: ..."]`."""
    price: Amount = "0"
    """What its owner gets for a call that succeeds, in AITBC. For example `0.5`."""
    steps: Annotated[tuple[SkillStep, ...], Meta(max_length=32)] = ()
    """What is done, one after the other; none for an agent with an endpoint, which does it itself."""


class AgentLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an owner allows an agent's runs."""

    open_runs: Annotated[int, Meta(ge=1, le=10_000)] = 100
    """How many may be under way at once. For example `100`."""
    wall_seconds: Annotated[int, Meta(ge=1, le=604_800)] = 3600
    """How long one may take, in seconds. For example `3600`."""
    depth: Annotated[int, Meta(ge=0, le=16)] = 4
    """How many agents one below the other may take part, the first one not counted. For example `4`."""
    spend_per_run: Amount | None = None
    """The largest budget that a run may have, in AITBC; left out, none is set. For example `5`."""
    spend_per_day: Amount | None = None
    """The most that the runs of a UTC day may have as budgets together, in AITBC. For example `100`."""


class AgentReputation(Struct, frozen=True, kw_only=True):
    """What is known of an agent from runs that were settled for other accounts."""

    completed: int
    """How many succeeded. For example `41`."""
    failed: int
    """How many failed by the agent's doing. For example `2`."""
    success: float
    """The share that succeeds, from 0 to 1; 0.5 where nothing is known. For example `0.93`."""
    seconds: float | None
    """How long one took on average, in seconds; null where nothing is known. For example `4.2`."""


class Agent(Struct, frozen=True, kw_only=True):
    """Somebody's program, or a chain of jobs, that others can call."""

    id: str
    """The agent. For example `agt_01k0000000000000000000000a`."""
    account: str
    """Whose it is. For example `acct_01k0000000000000000000000b`."""
    name: str
    """What it is called. For example `Editor`."""
    description: str
    """What it is for. For example `Edits texts.`."""
    endpoint: str | None
    """Where it answers A2A; null for one whose skills are done here.
    For example `https://agents.example.org/editor/`."""
    skills: tuple[AgentSkill, ...]
    """What it can do."""
    limits: AgentLimits
    """What its runs may use."""
    state: Annotated[str, one_of(AGENT_STATES)]
    """`active`, `paused` while its owner takes no calls, or `retired`."""
    is_online: bool
    """Whether it can be called now: it was heard of lately, or its skills are done here."""
    seen_at: datetime | None
    """When it was last heard of; null before."""
    problem: str
    """What was wrong when its endpoint was last looked at, if anything. For example `it answers 502`."""
    reputation: AgentReputation
    """What is known of it."""
    version: int
    """Counts its changes, from 1. For example `3`."""
    created_at: datetime
    """When it was registered."""
    changed_at: datetime
    """When its owner last changed it."""


class AgentStep(Struct, frozen=True, kw_only=True):
    """A step of a run, and how it went."""

    number: int
    """Its place, from 1. For example `1`."""
    name: str
    """Its name within the skill. For example `answer`."""
    does: Annotated[str, one_of(("job", "call", "delegate", "approve", "tool"))]
    """What it is: a job, a call of the agent's endpoint, a run of another agent, a person's word, or a tool."""
    state: Annotated[str, one_of(STEP_STATES)]
    """`pending`, `working`, `waiting` for a person, `done`, `failed`, or `skipped` because the run ended before."""
    reference: str | None
    """The job, run or message that does it; null before. For example `job_01k0000000000000000000000a`."""
    reserved: str
    """What is set aside for it out of the budget, in AITBC. For example `0.05`."""
    spent: str
    """What it cost, in AITBC. For example `0.0125`."""
    output: str | None
    """Its text; null before its end. For example `Three sentences.`."""
    error: str
    """Why it failed; empty unless it did. For example `attempts_exhausted`."""
    question: str | None
    """What a person is asked; null for other steps. For example `Send this to the customer?`."""
    due_at: datetime | None
    """Until when a person is waited for; null for other steps."""
    started_at: datetime | None
    """When it began; null before."""
    ended_at: datetime | None
    """When it ended; null before."""


class AgentRun(Struct, frozen=True, kw_only=True):
    """A call of an agent's skill, which goes on whatever happens to who made it."""

    id: str
    """The run; the id of its A2A task too. For example `run_01k0000000000000000000000a`."""
    account: str
    """Who called, and pays. For example `acct_01k0000000000000000000000b`."""
    agent: str
    """The agent. For example `agt_01k0000000000000000000000a`."""
    skill: str
    """The skill. For example `summarize`."""
    context: str
    """The conversation that it belongs to. For example `ctx_01k0000000000000000000000a`."""
    parent: str | None
    """The run that delegated it; null for one that a client began. For example `run_01k0000000000000000000000b`."""
    depth: int
    """How many runs stand above it. For example `1`."""
    state: Annotated[str, one_of(RUN_STATES)]
    """Where it is; the last four are final."""
    reason: str
    """Why it ended as it did; empty before. For example `completed`."""
    text: str
    """What was asked. For example `Summarize: ...`."""
    output: str | None
    """The answer; null before success. For example `Three sentences.`."""
    price: str
    """What the agent's owner gets when it succeeds, in AITBC. For example `0.5`."""
    budget: str
    """The most that it may cost with everything below it, in AITBC. For example `1`."""
    spent: str
    """What it has cost so far, in AITBC. For example `0.5125`."""
    reserved: str
    """What is set aside beside that, in AITBC. For example `0`."""
    transaction: str | None
    """The payment of its owner; null unless there was one. For example `txn_01k0000000000000000000000a`."""
    steps: tuple[AgentStep, ...]
    """What it does, one after the other."""
    created_at: datetime
    """When it was called."""
    deadline_at: datetime
    """When it is ended if it is not over."""
    ended_at: datetime | None
    """When it ended; null before."""
