"""The HTTP of proposals and votes."""

from datetime import datetime
from typing import Annotated, Literal

from litestar import Controller, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta

from aitbc.kernel.http.positions import after_id
from aitbc.kernel.parameters import ParameterOutOfRange, ParameterUnknown
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.money import InvalidAmount
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.governance.api import GovernanceProposal, ProposalNotFound
from aitbc.modules.governance.models.actions import ActionNotAllowed, NobodyHears
from aitbc.modules.governance.models.views import GovernanceVote
from aitbc.modules.governance.routes.bodies import AddVoterKey, CastSignedVote, CastVote, GiveReason, MakeProposal
from aitbc.modules.governance.routes.stake import Once, Who, changes, reads, settles
from aitbc.modules.governance.service.execution import Execution
from aitbc.modules.governance.service.proposals import ProposalFilter, Proposals
from aitbc.modules.governance.service.refusals import (
    AlreadyVoted,
    BudgetLineExceeded,
    BudgetLineNotFound,
    NoPower,
    NoStake,
    NotTheProposer,
    PayeeNotFound,
    ProposalExists,
    ProposalMoved,
    TimelockNotOver,
    TooManySponsors,
    VoteNotSigned,
    VoteReplayed,
    VoterKeyNotFound,
    VoterKeyTaken,
    VotingClosed,
)
from aitbc.modules.governance.service.simulator import GovernanceSimulation, Simulator
from aitbc.modules.governance.service.votes import GovernanceVoterKey, Votes
from aitbc.modules.trading.api import InsufficientFunds

ProposalsPart = NamedDependency[Proposals]
VotesPart = NamedDependency[Votes]
InProposalState = Annotated[
    Literal[
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
    ]
    | None,
    QueryParameter(name="state"),
]
OfClass = Annotated[Literal["parameters", "funding", "general", "emergency"] | None, QueryParameter(name="class")]
Days = Annotated[int, Meta(ge=1, le=90)]
PROPOSES = (
    InvalidAmount,
    AmountOverflow,
    ParameterUnknown,
    ParameterOutOfRange,
    ActionNotAllowed,
    NobodyHears,
    PayeeNotFound,
    BudgetLineNotFound,
    BudgetLineExceeded,
    NoStake,
    ProposalExists,
    InsufficientFunds,
)


class ProposalController(Controller):
    """What is to be decided."""

    path = "/proposals"
    tags = ("governance",)

    @post("/", operation_id="make_proposal", summary="Propose something", opt=changes(*PROPOSES))
    async def make(
        self, governance_proposals: ProposalsPart, who: Who, once: Once, data: JSONBody[MakeProposal]
    ) -> GovernanceProposal:
        """Propose something, with a deposit. Who proposes has stake; its id is made from what it says."""
        return await governance_proposals.propose(who, data.content(who.account), once, data.times())

    @get("/", operation_id="list_proposals", summary="List proposals", opt=reads(InvalidCursor))
    async def list(
        self,
        governance_proposals: ProposalsPart,
        in_state: InProposalState = None,
        of_class: OfClass = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[GovernanceProposal]:
        """List proposals, newest first."""
        bound = (in_state or "", of_class or "")
        before = Page.position("proposals", cursor, bound_to=bound)
        wanted = ProposalFilter(state=in_state, class_=of_class, before=_position(before), limit=limit + 1)
        found = await governance_proposals.page(wanted)
        return Page.of("proposals", found, limit, lambda one: f"{one.created_at.isoformat()} {one.id}", bound_to=bound)

    @get("/{proposal:str}", operation_id="get_proposal", summary="Get a proposal", opt=reads(ProposalNotFound))
    async def one(self, governance_proposals: ProposalsPart, proposal: FromPath[str]) -> GovernanceProposal:
        """Read a proposal: what it would do, and what was voted so far."""
        return await governance_proposals.one(proposal)

    @get(
        "/{proposal:str}/simulation",
        operation_id="simulate_proposal",
        summary="Simulate a proposal",
        opt=reads(ProposalNotFound),
    )
    async def simulate(
        self,
        governance_simulator: NamedDependency[Simulator],
        proposal: FromPath[str],
        days: FromQuery[Days] = 30,
    ) -> GovernanceSimulation:
        """Compute what a proposal would have meant for the work of the last days, from receipts alone."""
        return await governance_simulator.simulate(proposal, days)

    @put(
        "/{proposal:str}/sponsor",
        operation_id="sponsor_proposal",
        summary="Sponsor a proposal",
        opt=settles(ProposalNotFound, ProposalMoved, NoStake, TooManySponsors),
    )
    async def sponsor(
        self, governance_proposals: ProposalsPart, who: Who, proposal: FromPath[str]
    ) -> GovernanceProposal:
        """Support a proposal with the caller's power, so that voting on it can start."""
        return await governance_proposals.sponsor(who, proposal)

    @post(
        "/{proposal:str}/cancel",
        status_code=200,
        operation_id="cancel_proposal",
        summary="Take a proposal back",
        opt=settles(ProposalNotFound, NotTheProposer, ProposalMoved),
    )
    async def cancel(
        self, governance_proposals: ProposalsPart, who: Who, proposal: FromPath[str], data: JSONBody[GiveReason]
    ) -> GovernanceProposal:
        """Take a proposal of the caller's back before voting ends."""
        return await governance_proposals.cancel(who, proposal, data.reason)

    @post(
        "/{proposal:str}/veto",
        status_code=200,
        operation_id="veto_proposal",
        summary="Veto a proposal",
        opt=settles(ProposalNotFound, ProposalMoved, permission="governance:veto"),
    )
    async def veto(
        self, governance_proposals: ProposalsPart, who: Who, proposal: FromPath[str], data: JSONBody[GiveReason]
    ) -> GovernanceProposal:
        """Stop a proposal before its execution begins: for guardians. Its deposit goes to the treasury."""
        return await governance_proposals.veto(who, proposal, data.reason)

    @post(
        "/{proposal:str}/execute",
        status_code=200,
        operation_id="execute_proposal",
        summary="Execute a proposal",
        opt=settles(ProposalNotFound, ProposalMoved, TimelockNotOver, permission="governance:execute"),
    )
    async def execute(
        self,
        governance_execution: NamedDependency[Execution],
        governance_proposals: ProposalsPart,
        who: Who,
        proposal: FromPath[str],
    ) -> GovernanceProposal:
        """Execute what is queued and whose timelock is over: the platform does that by itself, and this tries a failed
        execution again. What was executed stays as it is."""
        await governance_execution.execute(proposal, who)
        return await governance_proposals.one(proposal)

    @put(
        "/{proposal:str}/vote",
        operation_id="cast_vote",
        summary="Vote",
        opt=settles(ProposalNotFound, VotingClosed, AlreadyVoted, NoPower),
    )
    async def vote(
        self, governance_votes: VotesPart, who: Who, proposal: FromPath[str], data: JSONBody[CastVote]
    ) -> GovernanceVote:
        """Vote with the power that the caller had when voting started. A vote is for good."""
        return await governance_votes.cast(who, proposal, data.ballot())

    @post(
        "/{proposal:str}/signed-votes",
        operation_id="cast_signed_vote",
        summary="Bring a signed vote",
        opt=settles(
            ProposalNotFound, VotingClosed, AlreadyVoted, NoPower, VoterKeyNotFound, VoteNotSigned, VoteReplayed
        ),
    )
    async def signed(
        self, governance_votes: VotesPart, proposal: FromPath[str], data: JSONBody[CastSignedVote]
    ) -> GovernanceVote:
        """Bring a vote that its voter signed off-line with a key that was added before. Anybody may bring it, once."""
        return await governance_votes.cast_signed(proposal, data.signed())

    @get(
        "/{proposal:str}/votes",
        operation_id="list_votes",
        summary="List votes",
        opt=reads(ProposalNotFound, InvalidCursor),
    )
    async def votes(
        self,
        governance_votes: VotesPart,
        proposal: FromPath[str],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[GovernanceVote]:
        """List the votes on a proposal, in the order of accounts."""
        after = after_id("votes", cursor, "acct", bound_to=(proposal,))
        found = await governance_votes.page(proposal, limit=limit + 1, after=after)
        return Page.of("votes", found, limit, lambda one: one.voter, bound_to=(proposal,))


class VoterKeyController(Controller):
    """Keys that sign votes off-line."""

    path = "/voter-keys"
    tags = ("governance",)

    @put("/", operation_id="add_voter_key", summary="Add a voter's key", opt=settles(VoterKeyTaken))
    async def add(self, governance_votes: VotesPart, who: Who, data: JSONBody[AddVoterKey]) -> GovernanceVoterKey:
        """Let a key sign votes for the caller's account."""
        return await governance_votes.add_key(who, data.public_key)

    @get("/", operation_id="list_voter_keys", summary="List your voter's keys", opt=reads(InvalidCursor))
    async def list(
        self,
        governance_votes: VotesPart,
        who: Who,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[GovernanceVoterKey]:
        """List the keys that sign votes for the caller's account, those taken back too."""
        after = Page.position("voter_keys", cursor)
        found = await governance_votes.keys(who, limit=limit + 1, after=after)
        return Page.of("voter_keys", found, limit, lambda one: one.public_key)

    @delete(
        "/{public_key:str}",
        status_code=200,
        operation_id="revoke_voter_key",
        summary="Take a voter's key back",
        opt=settles(VoterKeyNotFound),
    )
    async def revoke(self, governance_votes: VotesPart, who: Who, public_key: FromPath[str]) -> GovernanceVoterKey:
        """Let a key of the caller's sign votes no more. Doing it again changes nothing."""
        return await governance_votes.revoke_key(who, public_key)


def _position(before: str | None) -> tuple[datetime, str] | None:
    """The time and id of a position. Raises `InvalidCursor`."""
    if before is None:
        return None
    at, _, id_ = before.partition(" ")
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        raise InvalidCursor from None
    if not ids.is_id("prop", id_) or moment.tzinfo is None:
        raise InvalidCursor
    return moment, id_
