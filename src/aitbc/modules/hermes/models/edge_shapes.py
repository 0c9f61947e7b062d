"""Edges and deployments, as everyone speaks of them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from aitbc.kernel.primitives.json_schema import one_of
from aitbc.modules.hermes.models.rollout import PRESENCES
from aitbc.modules.hermes.models.shapes import Word

EDGE_KINDS = ("chat", "embed")
"""What an edge does without the server: neither artifacts nor programs are brought to it."""
DEPLOYMENT_STATES = ("rolling", "live", "rolled_back", "failed", "ended")
PLACEMENT_STATES = ("waiting", "preparing", "ready", "failed")
LOCATION_STATES = ("ready", "rolling", "failed", "waiting", "no_edge")
Mebibytes = Annotated[int, Meta(ge=1, le=2**40)]
Location = Word
"""Where an edge stands: a word of its owner's."""


class EdgeNeeds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an edge must have, as its miner shows it."""

    memory_mib: Mebibytes | None = None
    """Memory in MiB. For example `16384`."""
    disk_mib: Mebibytes | None = None
    """Free disk in MiB. For example `20480`."""


class EdgeStep(Struct, frozen=True, kw_only=True):
    """A step that an edge does with its own kinds of work."""

    name: str
    """Its name. For example `answer`."""
    kind: Annotated[str, one_of(EDGE_KINDS)]
    """The kind of work: `chat` or `embed`."""
    input: Any
    """What to work on; places in braces are filled in at the edge. For example `{"texts": ["{{text}}"]}`."""


class RolloutPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a version reaches the edges: a canary first, the others once it has stood the time of the gate."""

    canary_percent: Annotated[int, Meta(ge=1, le=100)] = 5
    """How many edges are the canary, in percent of all, at least one. For example `5`."""
    at_once: Annotated[int, Meta(ge=1, le=1000)] = 10
    """How many edges prepare a version at a time. For example `10`."""
    failures_max: Annotated[int, Meta(ge=0, le=1000)] = 0
    """With more failed edges than this a version is rolled back. For example `0`."""
    gate_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 30
    """For how long the canary must have been ready. For example `30`."""
    ready_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 300
    """An edge that is there and not ready after so long has failed. For example `300`."""


class Coordination(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How callers are spread over the edges of a deployment; those that are not healthy are left out either way."""

    balancing: Literal["round_robin", "active_passive"] = "round_robin"
    """`round_robin`: each in turn; `active_passive`: the first that is healthy, and the next where it fails."""


class Edge(Struct, frozen=True, kw_only=True):
    """A miner that serves deployments near those who ask, also while it is cut off."""

    miner: str
    """The miner. For example `mnr_01k0000000000000000000000a`."""
    location: str
    """Where it stands. For example `eu-central`."""
    presence: Annotated[str, one_of(PRESENCES)]
    """`healthy`; `cut_off` where only a neighbour has heard of it; `failed`; `unknown` before its first report."""
    address: str | None
    """Where it says that it answers; null where it does not say. For example `http://10.0.0.5:8170`."""
    reported_at: datetime | None
    """When it last reported; null before."""
    vouched_at: datetime | None
    """When a neighbour last saw it alive; null before."""
    created_at: datetime
    """When it became an edge."""


class DeploymentEdge(Struct, frozen=True, kw_only=True):
    """A deployment at one edge."""

    miner: str
    """The edge. For example `mnr_01k0000000000000000000000a`."""
    presence: Annotated[str, one_of(PRESENCES)]
    """How the edge is: `healthy`, `cut_off`, `failed` or `unknown`."""
    wanted: int
    """The version that it is to have; 0 for none. For example `2`."""
    serves: int
    """The version that it last said it serves; 0 for none. For example `1`."""
    state: Annotated[str, one_of(PLACEMENT_STATES)]
    """How far the wanted version is there: `waiting`, `preparing`, `ready` or `failed`."""
    problem: str
    """Why it failed; empty unless it did. For example `model_unavailable`."""


class DeploymentLocation(Struct, frozen=True, kw_only=True):
    """A deployment at one location that was asked for."""

    location: str
    """The location. For example `eu-central`."""
    status: Annotated[str, one_of(LOCATION_STATES)]
    """`ready` where an edge serves the target; `rolling`, `failed`, `waiting` for an edge to be there, or `no_edge`."""
    edges: tuple[DeploymentEdge, ...]
    """The edges there that are to serve it."""


class Deployment(Struct, frozen=True, kw_only=True):
    """A served model or an agent that edges are to serve."""

    id: str
    """The deployment. For example `dep_01k0000000000000000000000a`."""
    account: str
    """Whose it is. For example `acct_01k0000000000000000000000b`."""
    name: str
    """What it is called. For example `assistant`."""
    state: Annotated[str, one_of(DEPLOYMENT_STATES)]
    """`rolling`; `live`; `rolled_back` to the version before; `failed` where there was none before; `ended`."""
    problem: str
    """Why the last version was rolled back; empty unless one was. For example `model_unavailable`."""
    version: int
    """The newest version that was declared. For example `2`."""
    target: int
    """The version that its edges are to have; 0 for none. For example `2`."""
    good: int
    """The newest version that has gone through its gate; 0 before one has. For example `1`."""
    replicas: int
    """How many edges of each location serve it at most. For example `1`."""
    plan: RolloutPlan
    """How versions are rolled out."""
    coordination: Coordination
    """How callers are spread."""
    steps: tuple[EdgeStep, ...]
    """What the newest version does, one after the other."""
    locations: tuple[DeploymentLocation, ...]
    """Each location that was asked for, those without an edge too."""
    served: int
    """How many answers edges have receipts for. For example `120`."""
    broken: int
    """How many tries failed. For example `1`."""
    served_cut_off: int
    """How many of both were made while the edge was cut off. For example `14`."""
    created_at: datetime
    """When it was made."""
    changed_at: datetime
    """When its versions or its state last changed."""


class EdgeReceipt(Struct, frozen=True, kw_only=True):
    """What an edge has signed about one thing that it did."""

    edge: str
    """The edge. For example `mnr_01k0000000000000000000000a`."""
    journal: str
    """The book in which the edge counts. For example `5f0c4d1f2c7e9b0a5f0c4d1f2c7e9b0a`."""
    sequence: int
    """Its number there. For example `17`."""
    statement: str
    """The signed bytes: canonical JSON. For example `{"cut_off":true,...}`."""
    signature: str
    """Ed25519, by the key of the miner. For example `3fW...`."""
    public_key: str
    """That key. For example `11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo`."""
    received_at: datetime
    """When it came here."""


class EdgeStatement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an edge says about one thing that it did; it signs the canonical JSON of this."""

    statement: Literal["aitbc.edge.v1"]
    """What sort of statement it is. For example `aitbc.edge.v1`."""
    edge: Annotated[str, Meta(min_length=30, max_length=30)]
    """The edge. For example `mnr_01k0000000000000000000000a`."""
    deployment: Annotated[str, Meta(min_length=30, max_length=30)]
    """The deployment. For example `dep_01k0000000000000000000000a`."""
    version: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    """Its version. For example `2`."""
    journal: Annotated[str, Meta(min_length=32, max_length=32, pattern=r"^[0-9a-f]{32}\Z")]
    """The book in which it counts. For example `5f0c4d1f2c7e9b0a5f0c4d1f2c7e9b0a`."""
    sequence: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    """Its number there. For example `17`."""
    input_digest: Annotated[str, Meta(min_length=71, max_length=71)]
    """The digest of what was asked.
    For example `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    output_digest: Annotated[str, Meta(max_length=71)]
    """The digest of the answer; empty where there was none.
    For example `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    problem: Annotated[str, Meta(max_length=100)]
    """Why there was none; empty where there was one. For example `timed_out`."""
    milliseconds: Annotated[int, Meta(ge=0, le=2**53 - 1)]
    """How long it took. For example `42`."""
    ended_at: datetime
    """When it ended, by the edge's own clock."""
    cut_off: bool
    """Whether the edge could not reach the server then."""
