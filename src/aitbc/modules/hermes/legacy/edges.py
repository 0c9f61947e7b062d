"""Deployments as the older orchestration service and the older command line spoke of them."""

from typing import Annotated, Any

from litestar import Controller, delete, get, post
from litestar.params import FromPath, JSONBody, QueryParams
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.legacy.errors import invalid
from aitbc.kernel.legacy.paging import Word
from aitbc.kernel.primitives.errors import NotDone
from aitbc.kernel.primitives.text import Name
from aitbc.modules.hermes.legacy.caller import READ, WRITE, Hermes
from aitbc.modules.hermes.models.edge_shapes import Coordination, Deployment, EdgeNeeds, RolloutPlan
from aitbc.modules.hermes.service import HermesService
from aitbc.modules.hermes.service.edge_commands import Deploy, ServeAgent

WRITE_ONCE = {"permission": "agents:write"}
LOCATIONS_MAX = 100
PERFORMED = {"rolling": "deploying", "live": "deployed", "rolled_back": "deployed", "ended": "terminated"}
"""By state: what the older services call it."""
NOT_SCALED = "Nothing scales by itself here: leave auto_scale out, and say how many with …/scale."
NOT_MEASURED = (
    "Neither skills, costs nor latencies between callers and edges are measured, so callers are not spread by them: "
    "load-balanced can be had."
)
Locations = Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(max_length=LOCATIONS_MAX)]
Count = Annotated[int, Meta(ge=1, le=1000)]


class EdgeDeployBody(Struct, frozen=True, kw_only=True):
    """Which agent is to be deployed where, as the older service has it."""

    agent_id: Name
    edge_locations: Locations = []
    deployment_config: dict[str, Any] = {}


class EdgeCoordinateBody(Struct, frozen=True, kw_only=True):
    """How callers of a deployment are spread; `coordination_config` may hold `load_balancing` or `failover`."""

    edge_deployment_id: Name
    coordination_config: dict[str, Any] = {}


class DeployBody(Struct, frozen=True, kw_only=True):
    """Which agent is to be deployed where, as the older command line has it."""

    agent_id: Name
    region: Name | None = None
    instances: Count = 1
    auto_scale: bool = False
    edge_locations: Locations = []
    locations: list[str] | str = []
    replicas: Count | None = None


class ScaleBody(Struct, frozen=True, kw_only=True):
    """How many edges of each location are to serve."""

    instances: Count


class RoutingBody(Struct, frozen=True, kw_only=True):
    """How callers are to be spread."""

    algorithm: Name = "load-balanced"


async def deploy(
    hermes: HermesService, who: Principal, once: IdempotencyKey, agent: str, locations: list[str], replicas: int
) -> Deployment:
    """Deploy an agent of the caller's; each location is answered for. Raises `Invalid` where none is named."""
    named = [location.strip().lower() for location in locations if location.strip()]
    if not named:
        raise invalid("/edge_locations", "Expected at least one location")
    row = await hermes.agents.named(who, agent)
    wanted = Deploy(
        name=row.name,
        content=ServeAgent(agent=row.id),
        needs=EdgeNeeds(),
        locations=tuple(named),
        replicas=replicas,
        plan=RolloutPlan(),
    )
    return await hermes.deployments.create(who, wanted, once)


async def edge_deploy(
    hermes: HermesService, who: Principal, once: IdempotencyKey, data: EdgeDeployBody
) -> dict[str, Any]:
    """The answer of the older service to a deployment."""
    found = await deploy(hermes, who, once, data.agent_id, data.edge_locations, 1)
    return {
        "deployment_id": found.id,
        "agent_id": data.agent_id,
        "edge_locations": [one.location for one in found.locations],
        "deployment_results": await _results(hermes, who, found),
        "status": _status(found),
    }


async def edge_coordinate(hermes: HermesService, who: Principal, data: EdgeCoordinateBody) -> dict[str, Any]:
    """Keep how callers of a deployment are spread, and what is so. 404 for a deployment that there is not."""
    said = data.coordination_config
    wish = said.get("load_balancing") or said.get("balancing_algorithm") or said.get("failover")
    if wish not in (None, "round_robin", "active_passive"):
        raise invalid("/coordination_config", "Expected round_robin or active_passive")
    if wish is None:
        found = await hermes.deployments.find(who, data.edge_deployment_id)
    else:
        found = await hermes.deployments.coordinate(who, data.edge_deployment_id, Coordination(balancing=wish))
    edges = {edge.miner: edge for edge in await hermes.edges.page(who)}
    heard = [edges[one.miner].reported_at for place in found.locations for one in place.edges if one.miner in edges]
    known = [at for at in heard if at is not None]
    behind = [one for place in found.locations for one in place.edges if one.serves != found.target]
    healthy = [place.location for place in found.locations if any(one.presence == "healthy" for one in place.edges)]
    return {
        "coordination_id": found.id,
        "edge_deployment_id": found.id,
        "synchronization": {
            "sync_status": "behind" if behind else "synchronized",
            "last_sync": max(known).isoformat() if known else None,
            "data_consistency": "eventual",
        },
        "load_balancing": {
            "balancing_algorithm": found.coordination.balancing,
            "active_connections": None,
            "average_response_time": None,
        },
        "failover": {
            "failover_strategy": "active_passive",
            "health_check_interval": 30,
            "backup_locations": healthy[1:],
        },
        "status": "coordinated",
    }


async def _results(hermes: HermesService, who: Principal, found: Deployment) -> list[dict[str, Any]]:
    addresses = {edge.miner: edge.address for edge in await hermes.edges.page(who)}
    return [
        {
            "location": place.location,
            "deployment_status": place.status,
            "endpoint": next((addresses.get(one.miner) for one in place.edges if addresses.get(one.miner)), None),
            "response_time_ms": None,
        }
        for place in found.locations
    ]


def _status(found: Deployment) -> str:
    if found.state == "rolling" and all(place.status == "no_edge" for place in found.locations):
        return "waiting_for_edges"
    return PERFORMED.get(found.state, "failed")


class LegacyDeployments(Controller):
    """Deployments for the older command line."""

    path = "/hermes"

    @post(["/deploy", "/edge/deploy"], status_code=202, opt=WRITE_ONCE)
    async def deploy(self, hermes: Hermes, who: Who, once: Once, data: JSONBody[DeployBody]) -> dict[str, Any]:
        """Deploy an agent of the caller's to edges; it goes on by itself."""
        if data.auto_scale:
            raise NotDone(NOT_SCALED)
        listed = data.locations.split(",") if isinstance(data.locations, str) else data.locations
        locations = [*([data.region] if data.region else []), *data.edge_locations, *listed]
        found = await deploy(hermes, who, once, data.agent_id, locations, data.replicas or data.instances)
        return await _shown(hermes, who, found)

    @get(
        [
            "/deployments/{deployment:str}/status",
            "/deployments/{deployment:str}/metrics",
            "/routing/deployments/{deployment:str}/status",
        ],
        opt=READ,
    )
    async def status(self, hermes: Hermes, who: Who, deployment: FromPath[str], query: QueryParams) -> dict[str, Any]:
        """What is so at each location, and what edges have receipts for; a metric that nobody measures is not there."""
        return await _shown(hermes, who, await hermes.deployments.find(who, deployment))

    @post("/deployments/{deployment:str}/scale", status_code=200, opt=WRITE)
    async def scale(
        self, hermes: Hermes, who: Who, deployment: FromPath[str], data: JSONBody[ScaleBody]
    ) -> dict[str, Any]:
        """Say how many edges of each location serve it."""
        return await _shown(hermes, who, await hermes.deployments.scale(who, deployment, data.instances))

    @delete("/deployments/{deployment:str}", status_code=200, opt=WRITE)
    async def terminate(
        self, hermes: Hermes, who: Who, deployment: FromPath[str], query: QueryParams
    ) -> dict[str, Any]:
        """End a deployment."""
        return await _shown(hermes, who, await hermes.deployments.end(who, deployment))

    @post("/routing/deployments/{deployment:str}/optimize", status_code=200, opt=WRITE)
    async def spread(
        self, hermes: Hermes, who: Who, deployment: FromPath[str], data: JSONBody[RoutingBody]
    ) -> dict[str, Any]:
        """Spread callers evenly over the edges that are healthy; by what nobody measures: 501."""
        await hermes.deployments.find(who, deployment)
        if data.algorithm != "load-balanced":
            raise NotDone(NOT_MEASURED)
        even = Coordination(balancing="round_robin")
        return await _shown(hermes, who, await hermes.deployments.coordinate(who, deployment, even))

    @get("/edge/resources", opt=READ)
    async def resources(self, hermes: Hermes, who: Who, location: Word = None) -> dict[str, Any]:
        """The caller's edges."""
        found = [edge for edge in await hermes.edges.page(who) if location in (None, edge.location)]
        return {
            "count": len(found),
            "resources": [
                {"id": one.miner, "location": one.location, "status": one.presence, "endpoint": one.address}
                for one in found
            ],
        }


async def _shown(hermes: HermesService, who: Principal, found: Deployment) -> dict[str, Any]:
    edges = [one for place in found.locations for one in place.edges]
    return {
        "id": found.id,
        "deployment_id": found.id,
        "name": found.name,
        "status": _status(found),
        "version": found.target,
        "instances": sum(one.serves > 0 for one in edges),
        "locations": await _results(hermes, who, found),
        "routing": found.coordination.balancing,
        "metrics": {"served": found.served, "failed": found.broken, "served_cut_off": found.served_cut_off},
        "problem": found.problem or None,
    }
