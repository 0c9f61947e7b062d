"""The HTTP of deployments: declared, rolled out, spread over edges, and ended."""

from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page, decode_cursor
from aitbc.kernel.primitives.text import Name
from aitbc.modules.hermes.api import AgentNotFound
from aitbc.modules.hermes.models.edge_shapes import (
    Coordination,
    Deployment,
    EdgeNeeds,
    EdgeReceipt,
    Location,
    RolloutPlan,
)
from aitbc.modules.hermes.models.plans import AgentPlanInvalid
from aitbc.modules.hermes.service.commands import AgentSkillNotFound
from aitbc.modules.hermes.service.deployments import Deployments
from aitbc.modules.hermes.service.edge_commands import (
    Deploy,
    DeploymentEnded,
    DeploymentNotFound,
    DeploymentRolling,
    DeploymentToken,
    EdgeChosen,
    EdgeWorkInvalid,
    NoEdgeServes,
    ServeAgent,
    ServeModel,
    TooManyDeployments,
)
from aitbc.modules.hermes.service.edge_receipts import EdgeReceipts

Who = NamedDependency[Principal]
Once = NamedDependency[IdempotencyKey]
READ = {"permission": "agents:read"}
WRITE = {"permission": "agents:write", "idempotency": "required"}
AGAIN = {"permission": "agents:write", "idempotency": "natural"}
CONTENT = (EdgeWorkInvalid, AgentPlanInvalid, AgentNotFound, AgentSkillNotFound)
Replicas = Annotated[int, Meta(ge=1, le=1000)]


class WhatToServe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version: a model, or an agent; one of both."""

    model: Annotated[ServeModel | None, Meta(extra_json_schema={"examples": [{"kind": "chat"}]})] = None
    """A model that edges have."""
    agent: ServeAgent | None = None
    """An agent of yours, whose steps are jobs that edges can do."""
    needs: EdgeNeeds = EdgeNeeds()
    """What an edge must have; those that show less are left out."""

    def content(self) -> ServeModel | ServeAgent:
        """The one that is named. Raises `EdgeWorkInvalid`."""
        if self.model is not None and self.agent is None:
            return self.model
        if self.agent is not None and self.model is None:
            return self.agent
        raise EdgeWorkInvalid("Name a model or an agent, one of both.")


class CreateDeployment(WhatToServe, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that edges are to serve."""

    name: Name
    """What it is called. For example `assistant`."""
    locations: Annotated[tuple[Location, ...], Meta(min_length=1, max_length=100)]
    """Where; those without an edge are answered as such. For example `["eu-central", "us-west"]`."""
    replicas: Replicas = 1
    """How many edges of each location serve it at most. For example `1`."""
    plan: RolloutPlan = RolloutPlan()
    """How versions are rolled out."""
    coordination: Coordination = Coordination()
    """How callers are spread."""


class ScaleDeployment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many edges are to serve."""

    replicas: Replicas
    """How many edges of each location serve it at most. For example `2`."""


class DeploymentController(Controller):
    """Deployments to edges."""

    path = "/deployments"
    tags = ("edges",)

    @post(
        "/",
        operation_id="create_deployment",
        summary="Deploy to edges",
        opt=WRITE | {"errors": (*CONTENT, TooManyDeployments)},
    )
    async def create(
        self, deployments: NamedDependency[Deployments], who: Who, once: Once, data: JSONBody[CreateDeployment]
    ) -> Deployment:
        """Have edges of the caller's serve a model or an agent. Each location has its own status."""
        wanted = Deploy(
            name=data.name,
            content=data.content(),
            needs=data.needs,
            locations=data.locations,
            replicas=data.replicas,
            plan=data.plan,
            coordination=data.coordination,
        )
        return await deployments.create(who, wanted, once)

    @get("/", operation_id="list_deployments", summary="List deployments", opt=READ | {"errors": (InvalidCursor,)})
    async def page(
        self,
        deployments: NamedDependency[Deployments],
        who: Who,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[Deployment]:
        """List the caller's deployments, from the newest on."""
        after = after_id("deployments", cursor, "dep")
        found = await deployments.page(who, after=after, limit=limit + 1)
        return Page.of("deployments", found, limit, lambda one: one.id)

    @get(
        "/{deployment:str}",
        operation_id="get_deployment",
        summary="Get a deployment",
        opt=READ | {"errors": (DeploymentNotFound,)},
    )
    async def one(self, deployments: NamedDependency[Deployments], who: Who, deployment: FromPath[str]) -> Deployment:
        """Read a deployment of the caller's, with what is so at each location."""
        return await deployments.find(who, deployment)

    @post(
        "/{deployment:str}/versions",
        operation_id="change_deployment",
        summary="Roll out a version",
        opt=WRITE | {"errors": (DeploymentNotFound, DeploymentEnded, DeploymentRolling, *CONTENT)},
    )
    async def change(
        self,
        deployments: NamedDependency[Deployments],
        who: Who,
        once: Once,
        deployment: FromPath[str],
        data: JSONBody[WhatToServe],
    ) -> Deployment:
        """Roll out another version: a canary first. A version that fails is rolled back by itself."""
        return await deployments.change(who, deployment, data.content(), data.needs, once)

    @post(
        "/{deployment:str}/rollback",
        status_code=200,
        operation_id="roll_back_deployment",
        summary="Give up a version",
        opt=AGAIN | {"errors": (DeploymentNotFound, DeploymentEnded)},
    )
    async def roll_back(
        self, deployments: NamedDependency[Deployments], who: Who, deployment: FromPath[str]
    ) -> Deployment:
        """Give up the version that is on its way; its edges go back to the last good one."""
        return await deployments.roll_back(who, deployment)

    @post(
        "/{deployment:str}/scale",
        status_code=200,
        operation_id="scale_deployment",
        summary="Say how many edges serve",
        opt=AGAIN | {"errors": (DeploymentNotFound, DeploymentEnded)},
    )
    async def scale(
        self,
        deployments: NamedDependency[Deployments],
        who: Who,
        deployment: FromPath[str],
        data: JSONBody[ScaleDeployment],
    ) -> Deployment:
        """Say how many edges of each location are to serve it; edges that came since are considered too."""
        return await deployments.scale(who, deployment, data.replicas)

    @post(
        "/{deployment:str}/coordination",
        status_code=200,
        operation_id="coordinate_deployment",
        summary="Say how callers are spread",
        opt=AGAIN | {"errors": (DeploymentNotFound, DeploymentEnded)},
    )
    async def coordinate(
        self,
        deployments: NamedDependency[Deployments],
        who: Who,
        deployment: FromPath[str],
        data: JSONBody[Coordination],
    ) -> Deployment:
        """Say how callers are spread over its edges."""
        return await deployments.coordinate(who, deployment, data)

    @post(
        "/{deployment:str}/choose",
        status_code=200,
        operation_id="choose_edge",
        summary="Choose an edge",
        opt=AGAIN | {"errors": (DeploymentNotFound, NoEdgeServes)},
    )
    async def choose(
        self, deployments: NamedDependency[Deployments], who: Who, deployment: FromPath[str]
    ) -> EdgeChosen:
        """Choose the edge for the next caller, as the coordination says: only one that serves and is healthy."""
        return await deployments.choose(who, deployment)

    @get(
        "/{deployment:str}/token",
        operation_id="get_deployment_token",
        summary="Get what callers show",
        opt={"permission": "agents:write", "errors": (DeploymentNotFound,)},
    )
    async def token(
        self, deployments: NamedDependency[Deployments], who: Who, deployment: FromPath[str]
    ) -> DeploymentToken:
        """Read the secret that callers show at its edges."""
        return await deployments.token(who, deployment)

    @get(
        "/{deployment:str}/receipts",
        operation_id="list_edge_receipts",
        summary="List receipts of edges",
        opt=READ | {"errors": (DeploymentNotFound, InvalidCursor)},
    )
    async def receipts(
        self,
        edge_receipts: NamedDependency[EdgeReceipts],
        who: Who,
        deployment: FromPath[str],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[EdgeReceipt]:
        """List what its edges have signed, by edge and number."""
        bound = (deployment,)
        after = None if cursor is None else decode_cursor("edge_receipts", cursor, str, str, int, bound_to=bound)
        if after is not None and not ids.is_id("mnr", after[0]):
            raise InvalidCursor
        found = await edge_receipts.page(
            who, deployment, after=None if after is None else (after[0], after[1], after[2]), limit=limit + 1
        )
        return Page.of("edge_receipts", found, limit, lambda one: (one.edge, one.journal, one.sequence), bound_to=bound)

    @post(
        "/{deployment:str}/end",
        status_code=200,
        operation_id="end_deployment",
        summary="End a deployment",
        opt=AGAIN | {"errors": (DeploymentNotFound,)},
    )
    async def end(self, deployments: NamedDependency[Deployments], who: Who, deployment: FromPath[str]) -> Deployment:
        """End a deployment; its edges stop serving it when they hear of it."""
        return await deployments.end(who, deployment)
