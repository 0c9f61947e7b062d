"""What callers see of proposals, stake, power and the treasury."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Struct

from aitbc.kernel.parameters import ORIGINS, Shown
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.money import render
from aitbc.modules.governance.api import GovernanceProposal, GovernanceTally
from aitbc.modules.governance.models.life import Rules, quorum_of
from aitbc.modules.governance.models.tables import MOVE_STATES, PURPOSES, MoveRow, ProposalRow, VoteRow


class GovernanceDelegation(Struct, frozen=True, kw_only=True):
    """A share of power that another votes with."""

    delegator: str
    """Whose power it is. For example `acct_01k0000000000000000000000a`."""
    delegatee: str
    """Who votes with it, unless the delegator votes directly. For example `acct_01k0000000000000000000000b`."""
    basis_points: int
    """How much of it, in 1/10 000. For example `10000`."""
    units: str
    """That share now, in AITBC. For example `500`."""
    since: datetime
    """Since when."""


class GovernancePower(Struct, frozen=True, kw_only=True):
    """What an account could vote with if voting started now."""

    account: str
    """The account. For example `acct_01k0000000000000000000000a`."""
    own: str
    """Its stake, in AITBC. For example `500`."""
    received: str
    """What others delegate to it, in AITBC. For example `250`."""
    power: str
    """Both together: what its vote counts where no delegator votes directly. For example `750`."""
    unlocking: str
    """Stake that is on its way back and gives no power. For example `0`."""
    delegations: tuple[GovernanceDelegation, ...]
    """What it delegates, and what is delegated to it. For example `[]`."""


class GovernanceMove(Struct, frozen=True, kw_only=True):
    """Money that governance moves: stake, deposits, and what the treasury gets and pays."""

    id: str
    """Its transaction in the ledger, once it is done. For example `txn_01k0000000000000000000000a`."""
    purpose: Annotated[str, one_of(PURPOSES)]
    """What it is for."""
    amount: str
    """How much, in AITBC. For example `500`."""
    account: str | None
    """Whose money it is, or who is paid; null for a share of the fees. For example
    `acct_01k0000000000000000000000a`."""
    proposal: str | None
    """The proposal that it belongs to; null where it belongs to none. For example
    `prop_01k0000000000000000000000a`."""
    line: str | None
    """Of a payment, its budget line. For example `grants`."""
    title: str
    """Of a milestone, what is to be done for it; else empty. For example `First release`."""
    state: Annotated[str, one_of(MOVE_STATES)]
    """`waiting` for approval, `due` at a time, `done`, `refused` by the ledger, or `stopped`."""
    due_at: datetime
    """When it is due; of what waits for approval, when it was decided."""
    done_at: datetime | None
    """When it moved; null where it has not."""


class GovernanceVote(Struct, frozen=True, kw_only=True):
    """A vote, with the power that it counts with now."""

    proposal: str
    """What was voted on. For example `prop_01k0000000000000000000000a`."""
    voter: str
    """Who voted. For example `acct_01k0000000000000000000000a`."""
    choice: dict[str, Any]
    """What was chosen. For example `{"choice": "for"}`."""
    units: str
    """The power that it counts with, in AITBC; it shrinks when a delegator votes directly. For example `750`."""
    own: str
    """The voter's own part of it. For example `500`."""
    reason: str
    """Why, in the voter's words; may be empty. For example `Lower fees bring more work.`."""
    signed: bool
    """Whether it was signed off-line."""
    cast_at: datetime
    """When it was cast."""


class GovernanceParameter(Struct, frozen=True, kw_only=True):
    """A live parameter: its value now and where that comes from."""

    name: str
    """The parameter. For example `trading.fee_basis_points`."""
    value: int
    """Its value now. For example `200`."""
    unit: str
    """What it is counted in. For example `basis points`."""
    origin: Annotated[str, one_of(ORIGINS)]
    """Who gave it the value: a proposal, the operator's settings, or nobody."""
    least: int
    """The least that a proposal may set. For example `0`."""
    most: int
    """The most that a proposal may set. For example `2500`."""
    default: int
    """What it is where nobody says anything. For example `250`."""
    text: str
    """What it is. For example `The platform's share of a price.`."""
    effective_from: datetime | None
    """Since when a value of governance holds; null for other origins."""
    source: str | None
    """The proposal that gave it; null for other origins. For example `prop_01k0000000000000000000000a`."""


def parameter_view(shown: Shown) -> GovernanceParameter:
    """A live parameter, as the API shows it."""
    parameter = shown.parameter
    return GovernanceParameter(
        name=parameter.name,
        value=shown.value,
        unit=parameter.unit,
        origin=shown.origin,
        least=parameter.least,
        most=parameter.most,
        default=parameter.default,
        text=parameter.text,
        effective_from=shown.effective_from,
        source=shown.source,
    )


def rules_of(row: ProposalRow) -> Rules:
    """The rules that were frozen in a proposal."""
    return Rules(
        quorum_units=row.quorum_units,
        quorum_basis_points=row.quorum_basis_points,
        threshold_basis_points=row.threshold_basis_points,
    )


def quorum_for(row: ProposalRow) -> int | None:
    """The power that must vote on a proposal; none before its snapshot."""
    return None if row.total_units is None else quorum_of(rules_of(row), row.total_units)


def proposal_view(row: ProposalRow) -> GovernanceProposal:
    """A proposal, as the API shows it."""
    quorum = quorum_for(row)
    return GovernanceProposal(
        id=row.id,
        digest=row.digest,
        proposer=row.proposer,
        title=row.title,
        text=row.text,
        class_=row.class_,
        actions=tuple(msgspec.json.decode(row.actions)),
        ballot=row.ballot,
        options=tuple(row.options),
        state=row.state,
        created_at=row.created_at,
        voting_starts=row.voting_starts,
        voting_ends=row.voting_ends,
        extended=row.extended,
        snapshot_at=row.snapshot_at,
        total=None if row.total_units is None else render(row.total_units),
        threshold_basis_points=row.threshold_basis_points,
        tally=GovernanceTally(
            votes_for=render(row.for_units),
            votes_against=render(row.against_units),
            abstained=render(row.abstain_units),
            cast=render(row.cast_units),
            voters=row.voters,
            quorum=None if quorum is None else render(quorum),
            has_quorum=quorum is not None and row.cast_units >= quorum,
        ),
        outcome=None if row.outcome is None else msgspec.json.decode(row.outcome),
        executes_at=row.executes_at,
        expires_at=row.expires_at,
        ended_at=row.ended_at,
        failure=row.failure,
        reason=row.reason,
        deposit=render(row.deposit_units),
        deposit_policy=row.deposit_policy,
    )


def vote_view(row: VoteRow) -> GovernanceVote:
    """A vote, as the API shows it."""
    return GovernanceVote(
        proposal=row.proposal,
        voter=row.voter,
        choice=msgspec.json.decode(row.choice),
        units=render(row.units),
        own=render(row.own_units),
        reason=row.reason,
        signed=row.nonce is not None,
        cast_at=row.cast_at,
    )


def move_view(row: MoveRow) -> GovernanceMove:
    """Money that moves, as the API shows it."""
    return GovernanceMove(
        id=row.id,
        purpose=row.purpose,
        amount=render(row.amount_units),
        account=row.account,
        proposal=row.proposal,
        line=row.line,
        title=row.title,
        state=row.state,
        due_at=row.due_at,
        done_at=row.done_at,
    )
