"""The shapes of the older governance, and how they are told from ours."""

from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from aitbc.kernel.legacy.amounts import amount_of, decimal_text
from aitbc.kernel.legacy.errors import invalid
from aitbc.kernel.legacy.times import time_of
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.money import parse
from aitbc.kernel.primitives.text import Name, Text
from aitbc.modules.governance.api import GovernanceProposal
from aitbc.modules.governance.models.actions import Action, Content, Pay, SetParameter
from aitbc.modules.governance.models.ballots import Choice
from aitbc.modules.governance.models.tables import VoteRow
from aitbc.modules.governance.service.profiles import Figures
from aitbc.modules.governance.service.proposals import Times

STATUS = {
    "pending": "draft",
    "active": "active",
    "succeeded": "succeeded",
    "queued": "succeeded",
    "execution_failed": "succeeded",
    "defeated": "defeated",
    "expired": "defeated",
    "vetoed": "cancelled",
    "cancelled": "cancelled",
    "executed": "executed",
}
CLASS_OF = {"parameters": "parameters", "funding": "funding"}
"""By category; the others are words."""
Category = Literal["parameters", "funding", "protocol", "marketplace", "general"]
NOT_YOURS = "Power and role follow from stake and delegation; nobody gives them to oneself"


class LegacyProfile(Struct, frozen=True, kw_only=True):
    """An account, as the older governance saw it."""

    profile_id: str
    user_id: str
    role: str
    voting_power: float
    delegated_power: float
    delegate_to: str | None
    total_votes_cast: int
    proposals_created: int
    proposals_passed: int
    joined_at: datetime
    last_voted_at: datetime | None


class ProfileBody(Struct, frozen=True, kw_only=True):
    """Who wants a profile; what else a client sends is passed over, but never believed."""

    user_id: Name
    role: str = "member"
    voting_power: float = 0.0
    delegated_power: float = 0.0
    initial_voting_power: float = 0.0

    def check(self) -> None:
        """Raises `Invalid` for power or a role that somebody gives to oneself."""
        if self.role != "member":
            raise invalid("/role", NOT_YOURS)
        if self.voting_power or self.delegated_power or self.initial_voting_power:
            raise invalid("/voting_power", NOT_YOURS)


class LegacyProposal(Struct, frozen=True, kw_only=True):
    """A proposal, as the older governance saw it."""

    proposal_id: str
    proposer_id: str
    title: str
    description: str
    category: str
    execution_payload: dict[str, Any]
    status: str
    votes_for: float
    votes_against: float
    votes_abstain: float
    quorum_required: float | None
    passing_threshold: float
    snapshot_block: int | None
    snapshot_timestamp: datetime | None
    created_at: datetime
    voting_starts: datetime
    voting_ends: datetime
    executed_at: datetime | None


class ProposalBody(Struct, frozen=True, kw_only=True):
    """What is to be decided; quorum, threshold and tallies are never a caller's."""

    proposer_id: str = ""
    title: Name
    description: Text
    category: Category = "general"
    execution_payload: dict[str, Any] = {}
    voting_starts: str | None = None
    voting_ends: str | None = None

    def content(self, account: str) -> Content:
        """As the service takes it. Raises `Invalid` for a payload that says nothing."""
        class_ = CLASS_OF.get(self.category, "general")
        actions: tuple[Action, ...] = ()
        if class_ == "parameters":
            actions = (_parameter(self.execution_payload),)
        elif class_ == "funding":
            actions = (_payment(self.execution_payload),)
        elif self.execution_payload:
            raise invalid("/execution_payload", f"A proposal of the category {self.category} executes nothing")
        return Content(
            proposer=account,
            title=self.title,
            text=self.description,
            class_=class_,
            actions=actions,
            ballot="basic",
            options=(),
        )

    def times(self) -> Times:
        """When voting is to be. Raises `Invalid`."""
        starts, ends = time_of(self.voting_starts, "voting_starts"), time_of(self.voting_ends, "voting_ends")
        if starts is not None and ends is not None and ends <= starts:
            raise invalid("/voting_ends", "Expected a time after voting_starts")
        return Times(voting_starts=starts, voting_ends=ends, at_least=True)


class LegacyVote(Struct, frozen=True, kw_only=True):
    """A vote, as the older governance saw it."""

    vote_id: str
    proposal_id: str
    voter_id: str
    vote_type: str
    voting_power_used: float
    reason: str | None
    power_at_snapshot: float
    delegated_power_at_snapshot: float
    created_at: datetime


class VoteBody(Struct, frozen=True, kw_only=True):
    """A vote; the power that a client names is passed over."""

    proposal_id: str
    voter_id: str = ""
    vote_type: Literal["for", "against", "abstain"]
    reason: Text | None = None


class LegacyTreasury(Struct, frozen=True, kw_only=True):
    """The treasury, as the older governance saw it."""

    treasury_id: str
    total_balance: float
    allocated_funds: float
    asset_breakdown: dict[str, float]
    last_updated: datetime


def _parameter(payload: dict[str, Any]) -> SetParameter:
    name, value = payload.get("name", payload.get("parameter")), payload.get("value")
    if not isinstance(name, str) or type(value) is not int:
        raise invalid("/execution_payload", 'Expected {"name": a live parameter, "value": a whole number}')
    return SetParameter(name=name, value=value)


def _payment(payload: dict[str, Any]) -> Pay:
    to, amount = payload.get("recipient", payload.get("to")), payload.get("amount")
    line = payload.get("line", "grants")
    if not isinstance(to, str) or not isinstance(line, str) or isinstance(amount, bool):
        raise invalid("/execution_payload", 'Expected {"recipient": an account, "amount": AITBC}')
    if not isinstance(amount, (int, float)) or not ids.is_id("acct", to):
        raise invalid("/execution_payload", 'Expected {"recipient": an account, "amount": AITBC}')
    text = decimal_text(float(amount))
    parse(text)
    return Pay(to=to, amount=text, line=line)


def profile_id(account: str) -> str:
    """An account's profile, as the older dialect names it."""
    return f"gov_{account.removeprefix('acct_')}"


def account_of(profile: str) -> str:
    """The account of a profile, or the text itself: clients name either."""
    return f"acct_{profile.removeprefix('gov_')}" if profile.startswith("gov_") else profile


def profile_view(one: Figures) -> LegacyProfile:
    """A profile in the older shape."""
    return LegacyProfile(
        profile_id=profile_id(one.account),
        user_id=one.user,
        role="delegate" if one.received_units else "member",
        voting_power=amount_of(one.own_units),
        delegated_power=amount_of(one.received_units),
        delegate_to=None if one.delegatee is None else profile_id(one.delegatee),
        total_votes_cast=one.votes,
        proposals_created=one.proposals,
        proposals_passed=one.passed,
        joined_at=one.joined_at,
        last_voted_at=one.voted_at,
    )


def proposal_view(one: GovernanceProposal) -> LegacyProposal:
    """A proposal in the older shape."""
    return LegacyProposal(
        proposal_id=one.id,
        proposer_id=profile_id(one.proposer),
        title=one.title,
        description=one.text,
        category=one.class_,
        execution_payload={"actions": list(one.actions)} if one.actions else {},
        status=STATUS[one.state],
        votes_for=float(one.tally.votes_for),
        votes_against=float(one.tally.votes_against),
        votes_abstain=float(one.tally.abstained),
        quorum_required=None if one.tally.quorum is None else float(one.tally.quorum),
        passing_threshold=one.threshold_basis_points / 10_000,
        snapshot_block=None,
        snapshot_timestamp=one.snapshot_at,
        created_at=one.created_at,
        voting_starts=one.voting_starts,
        voting_ends=one.voting_ends,
        executed_at=one.ended_at if one.state == "executed" else None,
    )


def vote_view(one: VoteRow) -> LegacyVote:
    """A vote in the older shape."""
    choice = msgspec.json.decode(one.choice, type=Choice).choice
    return LegacyVote(
        vote_id=f"vote_{one.proposal.removeprefix('prop_')}_{one.voter.removeprefix('acct_')}",
        proposal_id=one.proposal,
        voter_id=profile_id(one.voter),
        vote_type=choice or "options",
        voting_power_used=amount_of(one.units),
        reason=one.reason or None,
        power_at_snapshot=amount_of(one.own_units),
        delegated_power_at_snapshot=amount_of(max(one.units - one.own_units, 0)),
        created_at=one.cast_at,
    )
