"""CORS around the shop and around the whole application: who may read what, and that none is there unless an origin is named."""

from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.server.asgi.boundary import Boundary, Limits
from aitbc.server.asgi.cross_origin import CrossOrigin, Preflights
from aitbc.server.config.settings import ServerSettings
from tests.app import running_app
from tests.kernel.shop import HOST, Shelf, shop

PAGE, OTHER = "https://pages.test", "https://elsewhere.test"
ORIGINS = frozenset({PAGE})
ASKS = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}


@pytest.fixture
def client() -> httpx.AsyncClient:
    """A client of the shop, whose one listed page it may say to be."""
    boundary = Boundary(Preflights(shop(Shelf()), ORIGINS), Limits(), frozenset({HOST}), ORIGINS, lambda *_: None)
    transport = httpx.ASGITransport(app=cast(Any, CrossOrigin(boundary, ORIGINS)))
    return httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}")


async def test_a_listed_page_may_read_answers_and_refusals(client: httpx.AsyncClient) -> None:
    for path, host in (("/healthz", HOST), ("/nothing", HOST), ("/healthz", "another.test")):
        answer = await client.get(path, headers={"Origin": PAGE.upper().replace("HTTPS", "https"), "Host": host})
        assert answer.headers["access-control-allow-origin"].lower() == PAGE
        assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in answer.headers


async def test_another_page_and_a_program_are_told_nothing(client: httpx.AsyncClient) -> None:
    for headers in ({"Origin": OTHER}, {"Origin": "null"}, {"Origin": f"{PAGE}.evil.test"}, {}):
        answer = await client.get("/healthz", headers=headers)
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert answer.headers["vary"] == "Origin"
    refused = await client.post("/api/v1/shop/items", json={}, headers={"Origin": OTHER})
    assert (refused.status_code, refused.json()["code"]) == (403, "foreign_origin")


async def test_a_preflight_is_answered_for_every_path_and_without_a_key(client: httpx.AsyncClient) -> None:
    for path in ("/api/v1/shop/items", "/nothing/there"):
        answer = await client.options(path, headers={"Origin": PAGE, **ASKS})
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["access-control-allow-methods"] == "DELETE, GET, HEAD, PATCH, POST, PUT"
        allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
        assert {"authorization", "content-type", "idempotency-key", "last-event-id"} <= set(allowed)
        assert "access-control-allow-private-network" not in answer.headers
    near = await client.options(
        "/healthz", headers={"Origin": PAGE, **ASKS, "Access-Control-Request-Private-Network": "true"}
    )
    assert near.headers["access-control-allow-private-network"] == "true"


async def test_other_options_are_answered_by_the_routes(client: httpx.AsyncClient) -> None:
    for headers in ({"Origin": OTHER, **ASKS}, {"Origin": PAGE}, ASKS):
        answer = await client.options("/healthz", headers=headers)
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
        assert "access-control-allow-methods" not in answer.headers


async def test_a_preflight_for_another_host_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.options("/healthz", headers={"Origin": PAGE, "Host": "another.test", **ASKS})
    assert answer.status_code == 421


async def test_there_is_no_layer_for_it_unless_an_origin_is_named(target: Target, tmp_path: Path) -> None:
    for origins in ([], [PAGE]):
        async with running_app(target, tmp_path, server=ServerSettings(origins=list(origins))) as app:
            pages = vars(app.asgi)["_app"]
            outer: Any = vars(pages)["_app"]
            assert isinstance(outer, CrossOrigin if origins else Boundary)
            inner: Any = vars(outer)["_app"] if origins else outer
            assert isinstance(inner.app, Preflights) is bool(origins)
