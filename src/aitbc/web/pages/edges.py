"""Edges: miners that serve near those who ask, and what is deployed to them, with what is so at each location."""

from typing import Annotated

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from msgspec import Meta

from aitbc.kernel.primitives.errors import AppError
from aitbc.web.visit import READ, SEND, Visit, part, see

HERMES = "/api/v1/hermes"
PAGE = 25
Cursor = Annotated[str, Meta(max_length=500)]


class EdgePages(Controller):
    """One's edges and deployments."""

    path = "/agents/edges"
    include_in_schema = False

    @get("/", opt=READ)
    async def edges(self, visit: NamedDependency[Visit], cursor: FromQuery[Cursor | None] = None) -> Response[bytes]:
        """The edges of an account, and what is deployed to them."""
        found = await visit.get(f"{HERMES}/edges", limit=PAGE, cursor=cursor)
        deployments = await visit.get(f"{HERMES}/deployments", limit=PAGE)
        commands = ["aitbc edge list", "aitbc edge deployments"]
        return visit.page("hermes/edges.html", edges=found, deployments=deployments, cli=commands)


class DeploymentPages(Controller):
    """Deployments to edges."""

    path = "/agents/deployments"
    include_in_schema = False

    @get("/", opt=READ)
    async def deployments(
        self, visit: NamedDependency[Visit], cursor: FromQuery[Cursor | None] = None
    ) -> Response[bytes]:
        """All deployments of an account, newest first."""
        found = await visit.get(f"{HERMES}/deployments", limit=PAGE, cursor=cursor)
        return visit.page("hermes/deployments.html", deployments=found, cli=["aitbc edge deployments"])

    @get("/{deployment:str}", opt=READ)
    async def deployment(self, visit: NamedDependency[Visit], deployment: FromPath[str]) -> Response[bytes]:
        """One deployment: each location with its edges, and what they have served."""
        return await _page(visit, part(deployment))

    @post("/{deployment:str}/rollback", opt=SEND)
    async def roll_back(self, visit: NamedDependency[Visit], deployment: FromPath[str]) -> Response[bytes]:
        """Give up the version that is on its way."""
        await visit.form()
        return await _sent(visit, part(deployment), "rollback")

    @post("/{deployment:str}/scale", opt=SEND)
    async def scale(self, visit: NamedDependency[Visit], deployment: FromPath[str]) -> Response[bytes]:
        """Say how many edges of each location serve it."""
        form = await visit.form()
        try:
            replicas = form.whole("replicas")
        except AppError as refusal:
            return await _page(visit, part(deployment), error=refusal)
        return await _sent(visit, part(deployment), "scale", {"replicas": replicas})

    @post("/{deployment:str}/end", opt=SEND)
    async def end(self, visit: NamedDependency[Visit], deployment: FromPath[str]) -> Response[bytes]:
        """End a deployment."""
        await visit.form()
        return await _sent(visit, part(deployment), "end")


async def _sent(visit: Visit, deployment: str, action: str, body: dict[str, int] | None = None) -> Response[bytes]:
    try:
        await visit.send(f"{HERMES}/deployments/{deployment}/{action}", body)
    except AppError as refusal:
        return await _page(visit, deployment, error=refusal)
    return see(f"/agents/deployments/{deployment}")


async def _page(visit: Visit, deployment: str, *, error: AppError | None = None) -> Response[bytes]:
    found = await visit.get(f"{HERMES}/deployments/{deployment}")
    receipts = await visit.get(f"{HERMES}/deployments/{deployment}/receipts", limit=10)
    return visit.page(
        "hermes/deployment.html",
        deployment=found,
        receipts=receipts,
        error=error,
        status=error.status if error else 200,
        cli=[f"aitbc edge show {deployment}", f"aitbc edge rollback {deployment}"],
    )
