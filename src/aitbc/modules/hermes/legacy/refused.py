"""What clients asked of agents and no agent here can do: refused with 501 and the reason."""

from aitbc.kernel.legacy.not_done import not_done

READ, WRITE = "agents:read", "agents:write"
AgentLearning = not_done(
    "No model stands behind the learning of agents here, so nothing would be learned.",
    read=READ,
    write=WRITE,
    gets=("/api/v1/agents/{agent:str}/learning/progress", "/api/v1/agents/{agent:str}/learning/export"),
    posts=("/api/v1/agents/{agent:str}/learning/enable", "/api/v1/agents/{agent:str}/learning/train"),
)
AgentDeployments = not_done(
    "Agents run where their owners run them; nothing is deployed, scaled or installed from here yet.",
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
REFUSED = (AgentLearning, AgentDeployments)
