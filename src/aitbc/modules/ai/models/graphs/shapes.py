"""Graphs of jobs, as everyone speaks of them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.text import Name
from aitbc.modules.ai.api import Clocks
from aitbc.modules.ai.models.graphs.life import GraphState, NodeState
from aitbc.modules.ai.models.submit_job import Requirements, RetryPolicy

NODES_MAX = 200
"""How many nodes a graph may be written with."""
INSTANCES_MAX = 1000
"""How many jobs the nodes of a graph may come to, with all that is fanned out."""
SPEC_BYTES_MAX = 256 * 1024
EXAMPLE = [
    {"name": "first", "kind": "embed", "input": {"texts": ["the tide is high"]}, "max_price": "0.05"},
    {"name": "second", "kind": "embed", "input": {"texts": ["of {{first.digest}}"]}, "max_price": "0.05"},
]
NodeName = Annotated[
    str,
    Meta(min_length=1, max_length=40, pattern=r"^[a-z][a-z0-9_-]*\Z"),
    Meta(extra_json_schema={"pattern": "^[a-z][a-z0-9_-]*$", "examples": ["summary"]}),
]
GraphAmount = Annotated[str, Meta(max_length=40, examples=["0.5"])]


class GraphCondition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A condition on a value; all that it names must hold."""

    value: Any
    """What is looked at: a text with places such as `{{classify.text}}`, or any JSON with such texts."""
    equals: Any = None
    """It must be this, as JSON. For example `spam`."""
    differs: Any = None
    """It must not be this, as JSON. For example `spam`."""
    any_of: Annotated[tuple[Any, ...], Meta(max_length=100)] = ()
    """It must be one of these. For example `["spam", "advert"]`."""
    at_least: float | None = None
    """It must be a number, and no less than this. For example `0.5`."""
    at_most: float | None = None
    """It must be a number, and no more than this. For example `0.9`."""
    contains: Annotated[str, Meta(max_length=1000)] | None = None
    """It must be a text with this in it, or a list with it. For example `urgent`."""


class GraphNode(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node of a graph: a job, or one for each item of a list."""

    name: NodeName
    """Its name within the graph. For example `summary`."""
    kind: Annotated[str, Meta(max_length=40, examples=["chat"])]
    """The kind of work, one of `GET /api/v1/ai/kinds`."""
    input: Annotated[dict[str, Any], Meta(examples=[{"texts": ["of {{first.digest}}"]}])]
    """What to work on, as the kind has it. In its texts `{{NAME.text}}` and `{{NAME.output.PATH}}` stand for what
    another node made, which is then a parent, `{{inputs.NAME}}` for an input of the graph, `{{item}}` and `{{index}}`
    for the item of a list. A text that is one place and nothing else becomes the value itself."""
    after: Annotated[tuple[NodeName, ...], Meta(max_length=NODES_MAX)] = ()
    """Further nodes that must have ended before. For example `["check"]`."""
    for_each: Any = None
    """A list, or a text that is one place which stands for a list: the node is then one job for each item."""
    when: GraphCondition | None = None
    """Only when this holds; else it is skipped, and what needs it."""
    join: Literal["all", "any"] = "all"
    """Whether `all` parents must have succeeded, or `any` of them once all have ended; what the others did not make is
    then null. For example `all`."""
    max_price: GraphAmount | None = None
    """The most that one job of it may cost, in AITBC; left out, the most that it can cost when it begins."""
    retries: Annotated[int, Meta(ge=0, le=10)] = 0
    """How many more jobs are tried when one has failed or was taken by nobody. For example `2`."""
    requirements: Requirements = Requirements()
    """What a miner must have to take it."""
    prefer: Literal["cheapest", "fastest", "balanced"] | None = None
    """Which of the miners that fit gets it first, as for any job. For example `cheapest`."""
    priority: Literal["low", "normal", "high", "urgent"] | Annotated[int, Meta(ge=0, le=9)] = "normal"
    """A name, or 0 (least) to 9 (most urgent), as for any job."""
    clocks: Clocks = Clocks()
    """How long each job of it may take, in each part of its life."""
    retry: RetryPolicy = RetryPolicy()
    """When miners try one job again."""


class RunGraph(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A graph of jobs to be run, and the most that all of it may cost."""

    name: Name = "graph"
    """What it is called. For example `Nightly report`."""
    nodes: Annotated[tuple[GraphNode, ...], Meta(min_length=1, max_length=NODES_MAX, examples=[EXAMPLE])]
    """Its nodes, in any order."""
    inputs: dict[str, Any] = {}
    """Values that nodes may name. For example `{"topic": "tides"}`."""
    budget: GraphAmount
    """The most that all its jobs may cost together, in AITBC: what is held for them and was paid never passes it."""
    parallel: Annotated[int, Meta(ge=1, le=INSTANCES_MAX)] = 100
    """How many jobs of it may be under way at once. For example `100`."""


class RerunGraph(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A graph that has ended, to be run again from where it failed or from some node on."""

    nodes: Annotated[tuple[NodeName, ...], Meta(max_length=NODES_MAX)] = ()
    """The nodes from which on, with all that follows from them; left out, whatever did not succeed.
    For example `["summary"]`."""
    budget: GraphAmount | None = None
    """A new budget for the whole, in AITBC, with what is spent already. For example `0.8`."""


class GraphNodeState(Struct, frozen=True, kw_only=True):
    """A node of a graph, or one of its items, and how it goes."""

    name: str
    """The node. For example `summary`."""
    index: int | None
    """Of a node with `for_each`, the item, from 0; null for the node as a whole. For example `0`."""
    state: Annotated[str, one_of(NodeState)]
    """Where it is."""
    reason: str
    """Why it is there; empty where that needs no word. For example `job_failed`."""
    message: str
    """What else there is to say, for people; may be empty. For example `There is no output of split.`."""
    job: str | None
    """Its newest job; null before. For example `job_01k0000000000000000000000a`."""
    attempt: int
    """How many jobs were tried for it. For example `1`."""
    reserved: str
    """What is set aside for it in the budget now, in AITBC. For example `0.05`."""
    spent: str
    """What its jobs cost so far, in AITBC. For example `0.0125`."""
    output_digest: str | None
    """SHA-256 of its output as canonical JSON; null before success. For example
    `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    started_at: datetime | None
    """When its newest job was begun; null before."""
    ended_at: datetime | None
    """When it ended; null before."""


class Graph(Struct, frozen=True, kw_only=True):
    """A graph of jobs that runs or has run, without its nodes."""

    id: str
    """The graph. For example `graph_01k0000000000000000000000a`."""
    name: str
    """What it is called. For example `Nightly report`."""
    state: Annotated[str, one_of(GraphState)]
    """Where it is; the last three are final until it is run again."""
    reason: str
    """Why it is there; empty where that needs no word. For example `node_failed`."""
    schedule: str | None
    """The schedule that began it; null for one that was begun by hand.
    For example `sched_01k0000000000000000000000a`."""
    budget: str
    """The most that all its jobs may cost together, in AITBC. For example `0.5`."""
    reserved: str
    """What is set aside for jobs that are under way, in AITBC. For example `0.05`."""
    spent: str
    """What was paid so far, in AITBC. For example `0.0125`."""
    version: int
    """Counts its steps. For example `7`."""
    created_at: datetime
    """When it was begun."""
    ended_at: datetime | None
    """When it ended; null before."""


class GraphDetail(Graph, frozen=True, kw_only=True):
    """A graph with each of its nodes."""

    nodes: tuple[GraphNodeState, ...]
    """Its nodes in the order in which they were written, and below each its items."""
