"""What can be asked of edges and deployments, and what they refuse."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from aitbc.kernel.primitives.errors import Conflict, Invalid, NotFound, TooMany
from aitbc.kernel.primitives.text import Name
from aitbc.modules.hermes.models.edge_shapes import Coordination, EdgeNeeds, EdgeStep, Location, RolloutPlan
from aitbc.modules.hermes.models.shapes import Word

AgentRef = Annotated[str, Meta(min_length=30, max_length=30)]
MinerRef = Annotated[str, Meta(min_length=30, max_length=30)]
DeploymentRef = Annotated[str, Meta(min_length=30, max_length=30)]
EdgeKind = Literal["chat", "embed"]


class EdgeNotFound(NotFound):
    """This miner is no edge of yours."""

    code = "edge_not_found"


class DeploymentNotFound(NotFound):
    """There is no such deployment."""

    code = "deployment_not_found"


class DeploymentEnded(Conflict):
    """This deployment has ended, or nothing of it is left to go back to."""

    code = "deployment_ended"


class DeploymentRolling(Conflict):
    """A version of this deployment is on its way; wait until it is live, or roll it back."""

    code = "deployment_rolling"


class EdgeWorkInvalid(Invalid):
    """An edge cannot do this."""

    code = "edge_work_invalid"


class NoEdgeServes(Conflict):
    """No edge that serves this deployment is healthy now."""

    code = "no_edge_serves"


class TooManyDeployments(TooMany):
    """This account has as many deployments as it may have; end some."""

    code = "too_many_deployments"


class TooManyEdges(TooMany):
    """This account has as many edges as it may have; remove some."""

    code = "too_many_edges"


class ServeModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that edges are to serve."""

    kind: EdgeKind
    """The kind of work. For example `chat`."""
    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    """The model; left out, whichever the edge has. For example `llama-3-8b`."""
    input: dict[str, Any] | None = None
    """The input of the work beside the model; `{{text}}`, `{{data}}` and `{{data.PATH}}` stand for what is asked. Left
    out, the text alone. For example `{"messages": "{{data.messages}}", "max_tokens": 200}`."""


class ServeAgent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent of yours whose skill edges are to do: its steps must be jobs that an edge can do."""

    agent: AgentRef
    """The agent. For example `agt_01k0000000000000000000000a`."""
    skill: Word | None = None
    """The skill; left out, the agent's first. For example `summarize`."""


class DeploymentContent(Struct, frozen=True, kw_only=True):
    """A version, as its row has it."""

    steps: tuple[EdgeStep, ...]
    needs: EdgeNeeds = EdgeNeeds()
    agent: str | None = None
    """The agent whose skill it is; none for a model."""


class Deploy(Struct, frozen=True, kw_only=True):
    """Something new that edges are to serve."""

    name: Name
    content: ServeModel | ServeAgent
    needs: EdgeNeeds
    locations: tuple[Location, ...]
    replicas: int
    plan: RolloutPlan
    coordination: Coordination = Coordination()


class EdgeState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a deployment is at an edge."""

    deployment: DeploymentRef
    """The deployment. For example `dep_01k0000000000000000000000a`."""
    version: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    """The version that it was told to have; 0 for none. For example `2`."""
    state: Literal["preparing", "ready", "failed"]
    """How far that is."""
    problem: Annotated[str, Meta(max_length=300)] = ""
    """Why it failed; empty unless it did. For example `model_unavailable`."""
    serves: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    """The version that it serves now; 0 for none. For example `1`."""


class SignOfLife(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a neighbour has signed: that it is alive."""

    edge: MinerRef
    """The neighbour. For example `mnr_01k0000000000000000000000b`."""
    at: Annotated[int, Meta(ge=0, le=2**53 - 1)]
    """When, in milliseconds since 1970. For example `1767225600000`."""
    signature: Annotated[str, Meta(min_length=86, max_length=86)]
    """Ed25519, by the key of the neighbour, over the canonical JSON of `edge`, `at` and `statement`, which is
    `aitbc.edge-life.v1`."""


class ReportEdge(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an edge says of itself, and of neighbours that it has heard of."""

    address: Annotated[str, Meta(min_length=8, max_length=300, pattern=r"^https?://[^\s?#]+\Z")] | None = None
    """Where it answers those who are near; null where it says nothing. For example `http://10.0.0.5:8170`."""
    memory_mib: Annotated[int, Meta(ge=0, le=2**40)] | None = None
    """Its memory in MiB. For example `16384`."""
    disk_mib: Annotated[int, Meta(ge=0, le=2**40)] | None = None
    """Its free disk in MiB. For example `20480`."""
    states: Annotated[tuple[EdgeState, ...], Meta(max_length=100)] = ()
    """How far each deployment is that it was told of."""
    relayed: Annotated[tuple[SignOfLife, ...], Meta(max_length=50)] = ()
    """Signs of life of neighbours, for those that are cut off."""


class SentReceipt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A receipt as an edge brings it."""

    statement: Annotated[str, Meta(min_length=2, max_length=4096)]
    """The signed bytes: canonical JSON. For example `{"cut_off":true,"statement":"aitbc.edge.v1"}`."""
    signature: Annotated[str, Meta(min_length=86, max_length=86)]
    """Ed25519, by the key of its miner."""


class BringReceipts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Receipts that wait at an edge, in their order."""

    receipts: Annotated[tuple[SentReceipt, ...], Meta(min_length=1, max_length=100)]
    """A hundred at most. Each is kept once, however often it comes."""


class ReceiptRefused(Struct, frozen=True, kw_only=True):
    """A receipt that is not kept."""

    number: int
    """Its place in what was brought, from 0. For example `3`."""
    reason: str
    """Why: `unreadable`, `not_canonical`, `wrong_edge`, `wrong_signature`, `not_deployed_there` or `conflicts`.
    For example `wrong_signature`."""


class ReceiptsTaken(Struct, frozen=True, kw_only=True):
    """What became of receipts that an edge brought: it may forget them."""

    kept: int
    """How many are new. For example `12`."""
    known: int
    """How many were here already. For example `0`."""
    refused: tuple[ReceiptRefused, ...]
    """Those that are kept nowhere."""


class DesiredWork(Struct, frozen=True, kw_only=True):
    """What an edge is to serve."""

    deployment: str
    """The deployment. For example `dep_01k0000000000000000000000a`."""
    name: str
    """What it is called. For example `assistant`."""
    version: int
    """The version. For example `2`."""
    steps: tuple[EdgeStep, ...]
    """What it does, one after the other."""
    token_digest: str
    """The digest of what callers show.
    For example `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""


class Neighbour(Struct, frozen=True, kw_only=True):
    """An edge of the same account at the same location."""

    edge: str
    """The edge. For example `mnr_01k0000000000000000000000b`."""
    address: str
    """Where it answers. For example `http://10.0.0.6:8170`."""


class EdgeTold(Struct, frozen=True, kw_only=True):
    """What an edge is to do until it reports again, and for as long as it is cut off."""

    desired: tuple[DesiredWork, ...]
    """What it is to serve; what it served beside that ends."""
    neighbours: tuple[Neighbour, ...]
    """Those to which it shows that it is alive when it cannot reach the server."""
    report_seconds: float
    """Report again after so long. For example `10.0`."""


class EdgeChosen(Struct, frozen=True, kw_only=True):
    """The edge for a caller."""

    edge: str
    """The edge. For example `mnr_01k0000000000000000000000a`."""
    location: str
    """Where it stands. For example `eu-central`."""
    address: str | None
    """Where it answers; null where it does not say. For example `http://10.0.0.5:8170`."""


class DeploymentToken(Struct, frozen=True, kw_only=True):
    """What callers of a deployment show at its edges."""

    token: str
    """A secret. For example `edge_5f0c4d1f2c7e9b0a5f0c4d1f2c7e9b0a5f0c4d1f2c7e9b0a5f0c4d1f2c7e9b0a`."""
