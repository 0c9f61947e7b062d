"""The ai module, as the app mounts it."""

from aitbc.kernel.module import Module, PeriodicTask
from aitbc.modules.ai.api import AiApi
from aitbc.modules.ai.legacy.coordinator import CoordinatorJobController, CoordinatorPayments
from aitbc.modules.ai.legacy.jobs import OlderJobs, OlderOperator
from aitbc.modules.ai.legacy.public import MediaController, PublicController
from aitbc.modules.ai.legacy.services import NotServedController, ReinforcedJobs, ServiceController
from aitbc.modules.ai.models.tables import Base
from aitbc.modules.ai.routes.artifacts import ArtifactController
from aitbc.modules.ai.routes.jobs import JobController
from aitbc.modules.ai.routes.market import KindController, QuoteController
from aitbc.modules.ai.routes.runs import RunController
from aitbc.modules.ai.service import AiService, AiSettings
from aitbc.modules.gpu.events import MinerChanged
from aitbc.modules.trading.api import TradingApi

module = Module(
    name="ai",
    api=AiApi,
    service=AiService,
    metadata=Base.metadata,
    routes=(JobController, RunController, KindController, QuoteController, ArtifactController),
    needs={"trading": TradingApi},
    handles={MinerChanged: AiService.on_miners_changed},
    scopes={
        "live": ("jobs:create", "jobs:read", "artifacts:write", "artifacts:read"),
        "miner": ("artifacts:write", "artifacts:read"),
    },
    settings=AiSettings,
    legacy=(PublicController, OlderJobs, OlderOperator, MediaController),
    legacy_coordinator=(
        CoordinatorJobController,
        CoordinatorPayments,
        ServiceController,
        ReinforcedJobs,
        NotServedController,
    ),
    periodic_tasks=(
        PeriodicTask(run=AiService.sweep, every_seconds=1.0),
        PeriodicTask(run=AiService.return_strays, every_seconds=1.0, leader=False),
        PeriodicTask(run=AiService.reconcile_holds, every_seconds=30.0),
        PeriodicTask(run=AiService.tidy, every_seconds=60.0),
    ),
)
