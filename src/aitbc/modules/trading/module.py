"""The trading module, as the app mounts it."""

from aitbc.kernel.module import Module, PeriodicTask
from aitbc.modules.ai.events import JobClosed, JobSucceeded
from aitbc.modules.trading.api import TradingApi
from aitbc.modules.trading.legacy.coordinator import CoordinatorChain, CoordinatorExplorer
from aitbc.modules.trading.legacy.explorer import OlderExplorer
from aitbc.modules.trading.legacy.protocol import CoordinatorProtocol, ProtocolController
from aitbc.modules.trading.legacy.public import PublicController
from aitbc.modules.trading.models.tables import Base
from aitbc.modules.trading.routes.explorer import ChainController, RecordController
from aitbc.modules.trading.routes.ledger import LedgerController
from aitbc.modules.trading.service import TradingService, TradingSettings

module = Module(
    name="trading",
    api=TradingApi,
    service=TradingService,
    metadata=Base.metadata,
    routes=(LedgerController, RecordController, ChainController),
    handles={JobSucceeded: TradingService.on_jobs_succeeded, JobClosed: TradingService.on_jobs_closed},
    scopes={"live": ("ledger:read", "chain:read", "faucet:use"), "miner": ("chain:read",)},
    settings=TradingSettings,
    legacy=(PublicController, OlderExplorer, ProtocolController),
    legacy_coordinator=(CoordinatorExplorer, CoordinatorChain, CoordinatorProtocol),
    periodic_tasks=(
        PeriodicTask(run=TradingService.seal, every_seconds=1.0),
        PeriodicTask(run=TradingService.expire_holds, every_seconds=5.0),
    ),
)
