"""A small application for tests of HTTP handling: a shop with every kind of route."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Literal

from litestar import Controller, Litestar, MediaType, Request, delete, get, post, put, websocket
from litestar.connection import WebSocket
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.response import Stream
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import Conflict, NotFound
from aitbc.kernel.primitives.money import parse
from aitbc.kernel.primitives.pagination import Cursor, Limit, Page
from aitbc.kernel.primitives.text import Name, Text
from aitbc.server.asgi.app_options import app_options, check_routes, raw_bodies
from aitbc.server.asgi.boundary import Boundary, Limits
from aitbc.server.asgi.openapi_pages import documentation

HOST = "shop.test"
UPLOAD_BYTES = 100_000


class ItemNotFound(NotFound):
    """There is no such item."""

    code = "shop_item_not_found"


class ItemSold(Conflict):
    """This item is sold."""

    code = "shop_item_sold"


class Size(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How large an item is."""

    width: Annotated[int, Meta(ge=1, le=10_000)]
    height: float = 1.0


class NewItem(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item for sale."""

    name: Name
    price: Annotated[str, Meta(max_length=30, examples=["0.05"])]
    count: int = 1
    size: Size | None = None
    labels: Annotated[list[Annotated[str, Meta(max_length=20)]], Meta(max_length=10)] = []
    note: Text = ""
    sort: Literal["new", "used"] = "new"
    sold_until: Annotated[datetime, Meta(tz=True)] | None = None
    fragile: bool = False
    extra: Annotated[dict[str, Any], Meta(max_length=20)] = {}


class Item(Struct, frozen=True, kw_only=True):
    """An item as it stands in the shop."""

    id: str
    name: str
    price: str
    count: int


class Shelf:
    """Where the items are."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.read = 0
        self.left = asyncio.Event()


class ItemController(Controller):
    """Items."""

    path = "/api/v1/shop"
    tags = ("shop",)

    @post("/items", operation_id="create_item", opt={"permission": "items:write"})
    async def create(
        self, shelf: NamedDependency[Shelf], once: NamedDependency[IdempotencyKey], data: JSONBody[NewItem]
    ) -> Item:
        """Put an item on the shelf.

        It can be bought at once.
        """
        parse(data.price)
        item = Item(id=ids.new_id("item"), name=data.name, price=data.price, count=data.count)
        shelf.items[item.id] = item
        return item

    @get("/items", operation_id="list_items", opt={"permission": "items:read"})
    async def list_items(
        self,
        shelf: NamedDependency[Shelf],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
        after: FromQuery[datetime | None] = None,
        least: FromQuery[int | None] = None,
        sort: FromQuery[Literal["new", "used"] | None] = None,
        label: FromQuery[list[str] | None] = None,
        fragile: FromQuery[bool | None] = None,
    ) -> Page[Item]:
        """List the items."""
        position = Page.position("items", cursor) or ""
        found = [item for key, item in sorted(shelf.items.items()) if key > position and item.count >= (least or 0)]
        return Page.of("items", found[: limit + 1], limit, lambda item: item.id)

    @get("/items/{item:str}", operation_id="read_item", opt={"permission": "items:read", "errors": (ItemNotFound,)})
    async def read(self, shelf: NamedDependency[Shelf], item: FromPath[str]) -> Item:
        """Read one item."""
        ids.decode("item", item)
        if item not in shelf.items:
            raise ItemNotFound
        return shelf.items[item]

    @delete(
        "/items/{item:str}",
        operation_id="delete_item",
        opt={"permission": "items:write", "idempotency": "natural", "errors": (ItemSold,)},
    )
    async def remove(self, item: FromPath[str]) -> None:
        """Take an item off the shelf."""
        raise ItemSold

    @get("/rows/{row:int}", operation_id="read_row", opt={"permission": "items:read"})
    async def row(self, row: FromPath[int]) -> dict[str, int]:
        """Read a row by its number."""
        assert -(2**63) <= row < 2**63
        return {"row": row}

    @put(
        "/pictures/{picture:str}",
        operation_id="upload_picture",
        opt={
            "lasts": True,
            "permission": "items:write",
            "idempotency": "natural",
            "raw_body": "image/png",
            "raw_body_bytes": UPLOAD_BYTES,
        },
    )
    async def upload(
        self, request: Request[Any, Any, Any], shelf: NamedDependency[Shelf], picture: FromPath[str]
    ) -> dict[str, int]:
        """Upload a picture."""
        async for chunk in request.stream():
            shelf.read += len(chunk)
        return {"bytes": shelf.read}

    @get(
        "/feed",
        operation_id="watch_feed",
        opt={"permission": "items:read", "lasts": True},
        media_type="text/event-stream",
    )
    async def feed(self, shelf: NamedDependency[Shelf]) -> Stream:
        """Watch what happens."""

        async def lines() -> AsyncIterator[str]:
            try:
                while True:
                    yield "data: x\n\n"
                    await asyncio.sleep(0.02)
            finally:
                shelf.left.set()

        return Stream(lines(), media_type="text/event-stream")

    @get("/broken", operation_id="read_broken", opt={"permission": "items:read"}, media_type=MediaType.JSON)
    async def broken(self) -> dict[str, str]:
        """Fail."""
        raise RuntimeError("a secret of the inside")


@get("/healthz", operation_id="healthz", opt={"permission": "public"})
async def healthz() -> dict[str, str]:
    """Say that the process lives."""
    return {"status": "ok"}


@websocket("/api/v1/shop/live", opt={"permission": "items:read"})
async def live(socket: WebSocket[Any, Any, Any]) -> None:
    """Say hello over a WebSocket."""
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


async def _once() -> IdempotencyKey:
    return IdempotencyKey(account="")


def shop(shelf: Shelf) -> Litestar:
    """The application without its boundary."""

    async def _shelf() -> Shelf:
        return shelf

    app = Litestar(
        [ItemController, healthz, live, documentation(title="Shop", version="1.0", description="A shop for tests.")],
        dependencies={"shelf": Provide(_shelf), "once": Provide(_once)},
        **app_options(),
    )
    check_routes(app)
    return app


def bounded(shelf: Shelf, **limits: Any) -> Boundary:
    """The whole of it."""
    app = shop(shelf)
    hosts, origins = frozenset({HOST, "127.0.0.1", "[::1]"}), frozenset({"https://pages.test"})
    return Boundary(app, Limits(**limits), hosts, origins, raw_bodies(app))
