"""The legacy kit's controllers, in an app of their own: health, readiness, and paths that are refused with a reason."""

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import httpx
import pytest
from litestar import Controller, Litestar, Response, get
from litestar.params import FromQuery

from aitbc.kernel.legacy.health import OPEN, Health, LiveController, readiness
from aitbc.kernel.legacy.not_done import not_done
from aitbc.kernel.legacy.paging import CountedItems, Limit, OffsetItems, Word, offset_items
from aitbc.kernel.primitives.errors import Unavailable
from aitbc.server.asgi.app_options import app_options, check_routes

LAMPS = not_done(
    "Lamps come later.",
    read="lamps:read",
    write="lamps:light",
    gets=("/lamps", "/lamps/{lamp:str}"),
    posts=("/lamps", "/lamps/{lamp:str}/test/{part:str}"),
)
STATES = not_done("There is no dump.", read="lamps:read", gets=("/dump",))


class ShopController(LiveController):
    """A shop whose database can be away."""

    service = "shop-service"
    is_away: ClassVar[bool] = False

    @get("/ready", opt=OPEN)
    async def ready(self) -> Response[Health]:
        """Whether its database answers."""

        async def probe() -> None:
            if self.is_away:
                raise Unavailable("The database is away.")

        return await readiness(self.service, probe())


class ListController(Controller):
    """Lists of both forms."""

    @get("/offset", opt=OPEN)
    async def offset(self, limit: FromQuery[Limit] = 2, word: Word = None) -> OffsetItems[str]:
        """A page that says where the next one begins."""
        return offset_items([word, "b", "c"], 0, limit, str)

    @get("/counted", opt=OPEN)
    async def counted(self) -> CountedItems[int]:
        """A page that is counted."""
        return CountedItems(items=(1, 2), total=2, limit=2, offset=0)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app."""
    app = Litestar([ShopController, ListController, LAMPS, STATES], **app_options())
    check_routes(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as client:  # type: ignore[arg-type]
        yield client


async def test_health_says_that_the_service_runs(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).json() == {"status": "healthy", "service": "shop-service"}
    assert (await client.get("/live")).json() == {"status": "alive", "service": "shop-service"}


async def test_readiness_is_503_while_the_database_is_away(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await client.get("/ready")).json() == {"status": "ready", "service": "shop-service"}
    monkeypatch.setattr(ShopController, "is_away", True)
    answer = await client.get("/ready")
    error = {"status": "not_ready", "service": "shop-service", "error": "The database is away."}
    assert (answer.status_code, answer.json()) == (503, error)


@pytest.mark.parametrize(
    ("method", "path", "reason"),
    [
        ("GET", "/lamps", "Lamps come later."),
        ("GET", "/lamps/one?any=query", "Lamps come later."),
        ("POST", "/lamps?any=query", "Lamps come later."),
        ("POST", "/lamps/one/test/bulb", "Lamps come later."),
        ("GET", "/dump", "There is no dump."),
    ],
)
async def test_what_cannot_be_done_is_refused_with_its_reason(
    client: httpx.AsyncClient, method: str, path: str, reason: str
) -> None:
    answer = await client.request(method, path, json={"anything": 1} if method == "POST" else None)
    found: Any = answer.json()
    assert (answer.status_code, found["code"], found["detail"]) == (501, "not_implemented", reason)


async def test_a_path_that_is_not_refused_is_not_there(client: httpx.AsyncClient) -> None:
    assert (await client.post("/dump")).status_code == 405
    assert (await client.get("/lamps/one/two")).status_code == 404


async def test_lists_are_wrapped_in_both_forms(client: httpx.AsyncClient) -> None:
    assert (await client.get("/offset?word=a")).json() == {"items": ["a", "b"], "next_offset": 2}
    assert (await client.get("/counted")).json() == {"items": [1, 2], "total": 2, "limit": 2, "offset": 0}
    assert (await client.get(f"/offset?word={'x' * 101}")).status_code == 422
