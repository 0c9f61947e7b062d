"""The life of a proposal: its states, what moves it on, and how votes decide it. Pure; integers only.

| from | to | when |
| --- | --- | --- |
| draft | pending | its deposit is in the ledger |
| pending | active | voting starts and its supporters have the power that a proposal needs: the snapshot is taken |
| pending | expired | voting starts and they do not |
| pending, active | cancelled | its proposer takes it back |
| active | succeeded | voting is over, quorum and threshold are met |
| active | defeated | voting is over, and they are not |
| succeeded | queued | at once, where there is something to execute: the timelock begins |
| queued, execution_failed | executed | the timelock is over and every action took effect |
| queued | execution_failed | the timelock is over and an action was refused; it may be tried again until it expires |
| queued, execution_failed | expired | the time for its execution is over |
| pending, active, succeeded, queued, execution_failed | vetoed | a guardian stops it, before its execution began |

A draft whose deposit the ledger refuses is removed. The states without a way out are final, and so is `succeeded` of a
proposal without actions.
"""

from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct


class ProposalState(StrEnum):
    """Where a proposal is."""

    DRAFT = "draft"
    PENDING = "pending"
    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    DEFEATED = "defeated"
    QUEUED = "queued"
    EXECUTED = "executed"
    EXECUTION_FAILED = "execution_failed"
    CANCELLED = "cancelled"
    VETOED = "vetoed"
    EXPIRED = "expired"


S = ProposalState
MOVES: dict[ProposalState, frozenset[ProposalState]] = {
    S.DRAFT: frozenset({S.PENDING}),
    S.PENDING: frozenset({S.ACTIVE, S.EXPIRED, S.CANCELLED, S.VETOED}),
    S.ACTIVE: frozenset({S.SUCCEEDED, S.DEFEATED, S.CANCELLED, S.VETOED}),
    S.SUCCEEDED: frozenset({S.QUEUED, S.VETOED}),
    S.QUEUED: frozenset({S.EXECUTED, S.EXECUTION_FAILED, S.EXPIRED, S.VETOED}),
    S.EXECUTION_FAILED: frozenset({S.EXECUTED, S.EXECUTION_FAILED, S.EXPIRED, S.VETOED}),
    S.DEFEATED: frozenset(),
    S.EXECUTED: frozenset(),
    S.CANCELLED: frozenset(),
    S.VETOED: frozenset(),
    S.EXPIRED: frozenset(),
}
WAITING = (S.PENDING, S.ACTIVE, S.SUCCEEDED, S.QUEUED, S.EXECUTION_FAILED)
"""The states that time moves on."""
ALL = 10_000
"""Every basis point."""


class DepositPolicy(StrEnum):
    """When a deposit goes back to its proposer, and not to the treasury; after a veto it never does."""

    ALWAYS = "always"
    PASSED = "passed"
    NEVER = "never"


POLICIES = tuple(DepositPolicy)
"""In the order of the numbers by which the parameter `governance.deposit_policy` names them."""


class Rules(Struct, frozen=True, kw_only=True):
    """What decides a proposal, frozen in it when it is made."""

    quorum_units: int
    """The least power that must vote, abstentions counted."""
    quorum_basis_points: int
    """The least share of all power that must vote; both hold."""
    threshold_basis_points: int
    """The least share of `for` in `for` and `against`."""


def quorum_of(rules: Rules, total_units: int) -> int:
    """The power that must vote, given all there is; a share is rounded up."""
    return max(rules.quorum_units, -(-total_units * rules.quorum_basis_points // ALL))


def passes(rules: Rules, for_units: int, against_units: int) -> bool:
    """Whether `for` reaches the threshold and outweighs `against`: a tie never passes."""
    return for_units > against_units and for_units * ALL >= rules.threshold_basis_points * (for_units + against_units)


def extended_end(ends: datetime, at: datetime, window: timedelta) -> datetime:
    """When voting ends after a vote that reached the quorum at a time: others have the window to answer."""
    return max(ends, at + window)


def goes_back(policy: DepositPolicy, state: ProposalState) -> bool:
    """Whether the deposit of a proposal that came to this end returns to its proposer."""
    if state is S.VETOED or policy is DepositPolicy.NEVER:
        return False
    return policy is DepositPolicy.ALWAYS or state is S.SUCCEEDED
