"""The service of hermes: the parts that it is composed of, and what it delegates to them.

    Agents ◄── Liveness ──► Endpoints ──► the cards of agents that answer elsewhere
    AgentRouting ─► reads what Agents keeps
    AgentRuns ──► Calls: writes runs ──► Driver: moves them on ──► Ends ──► trading: their prices
                                            └─► a worker for each kind of step:
                                                JobSteps ──► ai, DelegateSteps ──► Calls, ApproveSteps,
                                                CallSteps ──► AgentMessages ──► places outside
    Edges ──► gpu: whose miner it is; what edges report goes into the rows that Rollouts reads
    Deployments ──► EdgeWork ──► Agents; Rollouts: moves versions on; EdgeReceipts: what edges have signed

An arrow points from a part to what it asks.
"""

from aitbc.kernel.crypto.sealing import Sealer
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.platform import Platform
from aitbc.modules.ai.api import AiApi
from aitbc.modules.gpu.api import GpuApi
from aitbc.modules.hermes.api import AgentFacts
from aitbc.modules.hermes.service.agents import Agents
from aitbc.modules.hermes.service.approve_steps import ApproveSteps
from aitbc.modules.hermes.service.call_steps import CallSteps
from aitbc.modules.hermes.service.calls import Calls
from aitbc.modules.hermes.service.delegate_steps import DelegateSteps
from aitbc.modules.hermes.service.deployments import Deployments
from aitbc.modules.hermes.service.driver import Driver
from aitbc.modules.hermes.service.edge_receipts import EdgeReceipts
from aitbc.modules.hermes.service.edge_tokens import EdgeTokens
from aitbc.modules.hermes.service.edge_work import EdgeWork
from aitbc.modules.hermes.service.edges import Edges
from aitbc.modules.hermes.service.endpoints import Endpoints
from aitbc.modules.hermes.service.ends import Ends
from aitbc.modules.hermes.service.job_steps import JobSteps
from aitbc.modules.hermes.service.liveness import Liveness
from aitbc.modules.hermes.service.mcp_servers import McpServers
from aitbc.modules.hermes.service.messages import PURPOSE, AgentMessages
from aitbc.modules.hermes.service.outcomes import Worker
from aitbc.modules.hermes.service.push_configs import PushConfigs
from aitbc.modules.hermes.service.receipts import AgentReceipts
from aitbc.modules.hermes.service.records import Records
from aitbc.modules.hermes.service.rollouts import Rollouts
from aitbc.modules.hermes.service.routing import AgentRouting
from aitbc.modules.hermes.service.runs import AgentRuns
from aitbc.modules.hermes.service.settings import KEPT_DAYS, HermesSettings
from aitbc.modules.hermes.service.tool_steps import ToolSteps
from aitbc.modules.trading.api import TradingApi


class HermesService:
    """The parts, and the face and the periodic tasks that are delegated to them."""

    def __init__(
        self,
        db: Database,
        ai: AiApi,
        gpu: GpuApi,
        trading: TradingApi,
        platform: Platform,
        settings: HermesSettings | None = None,
    ) -> None:
        settings = settings or HermesSettings()
        self.db = db
        self.settings = settings
        self._parameters = platform.parameters
        self.node_key = platform.node_key
        self.draining = platform.draining
        endpoints = Endpoints(platform.egress, settings)
        self.agents = Agents(db, platform.egress, settings)
        self.liveness = Liveness(db, endpoints, settings)
        self.agent_routing = AgentRouting(db, settings)
        self.agent_messages = AgentMessages(db, platform.egress, Sealer(platform.secret, PURPOSE), settings)
        self.push_configs = PushConfigs(db, platform.egress, Sealer(platform.secret, PURPOSE))
        self.calls = calls = Calls(db, settings, platform.secret)
        ends = Ends(db, trading)
        workers: dict[str, Worker] = {
            "job": JobSteps(ai),
            "delegate": DelegateSteps(db, calls, self.agent_routing.choose),
            "approve": ApproveSteps(),
            "tool": ToolSteps(db, McpServers(platform.egress, settings), settings.call_seconds),
            "call": CallSteps(self.agents, calls, self.agent_messages, endpoints),
        }
        self.driver = Driver(db, workers, ends)
        self.agent_runs = AgentRuns(db, calls, self.driver, ends)
        self.records = Records(db)
        self.ai, self.gpu, self.trading = ai, gpu, trading
        self.agent_receipts = AgentReceipts(self.agent_runs, platform.node_key)
        tokens = EdgeTokens(platform.secret)
        self.edges = Edges(db, gpu, tokens, settings)
        self.edge_receipts = EdgeReceipts(db)
        self.deployments = Deployments(db, EdgeWork(self.agents), tokens, settings)
        self.rollouts = Rollouts(db)

    # The face

    async def agent(self, agent: str) -> AgentFacts:
        """One agent, whoever registered it."""
        found = await self.agents.find(agent)
        return AgentFacts(
            id=found.id,
            account=found.account,
            name=found.name,
            skills=tuple(skill.id for skill in found.skills),
            state=found.state,
            is_online=found.is_online,
        )

    # Periodic tasks

    async def drive_runs(self) -> None:
        """Drive on the runs whose time it is."""
        await self.driver.drive_due()

    async def send_messages(self) -> None:
        """Send the messages that are due, in the order of their queues."""
        await self.agent_messages.send_due()

    async def probe_agents(self) -> None:
        """Look at the endpoints of agents whose time it is."""
        await self.liveness.probe_due()

    async def roll_out(self) -> None:
        """Move on the roll-outs of which something is left to do."""
        await self.rollouts.roll_due()

    async def tidy(self) -> None:
        """Remove messages that were sent or given up long ago."""
        await self.agent_messages.tidy(self._parameters.value(KEPT_DAYS, self.settings.kept_days))
