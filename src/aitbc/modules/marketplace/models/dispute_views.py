"""Disputes as both sides see them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Struct

from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.modules.marketplace.models.disputes import BY, DisputeEvidenceRow, DisputeRow, DisputeState


class MarketEvidence(Struct, frozen=True, kw_only=True):
    """What a side said in a dispute."""

    account: str
    """Who said it. For example `acct_01k0000000000000000000000a`."""
    text: str
    """What was said. For example `The miner was slower than listed.`."""
    created_at: datetime
    """When it was said."""


class MarketDispute(Struct, frozen=True, kw_only=True):
    """A dispute about what was paid for a job or a booking, the same for both sides."""

    id: str
    """The dispute. For example `dspt_01k0000000000000000000000a`."""
    subject: str
    """The receipt of the job, or the booking. For example `book_01k0000000000000000000000a`."""
    account: str
    """Who paid, and disputes. For example `acct_01k0000000000000000000000a`."""
    owner: str
    """Who was paid. For example `acct_01k0000000000000000000000b`."""
    miner: str
    """The miner that it is about. For example `mnr_01k0000000000000000000000a`."""
    reason: str
    """Why it was begun. For example `It was away for an hour.`."""
    claim: str
    """How much of the price is disputed, in AITBC. For example `2.4`."""
    held: str
    """What is set aside of the owner's money, in AITBC: what was earned of the claim, as far as the owner has it. For
    example `2.34`."""
    state: Annotated[str, one_of(tuple(state.value for state in DisputeState))]
    """`opening` until money is set aside, `open`, `deciding` until it has moved, or `closed`."""
    decide_by: datetime
    """Until when the operator decides; then the default outcome holds."""
    decided_by: Annotated[str, one_of(BY)] | None
    """Who ended it: the `operator`, the `owner` by conceding, the `payer` by withdrawing, or `time`."""
    share_basis_points: int | None
    """How much of the claim goes back, in 1/10 000, as far as it is set aside. For example `5000`."""
    resolution: str | None
    """What was said with the decision. For example `Half of the time was unusable.`."""
    refunded: str
    """What the payer got back, in AITBC, with the platform's fee of it. For example `1.2`."""
    transaction: str | None
    """The transaction in the ledger that gave it back. For example `txn_01k0000000000000000000000a`."""
    created_at: datetime
    """When it was begun."""
    closed_at: datetime | None
    """When its money had moved."""
    evidence: tuple[MarketEvidence, ...] = ()
    """What both sides said, from the first on; empty in lists."""


def dispute_view(row: DisputeRow, evidence: Sequence[DisputeEvidenceRow] = ()) -> MarketDispute:
    """A dispute as both sides see it."""
    return MarketDispute(
        id=row.id,
        subject=row.subject,
        account=row.account,
        owner=row.owner,
        miner=row.miner,
        reason=row.reason,
        claim=money.render(row.claim_units),
        held=money.render(row.held_units if row.closed_at is None else 0),
        state=row.state,
        decide_by=row.decide_by,
        decided_by=row.decided_by,
        share_basis_points=row.share_basis_points,
        resolution=row.resolution,
        refunded=money.render(row.refunded_units),
        transaction=row.transaction,
        created_at=row.created_at,
        closed_at=row.closed_at,
        evidence=tuple(
            MarketEvidence(account=one.account, text=one.text, created_at=one.created_at) for one in evidence
        ),
    )
