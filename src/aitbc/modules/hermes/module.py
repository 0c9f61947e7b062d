"""The hermes module, as the app mounts it."""

from aitbc.kernel.module import Module, PeriodicTask
from aitbc.modules.ai.api import AiApi
from aitbc.modules.gpu.api import GpuApi
from aitbc.modules.hermes.api import HermesApi
from aitbc.modules.hermes.legacy.agents import CoordinatorAgents, LegacyAgents
from aitbc.modules.hermes.legacy.edges import LegacyDeployments
from aitbc.modules.hermes.legacy.health import LegacyHealth
from aitbc.modules.hermes.legacy.orchestration import EnhancedOrchestration, Orchestration
from aitbc.modules.hermes.legacy.refused import REFUSED
from aitbc.modules.hermes.legacy.swarms import Swarms
from aitbc.modules.hermes.legacy.tasks import LegacyTasks
from aitbc.modules.hermes.legacy.workflows import Networks, Workflows
from aitbc.modules.hermes.models.tables import Base
from aitbc.modules.hermes.protocols.a2a import AgentCards, AgentHttp, AgentPushHttp, AgentRpc
from aitbc.modules.hermes.protocols.errors import DIALECT
from aitbc.modules.hermes.routes.agents import AgentController, AgentRouteController
from aitbc.modules.hermes.routes.deployments import DeploymentController
from aitbc.modules.hermes.routes.edges import EdgeController, EdgeWorkController
from aitbc.modules.hermes.routes.messages import AgentMessageController
from aitbc.modules.hermes.routes.runs import AgentReceiptController, AgentRunController
from aitbc.modules.hermes.service import HermesService, HermesSettings
from aitbc.modules.hermes.service.agents import Agents
from aitbc.modules.hermes.service.deployments import Deployments
from aitbc.modules.hermes.service.edge_receipts import EdgeReceipts
from aitbc.modules.hermes.service.edges import Edges
from aitbc.modules.hermes.service.messages import AgentMessages
from aitbc.modules.hermes.service.receipts import AgentReceipts
from aitbc.modules.hermes.service.routing import AgentRouting
from aitbc.modules.hermes.service.runs import AgentRuns
from aitbc.modules.hermes.service.settings import HERMES_PARAMETERS
from aitbc.modules.trading.api import TradingApi

module = Module(
    name="hermes",
    api=HermesApi,
    service=HermesService,
    metadata=Base.metadata,
    routes=(
        AgentController,
        AgentRouteController,
        AgentRunController,
        AgentReceiptController,
        AgentMessageController,
        EdgeController,
        EdgeWorkController,
        DeploymentController,
    ),
    needs={"ai": AiApi, "gpu": GpuApi, "trading": TradingApi},
    parts={
        "agents": Agents,
        "agent_routing": AgentRouting,
        "agent_runs": AgentRuns,
        "agent_receipts": AgentReceipts,
        "agent_messages": AgentMessages,
        "edges": Edges,
        "edge_receipts": EdgeReceipts,
        "deployments": Deployments,
    },
    scopes={"live": ("agents:read", "agents:write", "agents:call")},
    settings=HermesSettings,
    parameters=HERMES_PARAMETERS,
    protocol=(AgentCards, AgentRpc, AgentHttp, AgentPushHttp),
    dialect=DIALECT,
    legacy=(LegacyHealth, Orchestration, LegacyAgents, LegacyTasks),
    legacy_coordinator=(
        EnhancedOrchestration,
        CoordinatorAgents,
        Workflows,
        Networks,
        Swarms,
        LegacyDeployments,
        *REFUSED,
    ),
    periodic_tasks=(
        PeriodicTask(run=HermesService.drive_runs, every_seconds=1.0),
        PeriodicTask(run=HermesService.send_messages, every_seconds=1.0),
        PeriodicTask(run=HermesService.probe_agents, every_seconds=5.0),
        PeriodicTask(run=HermesService.roll_out, every_seconds=1.0),
        PeriodicTask(run=HermesService.tidy, every_seconds=60.0),
    ),
)
