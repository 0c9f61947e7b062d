"""What clients asked of agents, optimisers and provers, none of which is a kind of work."""

from aitbc.kernel.legacy.not_done import not_done
from aitbc.modules.ai.legacy.shapes import not_offered

READ, WRITE = "jobs:read", "jobs:create"
AGENTS = not_offered("What these agents were said to do")

CoordinatorAgents = not_done(
    AGENTS,
    read=READ,
    write=WRITE,
    gets=(
        "/optimize/agents/{agent:str}/status",
        "/optimize/agents/{agent:str}/recommendations",
    ),
    posts=(
        *(f"/multimodal/agents/{{agent:str}}/{act}" for act in ("optimize", "attention")),
        *(f"/optimize/agents/{{agent:str}}/{act}" for act in ("enable", "objectives", "disable")),
        "/optimize/agents/{agent:str}/apply/{recommendation:str}",
        *(f"/predict/agents/{{agent:str}}/{act}" for act in ("autoscale", "forecast")),
        "/tune/agents/{agent:str}/auto",
    ),
)
CoordinatorMedia = not_done(
    not_offered("Agents for several media, and converting or searching these"),
    read=READ,
    write=WRITE,
    posts=("/multimodal/agents", "/multimodal/convert", "/multimodal/search"),
)
CoordinatorProofs = not_done(
    not_offered("Proving, verifying or computing in secret"),  # a proof that nobody made would be worse than none
    read=READ,
    write=WRITE,
    gets=("/v1/ml-zk/circuits",),
    posts=tuple(
        f"/v1/ml-zk/{act}"
        for act in ("prove/training", "verify/training", "prove/modular", "verify/inference", "fhe/inference")
    ),
)
REFUSED_COORDINATOR = (CoordinatorAgents, CoordinatorMedia, CoordinatorProofs)
