"""What clients asked of agents and no agent here can do: refused with 501 and the reason."""

from litestar import Controller, delete
from litestar.params import FromPath, QueryParams

from aitbc.kernel.legacy.not_done import not_done
from aitbc.kernel.primitives.errors import NotDone

READ, WRITE = "agents:read", "agents:write"
AgentLearning = not_done(
    "No model stands behind the learning of agents here, so nothing would be learned.",
    read=READ,
    write=WRITE,
    gets=("/api/v1/agents/{agent:str}/learning/progress", "/api/v1/agents/{agent:str}/learning/export"),
    posts=("/api/v1/agents/{agent:str}/learning/enable", "/api/v1/agents/{agent:str}/learning/train"),
)
NOTHING_DEPLOYED = "Agents run where their owners run them; nothing is deployed, scaled or installed from here yet."
AgentDeployments = not_done(
    NOTHING_DEPLOYED,
    read=READ,
    write=WRITE,
    gets=(
        *(f"/hermes/deployments/{{deployment:str}}/{what}" for what in ("metrics", "status")),
        *("/hermes/edge/resources", "/hermes/edge/deployments/{deployment:str}/compliance"),
        *("/hermes/routing/deployments/{deployment:str}/status", "/hermes/ecosystem/solutions"),
    ),
    posts=(
        "/api/v1/agents/networks/{network:str}/optimize",
        *("/hermes/deploy", "/hermes/edge/deploy", "/hermes/ecosystem/solutions"),
        *(f"/hermes/deployments/{{deployment:str}}/{what}" for what in ("optimize", "scale")),
        *(
            "/hermes/edge/deployments/{deployment:str}/optimize",
            "/hermes/routing/deployments/{deployment:str}/optimize",
        ),
        "/hermes/ecosystem/solutions/{solution:str}/install",
    ),
)


class AgentTerminations(Controller):
    """The end of what was never deployed."""

    @delete(
        "/hermes/deployments/{deployment:str}", status_code=200, opt={"permission": WRITE, "idempotency": "natural"}
    )
    async def terminate(self, deployment: FromPath[str], query: QueryParams) -> None:
        """Nothing can be deployed yet."""
        raise NotDone(NOTHING_DEPLOYED)


REFUSED = (AgentLearning, AgentDeployments, AgentTerminations)
