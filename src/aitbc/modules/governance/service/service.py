"""The service of governance, made of its parts: it delegates the face and the periodic tasks to them."""

from collections.abc import Sequence

from prometheus_client import Metric

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.platform import Platform
from aitbc.kernel.primitives.errors import ConfigError, Invalid
from aitbc.modules.governance.api import GovernanceProposal
from aitbc.modules.governance.service.checks import Checks
from aitbc.modules.governance.service.clockwork import Clockwork
from aitbc.modules.governance.service.execution import Execution
from aitbc.modules.governance.service.live_parameters import LiveParameters
from aitbc.modules.governance.service.metrics import measure
from aitbc.modules.governance.service.moves import Moves
from aitbc.modules.governance.service.profiles import Profiles
from aitbc.modules.governance.service.proposals import Proposals
from aitbc.modules.governance.service.settings import GovernanceSettings, Rulebook
from aitbc.modules.governance.service.simulator import Simulator
from aitbc.modules.governance.service.stakes import Stakes
from aitbc.modules.governance.service.treasury import Treasury
from aitbc.modules.governance.service.votes import Votes
from aitbc.modules.trading.api import TradingApi


class GovernanceService:
    """Lets those who have stake decide, and does what they decided."""

    def __init__(
        self, db: Database, trading: TradingApi, platform: Platform, settings: GovernanceSettings | None = None
    ) -> None:
        self.db = db
        self.settings = settings or GovernanceSettings()
        self.rules = Rulebook(platform.parameters)
        try:
            self.rules.check_unlocking({"governance.unlock_seconds": None})
        except Invalid as error:  # stake could be gone before what it voted for has happened
            message = f"governance.unlock_seconds: {error.message} Set it higher, or those lower."
            raise ConfigError(message) from None
        self.moves = Moves(db, trading)
        self.governance_stakes = Stakes(db, self.moves, self.rules, platform.identity)
        checks = Checks(db, self.rules, platform)
        self.governance_proposals = Proposals(db, self.moves, self.rules, checks)
        self.governance_votes = Votes(db)
        self.profiles = Profiles(db)
        self.governance_treasury = Treasury(db, self.moves, trading, self.rules)
        self.governance_execution = Execution(db, platform.parameters, checks, self.governance_treasury)
        self.clockwork = Clockwork(db, self.governance_execution)
        self.governance_parameters = LiveParameters(platform.parameters)
        self.governance_simulator = Simulator(self.governance_proposals, trading, platform.parameters)

    # The face

    async def proposal(self, proposal: str) -> GovernanceProposal:
        """One proposal."""
        return await self.governance_proposals.one(proposal)

    # Periodic tasks

    async def advance(self) -> None:
        """Take the steps of proposals that are due."""
        await self.clockwork.advance()

    async def move_money(self) -> None:
        """Move the money that is due."""
        await self.moves.run_due()

    async def fund_treasury(self) -> None:
        """Move the treasury's share of the fees."""
        await self.governance_treasury.fund()

    # For the operator

    async def measure(self) -> Sequence[Metric]:
        """The metrics of governance."""
        return await measure(self.db)
