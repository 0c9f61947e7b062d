"""The face of governance: all that the other modules may know."""

from datetime import datetime
from typing import Annotated, Any, Protocol

from msgspec import Struct, field

from aitbc.kernel.primitives.errors import NotFound
from aitbc.kernel.primitives.json_schema import one_of

CLASSES = ("parameters", "funding", "general", "emergency")
BALLOTS = ("basic", "single", "approval", "weighted", "quadratic", "ranked")
SHOWN = (
    "pending",
    "active",
    "succeeded",
    "defeated",
    "queued",
    "executed",
    "execution_failed",
    "cancelled",
    "vetoed",
    "expired",
)
"""The states that everybody sees."""


class GovernanceTally(Struct, frozen=True, kw_only=True):
    """What the votes of a proposal come to, in AITBC of power."""

    votes_for: str
    """Power for it, of a basic ballot. For example `1200`."""
    votes_against: str
    """Power against it. For example `300`."""
    abstained: str
    """Power that abstained. For example `50`."""
    cast: str
    """All power that voted, on any ballot. For example `1550`."""
    voters: int
    """How many accounts voted. For example `12`."""
    quorum: str | None
    """The power that must vote; null before the snapshot. For example `1000`."""
    has_quorum: bool
    """Whether enough power voted."""


class GovernanceProposal(Struct, frozen=True, kw_only=True):
    """A proposal: what it would do, where it is in its life, and what was voted."""

    id: str
    """The proposal; made from its content. For example `prop_01k0000000000000000000000a`."""
    digest: str
    """The SHA-256 of all that is voted on, whose first half is the id. For example
    `5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03`."""
    proposer: str
    """Who made it. For example `acct_01k0000000000000000000000a`."""
    title: str
    """What it is called. For example `Lower the fee`."""
    text: str
    """Why it is proposed. For example `Miners ask for it.`."""
    class_: Annotated[str, one_of(CLASSES)] = field(name="class")
    """What decides it: `parameters`, `funding`, `general` or `emergency`."""
    actions: tuple[dict[str, Any], ...]
    """What it does when it is executed. For example `[{"do": "set_parameter", "name": "trading.fee_basis_points",
    "value": 200}]`."""
    ballot: Annotated[str, one_of(BALLOTS)]
    """How it is voted on."""
    options: tuple[str, ...]
    """What there is to choose from; none of a basic ballot. For example `[]`."""
    state: Annotated[str, one_of(SHOWN)]
    """Where it is in its life."""
    created_at: datetime
    """When it was made."""
    voting_starts: datetime
    """When voting starts."""
    voting_ends: datetime
    """When voting ends."""
    extended: bool
    """Whether voting was prolonged because the quorum was reached late."""
    snapshot_at: datetime | None
    """As of when power counts; null before voting started."""
    total: str | None
    """All power at that time, in AITBC. For example `5000`."""
    threshold_basis_points: int
    """The least share of `for` among `for` and `against`, in 1/10 000. For example `5000`."""
    tally: GovernanceTally
    """What was voted so far."""
    outcome: dict[str, Any] | None
    """Of a ballot with options, its count when voting was over. For example `{"scores": [5, 3], "winner": 0}`."""
    executes_at: datetime | None
    """When its timelock ends; null where nothing is queued."""
    expires_at: datetime | None
    """Until when it may be executed."""
    ended_at: datetime | None
    """When it came to a final state."""
    failure: str | None
    """Why its last execution was refused. For example `The budget line grants does not cover this.`."""
    reason: str | None
    """Why it was cancelled or vetoed. For example `A better one follows.`."""
    deposit: str
    """What its proposer deposited, in AITBC. For example `10`."""
    deposit_policy: Annotated[str, one_of(("always", "passed", "never"))]
    """When that goes back; else it goes to the treasury."""


class ProposalNotFound(NotFound):
    """There is no such proposal."""

    code = "proposal_not_found"


class GovernanceApi(Protocol):
    """What governance does for other modules."""

    async def proposal(self, proposal: str) -> GovernanceProposal:
        """One proposal. Raises `ProposalNotFound`."""
        ...
