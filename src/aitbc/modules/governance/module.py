"""The governance module, as the app mounts it."""

from aitbc.kernel.module import Module, PeriodicTask
from aitbc.modules.governance.api import GovernanceApi
from aitbc.modules.governance.legacy.coordinator import CoordinatorProposals
from aitbc.modules.governance.legacy.coordinator_governance import CoordinatorGovernance
from aitbc.modules.governance.legacy.refused import COUNCILS, ENHANCED, POOLS
from aitbc.modules.governance.legacy.service_paths import (
    LegacyGovernance,
    LegacyGovernanceHealth,
    LegacyGovernanceTransactions,
)
from aitbc.modules.governance.models.tables import Base
from aitbc.modules.governance.routes.proposals import ProposalController, VoterKeyController
from aitbc.modules.governance.routes.stake import StakeController
from aitbc.modules.governance.routes.treasury import ParameterController, TreasuryController
from aitbc.modules.governance.service import GovernanceService, GovernanceSettings
from aitbc.modules.governance.service.execution import Execution
from aitbc.modules.governance.service.live_parameters import LiveParameters
from aitbc.modules.governance.service.proposals import Proposals
from aitbc.modules.governance.service.settings import GOVERNANCE_PARAMETERS
from aitbc.modules.governance.service.simulator import Simulator
from aitbc.modules.governance.service.stakes import Stakes
from aitbc.modules.governance.service.treasury import Treasury
from aitbc.modules.governance.service.votes import Votes
from aitbc.modules.trading.api import TradingApi

module = Module(
    name="governance",
    api=GovernanceApi,
    service=GovernanceService,
    metadata=Base.metadata,
    routes=(StakeController, ProposalController, VoterKeyController, TreasuryController, ParameterController),
    needs={"trading": TradingApi},
    parts={
        "governance_stakes": Stakes,
        "governance_proposals": Proposals,
        "governance_votes": Votes,
        "governance_execution": Execution,
        "governance_treasury": Treasury,
        "governance_parameters": LiveParameters,
        "governance_simulator": Simulator,
    },
    scopes={"live": ("governance:read", "governance:write")},
    settings=GovernanceSettings,
    parameters=GOVERNANCE_PARAMETERS,
    legacy=(LegacyGovernanceHealth, LegacyGovernance, LegacyGovernanceTransactions),
    legacy_coordinator=(CoordinatorProposals, CoordinatorGovernance, COUNCILS, ENHANCED, POOLS),
    periodic_tasks=(
        PeriodicTask(run=GovernanceService.advance, every_seconds=1.0),
        PeriodicTask(run=GovernanceService.move_money, every_seconds=2.0),
        PeriodicTask(run=GovernanceService.fund_treasury, every_seconds=60.0),
    ),
)
