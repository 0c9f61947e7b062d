"""What commands of governance refuse."""

from aitbc.kernel.primitives.errors import Conflict, Forbidden, NotFound, TooMany


class StakeTooSmall(Conflict):
    """This account has less locked than that."""

    code = "stake_too_small"


class StakeRefused(Conflict):
    """The ledger did not give this money: nothing was locked; ask again under another Idempotency-Key."""

    code = "stake_refused"


class DelegationCycle(Conflict):
    """Power cannot be delegated in a circle."""

    code = "delegation_cycle"


class DelegateeNotFound(NotFound):
    """There is no such account to delegate to."""

    code = "delegatee_not_found"


class ProposalExists(Conflict):
    """A proposal with exactly this content was made before; say what is different about it."""

    code = "proposal_exists"


class NoStake(Conflict):
    """Only who has locked stake takes part in this."""

    code = "no_stake"


class ProposalMoved(Conflict):
    """The state of this proposal does not allow that."""

    code = "proposal_moved"


class NotTheProposer(Forbidden):
    """Only its proposer takes a proposal back."""

    code = "not_the_proposer"


class VotingClosed(Conflict):
    """Voting on this proposal has not started, or is over."""

    code = "voting_closed"


class AlreadyVoted(Conflict):
    """This account has voted on this proposal; a vote is for good."""

    code = "already_voted"


class NoPower(Conflict):
    """This account had no power when voting on this proposal started."""

    code = "no_power"


class VoterKeyNotFound(NotFound):
    """No account votes with this key."""

    code = "voter_key_not_found"


class VoterKeyTaken(Conflict):
    """This key is known already."""

    code = "voter_key_taken"


class VoteNotSigned(Forbidden):
    """The signature of this vote does not match."""

    code = "vote_not_signed"


class VoteReplayed(Conflict):
    """A vote with this number or a later one was signed by this key before."""

    code = "vote_replayed"


class TimelockNotOver(Conflict):
    """The timelock of this proposal is not over."""

    code = "timelock_not_over"


class BudgetLineExceeded(Conflict):
    """The budget line does not cover this."""

    code = "budget_line_exceeded"


class TreasuryTooSmall(Conflict):
    """The treasury has promised more than that would leave."""

    code = "treasury_too_small"


class BudgetLineNotFound(NotFound):
    """There is no such budget line; a proposal of the class funding opens one."""

    code = "budget_line_not_found"


class ParameterNotFound(NotFound):
    """There is no live parameter of this name."""

    code = "parameter_not_found"


class PayeeNotFound(NotFound):
    """There is no such account to pay."""

    code = "payee_not_found"


class MilestoneNotFound(NotFound):
    """There is no such milestone that waits."""

    code = "milestone_not_found"


class TooManySponsors(TooMany):
    """This proposal has as many co-sponsors as it may have."""

    code = "too_many_sponsors"
