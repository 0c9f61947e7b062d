"""The HTTP of edges: which miners are edges, and what edges report."""

from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.gpu.api import MinerNotFound
from aitbc.modules.hermes.models.edge_shapes import Edge, Location
from aitbc.modules.hermes.service.edge_commands import (
    BringReceipts,
    EdgeNotFound,
    EdgeTold,
    ReceiptsTaken,
    ReportEdge,
    TooManyEdges,
)
from aitbc.modules.hermes.service.edge_receipts import EdgeReceipts
from aitbc.modules.hermes.service.edges import Edges

Who = NamedDependency[Principal]
Once = NamedDependency[IdempotencyKey]
READ = {"permission": "agents:read"}
OF_THE_EDGE = {"permission": "miners:work", "idempotency": "natural", "errors": (EdgeNotFound,)}


class RegisterEdge(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A miner of yours that is to be an edge."""

    miner: Annotated[str, Meta(min_length=30, max_length=30)]
    """The miner. For example `mnr_01k0000000000000000000000a`."""
    location: Location
    """Where it stands; another location moves it. For example `eu-central`."""


class EdgeController(Controller):
    """Edges."""

    path = "/edges"
    tags = ("edges",)

    @post(
        "/",
        operation_id="register_edge",
        summary="Make a miner an edge",
        opt={
            "permission": "agents:write",
            "idempotency": "required",
            "errors": (MinerNotFound, TooManyEdges),
        },
    )
    async def register(self, edges: NamedDependency[Edges], who: Who, once: Once, data: JSONBody[RegisterEdge]) -> Edge:
        """Make a miner of the caller's an edge: it may then serve deployments, also while it is cut off."""
        return await edges.register(who, data.miner, data.location, once)

    @get("/", operation_id="list_edges", summary="List edges", opt=READ | {"errors": (InvalidCursor,)})
    async def page(
        self,
        edges: NamedDependency[Edges],
        who: Who,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[Edge]:
        """List the caller's edges, from the newest miner on."""
        after = after_id("edges", cursor, "mnr")
        found = await edges.page(who, after=after, limit=limit + 1)
        return Page.of("edges", found, limit, lambda one: one.miner)

    @get("/{miner:str}", operation_id="get_edge", summary="Get an edge", opt=READ | {"errors": (EdgeNotFound,)})
    async def one(self, edges: NamedDependency[Edges], who: Who, miner: FromPath[str]) -> Edge:
        """Read an edge of the caller's."""
        return await edges.find(who, miner)

    @post(
        "/{miner:str}/remove",
        status_code=200,
        operation_id="remove_edge",
        summary="Make an edge a plain miner again",
        opt={"permission": "agents:write", "idempotency": "natural", "errors": (EdgeNotFound,)},
    )
    async def remove(self, edges: NamedDependency[Edges], who: Who, miner: FromPath[str]) -> Edge:
        """Make an edge a plain miner again; what it has served stays counted, and receipts are still taken."""
        return await edges.remove(who, miner)


class EdgeWorkController(Controller):
    """The calls of an edge, each for the miner that the key belongs to."""

    path = "/edge"
    tags = ("edges",)

    @post("/reports", status_code=200, operation_id="report_edge", summary="Report as an edge", opt=OF_THE_EDGE)
    async def report(self, edges: NamedDependency[Edges], who: Who, data: JSONBody[ReportEdge]) -> EdgeTold:
        """Say how far deployments are here; the answer says what is to be served until the next report."""
        return await edges.report(who, data)

    @post("/receipts", status_code=200, operation_id="bring_edge_receipts", summary="Bring receipts", opt=OF_THE_EDGE)
    async def receipts(
        self, edge_receipts: NamedDependency[EdgeReceipts], who: Who, data: JSONBody[BringReceipts]
    ) -> ReceiptsTaken:
        """Bring receipts of what was done here; each is kept once, however often it is brought."""
        return await edge_receipts.take(who, data.receipts)
