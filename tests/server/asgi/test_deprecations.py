"""Deprecated routes: each answer says since when and until when, and too short a notice is refused."""

from datetime import date, timedelta
from typing import Any, cast

import httpx
import pytest
from litestar import Litestar, get
from litestar.exceptions import ImproperlyConfiguredException
from litestar.params import FromPath

from aitbc.kernel.http.deprecation import Deprecated
from aitbc.server.asgi.app_options import app_options, check_routes
from aitbc.server.asgi.boundary import Boundary, Limits
from aitbc.server.asgi.deprecations import Deprecations, deprecated_routes
from aitbc.server.asgi.openapi import document
from tests.kernel.shop import HOST

SINCE = date(2026, 12, 1)
ENDING = Deprecated(since=SINCE, sunset=date(2027, 6, 1), successor="/new")


@get("/old/{name:str}", operation_id="old", opt={"permission": "public", "deprecated": ENDING})
async def old(name: FromPath[str]) -> dict[str, str]:
    """Answer as ever."""
    return {"name": name}


@get("/new", operation_id="new", opt={"permission": "public"})
async def new() -> dict[str, str]:
    """Answer."""
    return {}


@pytest.fixture
def client() -> httpx.AsyncClient:
    """A client of a server with an old route and a new one."""
    app = Litestar([old, new], **app_options())
    check_routes(app)
    boundary = Boundary(app, Limits(uri_bytes=100), frozenset({HOST}), frozenset(), lambda *_: None)
    transport = httpx.ASGITransport(app=cast(Any, Deprecations(boundary, deprecated_routes(app))))
    return httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}")


async def test_each_answer_of_a_deprecated_route_says_so(client: httpx.AsyncClient) -> None:
    answers = [
        await client.get("/old/lamp"),
        await client.head("/old/lamp"),
        await client.get("/old/lamp?unknown=1"),
        await client.get(f"/old/{'x' * 200}"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 422, 414]
    for answer in answers:
        assert answer.headers["deprecation"] == "@1796083200"
        assert answer.headers["sunset"] == "Tue, 01 Jun 2027 00:00:00 GMT"
        assert answer.headers["link"] == '</new>; rel="successor-version"'


async def test_other_routes_say_nothing(client: httpx.AsyncClient) -> None:
    for path in ("/new", "/old", "/old/a/b", "/nothing"):
        assert not {"deprecation", "sunset", "link"} & set((await client.get(path)).headers)


def test_the_description_marks_it() -> None:
    told = document(Litestar([old, new], **app_options()), title="t", version="v", description="d")["paths"]
    assert told["/old/{name}"]["get"]["deprecated"] is True
    assert told["/old/{name}"]["get"]["x-sunset"] == "2027-06-01"
    assert "deprecated" not in told["/new"]["get"]


def test_too_short_a_notice_is_refused() -> None:
    soon = Deprecated(since=SINCE, sunset=SINCE + timedelta(days=179))

    @get("/soon", operation_id="soon", opt={"permission": "public", "deprecated": soon})
    async def ending() -> None:
        """End."""

    with pytest.raises(ImproperlyConfiguredException, match="180 days"):
        check_routes(Litestar([ending], **app_options()))
