"""What clients asked the older coordinator about proposals."""

from typing import Annotated, Any, Literal

from litestar import Controller, get, post
from litestar.params import FromQuery, JSONBody, QueryParameter
from msgspec import Struct

from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.legacy.paging import Limit
from aitbc.kernel.primitives.text import Name, Text
from aitbc.modules.governance.legacy.service_paths import READ, WRITE, WRITE_ONCE, Governance, proposals_of, vote_of
from aitbc.modules.governance.legacy.shapes import LegacyProposal, LegacyVote, ProposalBody, VoteBody, proposal_view

InStatus = Annotated[
    Literal["draft", "active", "succeeded", "defeated", "executed", "cancelled"] | None, QueryParameter(name="status")
]


class CoordinatorProposalBody(Struct, frozen=True, kw_only=True):
    """What is to be decided, as the marketplace's commands say it."""

    title: Name
    description: Text
    proposal_type: Literal["parameters", "funding", "protocol", "marketplace", "general"] = "general"
    parameters: dict[str, Any] = {}


class CoordinatorVoteBody(Struct, frozen=True, kw_only=True):
    """A vote, as the marketplace's commands say it."""

    proposal_id: str
    vote: Literal["for", "against", "abstain"]
    reasoning: Text | None = None


class CoordinatorProposals(Controller):
    """Proposals and votes."""

    @get("/proposals", opt=READ)
    async def proposals(
        self, governance: Governance, status: InStatus = None, limit: FromQuery[Limit] = 50
    ) -> list[LegacyProposal]:
        """List the newest proposals."""
        return await proposals_of(governance, status, None, None, limit)

    @post("/proposals/create", status_code=201, opt=WRITE_ONCE)
    async def create(
        self, governance: Governance, who: Who, once: Once, data: JSONBody[CoordinatorProposalBody]
    ) -> LegacyProposal:
        """Propose something."""
        body = ProposalBody(
            title=data.title,
            description=data.description,
            category=data.proposal_type,
            execution_payload=data.parameters,
        )
        made = await governance.governance_proposals.propose(who, body.content(who.account), once)
        return proposal_view(made)

    @post("/voting/cast-vote", status_code=200, opt=WRITE)
    async def vote(self, governance: Governance, who: Who, data: JSONBody[CoordinatorVoteBody]) -> LegacyVote:
        """Vote."""
        body = VoteBody(proposal_id=data.proposal_id, vote_type=data.vote, reason=data.reasoning)
        return await vote_of(governance, who, body)
