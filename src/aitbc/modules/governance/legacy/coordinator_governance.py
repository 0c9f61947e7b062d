"""The governance of the older coordinator: the service's paths, delegation, single steps and reports."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from litestar import post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta, Struct

from aitbc.kernel.legacy.amounts import amount_of
from aitbc.kernel.legacy.caller import Who
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.text import Name, Text
from aitbc.modules.governance.legacy.service_paths import (
    PERIODS,
    READ,
    WRITE,
    Governance,
    LegacyGovernance,
    Period,
    require_self,
    vote_of,
)
from aitbc.modules.governance.legacy.shapes import (
    LegacyProfile,
    LegacyProposal,
    LegacyVote,
    VoteBody,
    account_of,
    profile_view,
    proposal_view,
)
from aitbc.modules.governance.service.stakes import Share

EXECUTE = {"permission": "governance:execute", "idempotency": "natural"}
REPORT = READ | {"idempotency": "natural"}
Named = Annotated[Annotated[str, Meta(max_length=100)] | None, QueryParameter(name="voter_id")]


class DelegateBody(Struct, frozen=True, kw_only=True):
    """Who is to vote with all of one's power."""

    delegatee_id: Name


class CoordinatorVote(Struct, frozen=True, kw_only=True):
    """A vote on the proposal of the path."""

    vote_type: Literal["for", "against", "abstain"]
    reason: Text | None = None


class LegacyTransparencyReport(Struct, frozen=True, kw_only=True):
    """What happened in the last period; made anew whenever it is asked for."""

    report_id: str
    period: str
    total_proposals: int
    passed_proposals: int
    active_voters: int
    total_voting_power_participated: float
    treasury_inflow: float
    treasury_outflow: float
    metrics: dict[str, Any]
    generated_at: datetime


class CoordinatorGovernance(LegacyGovernance):
    """Profiles, proposals and votes, one step at a time."""

    @post("/profiles/{profile:str}/delegate", status_code=200, opt=WRITE)
    async def delegate(
        self, governance: Governance, who: Who, profile: FromPath[str], data: JSONBody[DelegateBody]
    ) -> LegacyProfile:
        """Let somebody vote with all of the caller's power."""
        require_self(who, profile, "/profile_id")
        share = Share(account_of(data.delegatee_id), 10_000)
        await governance.governance_stakes.delegate(who, [share])
        return profile_view(await governance.profiles.one(who.account))

    @post("/proposals/{proposal:str}/vote", status_code=200, opt=WRITE)
    async def vote_on(
        self,
        governance: Governance,
        who: Who,
        proposal: FromPath[str],
        data: JSONBody[CoordinatorVote],
        voter_id: Named = None,
    ) -> LegacyVote:
        """Vote on a proposal."""
        body = VoteBody(proposal_id=proposal, voter_id=voter_id or "", vote_type=data.vote_type, reason=data.reason)
        return await vote_of(governance, who, body)

    @post("/proposals/{proposal:str}/process", status_code=200, opt=WRITE)
    async def process(self, governance: Governance, proposal: FromPath[str]) -> LegacyProposal:
        """Take the steps that time has made due; the platform does that by itself, and twice changes nothing."""
        await governance.governance_proposals.row(proposal)
        await governance.clockwork.advance()
        return proposal_view(await governance.governance_proposals.one(proposal))

    @post("/proposals/{proposal:str}/execute", status_code=200, opt=EXECUTE)
    async def execute(self, governance: Governance, who: Who, proposal: FromPath[str]) -> LegacyProposal:
        """Execute a proposal whose timelock is over."""
        await governance.governance_execution.execute(proposal, who)
        return proposal_view(await governance.governance_proposals.one(proposal))

    @post("/analytics/reports", status_code=200, opt=REPORT)
    async def report(self, governance: Governance, period: FromQuery[Period] = "monthly") -> LegacyTransparencyReport:
        """Report the last period, from what is stored."""
        until = now()
        since = until - timedelta(days=PERIODS[period])
        found = await governance.profiles.activity(since, until)
        money = await governance.governance_treasury.report(since, until)
        members = await governance.profiles.members()
        return LegacyTransparencyReport(
            report_id=ids.new_id("rep"),
            period=period,
            total_proposals=found.proposals,
            passed_proposals=found.passed,
            active_voters=found.voters,
            total_voting_power_participated=amount_of(found.cast_units),
            treasury_inflow=float(money.total_received),
            treasury_outflow=float(money.total_paid),
            metrics={
                "voter_participation_rate": found.voters / members if members else 0.0,
                "proposal_success_rate": found.passed / found.proposals if found.proposals else 0.0,
            },
            generated_at=until,
        )
