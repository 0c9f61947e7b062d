"""Steps of a proposal from state to state: checked against the table of moves, published, audited."""

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.primitives.clock import now
from aitbc.modules.governance.events import ProposalChanged
from aitbc.modules.governance.models.life import MOVES, DepositPolicy, ProposalState, goes_back
from aitbc.modules.governance.models.tables import ProposalRow
from aitbc.modules.governance.service.refusals import ProposalMoved

S = ProposalState
DUE = {S.PENDING: "voting_starts", S.ACTIVE: "voting_ends", S.QUEUED: "executes_at", S.EXECUTION_FAILED: "expires_at"}


def step(uow: UnitOfWork, row: ProposalRow, after: ProposalState) -> None:
    """Bring a locked proposal to another state. Raises `ProposalMoved` where the table of moves does not have it."""
    before = ProposalState(row.state)
    if after not in MOVES[before]:
        raise ProposalMoved(f"This proposal is {before}; it cannot become {after}.")
    row.state = after
    row.due_at = getattr(row, DUE[after]) if after in DUE else None
    if not MOVES[after]:
        row.ended_at = now()
    uow.publish(
        ProposalChanged(
            proposal=row.id,
            proposer=row.proposer,
            title=row.title,
            class_=row.class_,
            before=before,
            state=after,
        )
    )


def deposit_goes_back(row: ProposalRow) -> bool:
    """Whether its proposer gets the deposit of a proposal back that has come to its decision."""
    return goes_back(DepositPolicy(row.deposit_policy), ProposalState(row.state))
