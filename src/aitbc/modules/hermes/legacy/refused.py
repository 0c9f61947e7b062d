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
NOT_OPTIMIZED = "Neither cost, latency nor availability of edges is measured for callers, so nothing is improved by it."
DeploymentOptimizations = not_done(
    NOT_OPTIMIZED,
    read=READ,
    write=WRITE,
    posts=("/hermes/deployments/{deployment:str}/optimize", "/hermes/edge/deployments/{deployment:str}/optimize"),
)
DeploymentCompliance = not_done(
    "Nobody audits edges by a standard here, so none can be said to be kept.",
    read=READ,
    gets=("/hermes/edge/deployments/{deployment:str}/compliance",),
)
Solutions = not_done(
    "What others extend this platform with are plugins, which are signed: `aitbc plugin` publishes, lists and installs.",
    read=READ,
    write=WRITE,
    gets=("/hermes/ecosystem/solutions",),
    posts=("/hermes/ecosystem/solutions", "/hermes/ecosystem/solutions/{solution:str}/install"),
)
REFUSED = (AgentLearning, DeploymentOptimizations, DeploymentCompliance, Solutions)
