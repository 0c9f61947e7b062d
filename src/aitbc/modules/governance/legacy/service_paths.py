"""The paths of the older governance service: health, profiles, proposals, votes, treasury and analytics."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter, QueryParams
from msgspec import Meta, Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.legacy.errors import invalid
from aitbc.kernel.legacy.health import OPEN, Health, LiveController, readiness
from aitbc.kernel.legacy.paging import Word, read_query
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.governance.legacy.shapes import (
    STATUS,
    LegacyProfile,
    LegacyProposal,
    LegacyTreasury,
    LegacyVote,
    ProfileBody,
    ProposalBody,
    VoteBody,
    account_of,
    profile_view,
    proposal_view,
    vote_view,
)
from aitbc.modules.governance.models.ballots import Choice
from aitbc.modules.governance.service import GovernanceService
from aitbc.modules.governance.service.proposals import ProposalFilter
from aitbc.modules.governance.service.votes import Ballot

Governance = NamedDependency[GovernanceService]
READ = {"permission": "governance:read"}
WRITE_ONCE = {"permission": "governance:write"}
WRITE = WRITE_ONCE | {"idempotency": "natural"}
PERIODS = {"daily": 1, "weekly": 7, "monthly": 30, "yearly": 365}
LIMIT = 500
Status = Annotated[
    Literal["draft", "active", "succeeded", "defeated", "executed", "cancelled"] | None, QueryParameter(name="status")
]
OfCategory = Annotated[Literal["parameters", "funding", "general", "emergency"] | None, QueryParameter(name="category")]
Period = Literal["daily", "weekly", "monthly", "yearly"]
Proposer = Annotated[Annotated[str, Meta(max_length=100)] | None, QueryParameter(name="proposer_id")]
Voter = Annotated[Annotated[str, Meta(max_length=100)] | None, QueryParameter(name="voter_id")]
OfProposal = Annotated[Annotated[str, Meta(max_length=100)] | None, QueryParameter(name="proposal_id")]


class LegacyGovernanceAnalytics(Struct, frozen=True, kw_only=True):
    """What happened in a period."""

    period: str
    total_proposals: int
    active_proposals: int
    passed_proposals: int
    total_votes: int


class LegacyGovernanceHealth(LiveController):
    """Open to everybody, with nothing about anybody in it."""

    service = "governance-service"

    @get("/ready", opt=OPEN)
    async def ready(self, governance: Governance) -> Response[Health]:
        """Whether its database answers."""
        return await readiness(self.service, governance.governance_proposals.page(ProposalFilter(limit=1)))

    @get("/governance/status", opt=OPEN)
    async def status(self, governance: Governance) -> Health:
        """How many proposals are voted on."""
        active = len(await governance.governance_proposals.page(ProposalFilter(state="active", limit=LIMIT)))
        message = f"Governance service is running; {active} proposals are voted on"
        return Health(status="operational", service=self.service, message=message)


class LegacyGovernance(Controller):
    """Profiles, proposals, votes, the treasury."""

    path = "/v1/governance"

    @get("/profiles", opt=READ)
    async def profiles(self, governance: Governance, role: Word = None, user_id: Word = None) -> list[LegacyProfile]:
        """List profiles."""
        found = [profile_view(one) for one in await governance.profiles.find(user=user_id)]
        return [one for one in found if role in (None, one.role)]

    @get("/profiles/{profile:str}", opt=READ)
    async def profile(self, governance: Governance, profile: FromPath[str]) -> LegacyProfile:
        """Read a profile."""
        return profile_view(await governance.profiles.one(account_of(profile)))

    @post("/profiles", status_code=200, opt=WRITE)
    async def make_profile(self, governance: Governance, who: Who, data: JSONBody[ProfileBody]) -> LegacyProfile:
        """Name the caller's account."""
        data.check()
        return profile_view(await governance.profiles.one(await governance.profiles.make(who, data.user_id)))

    @get("/proposals", opt=READ)
    async def proposals(
        self,
        governance: Governance,
        status: Status = None,
        category: OfCategory = None,
        proposer_id: Proposer = None,
    ) -> list[LegacyProposal]:
        """List the newest proposals."""
        return await proposals_of(governance, status, category, proposer_id, LIMIT)

    @get("/proposals/{proposal:str}", opt=READ)
    async def proposal(self, governance: Governance, proposal: FromPath[str]) -> LegacyProposal:
        """Read a proposal."""
        return proposal_view(await governance.governance_proposals.one(proposal))

    @post("/proposals", status_code=200, opt=WRITE_ONCE)
    async def propose(
        self, governance: Governance, who: Who, once: Once, data: JSONBody[ProposalBody]
    ) -> LegacyProposal:
        """Propose something. Voting starts and ends when it is asked for, or as soon as the rules allow."""
        require_self(who, data.proposer_id, "/proposer_id")
        made = await governance.governance_proposals.propose(who, data.content(who.account), once, data.times())
        return proposal_view(made)

    @get("/votes", opt=READ)
    async def votes(
        self, governance: Governance, proposal_id: OfProposal = None, voter_id: Voter = None
    ) -> list[LegacyVote]:
        """List the newest votes."""
        voter = None if voter_id is None else account_of(voter_id)
        if (proposal_id is not None and not ids.is_id("prop", proposal_id)) or (
            voter is not None and not ids.is_id("acct", voter)
        ):
            return []
        return [vote_view(one) for one in await governance.profiles.votes(proposal_id, voter)]

    @post("/votes", status_code=200, opt=WRITE)
    async def vote(self, governance: Governance, who: Who, data: JSONBody[VoteBody]) -> LegacyVote:
        """Vote with the power that the caller had when voting started, whatever power it names."""
        return await vote_of(governance, who, data)

    @get("/treasury", opt=READ)
    async def treasury(self, governance: Governance) -> LegacyTreasury:
        """Read the treasury."""
        found = await governance.governance_treasury.view()
        return LegacyTreasury(
            treasury_id="main_treasury",
            total_balance=float(found.balance),
            allocated_funds=float(found.promised),
            asset_breakdown={"AITBC": float(found.balance)},
            last_updated=now(),
        )

    @get("/analytics", opt=READ)
    async def analytics(
        self, governance: Governance, period: FromQuery[Period] = "monthly"
    ) -> LegacyGovernanceAnalytics:
        """Count what was proposed and voted in the last period."""
        until = now()
        found = await governance.profiles.activity(until - timedelta(days=PERIODS[period]), until)
        return LegacyGovernanceAnalytics(
            period=period,
            total_proposals=found.proposals,
            active_proposals=found.active,
            passed_proposals=found.passed,
            total_votes=found.votes,
        )


class ProposeTransaction(ProposalBody, frozen=True, kw_only=True, tag_field="action", tag="propose"):
    """Something to be decided."""

    type: Literal["governance"]


class VoteTransaction(VoteBody, frozen=True, kw_only=True, tag_field="action", tag="vote"):
    """A vote."""

    type: Literal["governance"]


class GovernanceTransactionDone(Struct, frozen=True, kw_only=True):
    """What was made."""

    status: str
    transaction_id: str


class GovernanceTransactionQuery(Struct, frozen=True, kw_only=True):
    """What a list is asked for; a type of transaction is passed over, since there is one."""

    action: str | None = None
    status: str | None = None
    island_id: str | None = None
    """There are no islands: nothing belongs to one."""


class LegacyGovernanceTransactions(Controller):
    """Proposals and votes, and the list of both."""

    path = "/v1/transactions"

    @post("/", status_code=200, opt=WRITE_ONCE)
    async def make(
        self, governance: Governance, who: Who, once: Once, data: JSONBody[ProposeTransaction | VoteTransaction]
    ) -> GovernanceTransactionDone:
        """Propose something, or vote."""
        if isinstance(data, ProposeTransaction):
            require_self(who, data.proposer_id, "/proposer_id")
            made = await governance.governance_proposals.propose(who, data.content(who.account), once, data.times())
            return GovernanceTransactionDone(status="success", transaction_id=made.id)
        return GovernanceTransactionDone(
            status="success", transaction_id=(await vote_of(governance, who, data)).vote_id
        )

    @get("/", opt=READ)
    async def all(self, governance: Governance, query: QueryParams) -> list[dict[str, Any]]:
        """List proposals and votes, the newest of each first."""
        wish = read_query(query, GovernanceTransactionQuery)
        if wish.island_id is not None:
            return []
        found: list[dict[str, Any]] = []
        if wish.action in (None, "propose"):
            for one in await proposals_of(governance, None, None, None, LIMIT):
                shown = {"id": one.proposal_id, "action": "propose", "title": one.title, "status": one.status}
                found.append(shown | {"created_at": one.created_at})
        if wish.action in (None, "vote") and wish.status is None:
            for row in await governance.profiles.votes(None, None):
                vote = vote_view(row)
                shown = {"id": vote.vote_id, "action": "vote", "proposal_id": vote.proposal_id}
                found.append(shown | {"vote_type": vote.vote_type, "created_at": vote.created_at})
        return [one for one in found if wish.status in (None, one.get("status"))]


def require_self(who: Principal, named: str, field: str) -> None:
    """Raises `Invalid` where a client acts in another's name."""
    if named and account_of(named) != who.account:
        raise invalid(field, "Expected your own profile: the key says who acts")


async def vote_of(governance: GovernanceService, who: Principal, data: VoteBody) -> LegacyVote:
    """Cast a vote in the older shape."""
    require_self(who, data.voter_id, "/voter_id")
    ballot = Ballot(choice=Choice(choice=data.vote_type), reason=data.reason or "")
    await governance.governance_votes.cast(who, data.proposal_id, ballot)
    return vote_view((await governance.profiles.votes(data.proposal_id, who.account))[0])


async def proposals_of(
    governance: GovernanceService, status: str | None, category: str | None, proposer: str | None, limit: int
) -> list[LegacyProposal]:
    """The newest proposals in the older shape."""
    account = None if proposer is None else account_of(proposer)
    if account is not None and not ids.is_id("acct", account):
        return []
    wanted = ProposalFilter(class_=category, proposer=account, limit=LIMIT)
    found = await governance.governance_proposals.page(wanted)
    return [proposal_view(one) for one in found if status in (None, STATUS[one.state])][:limit]
