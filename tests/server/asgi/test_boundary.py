"""The boundary around the shop: what it lets through, what it refuses, and what every answer carries."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from aitbc.server.asgi.boundary import Boundary
from tests.kernel.shop import HOST, UPLOAD_BYTES, Shelf, bounded

ITEM = {"name": "a lamp", "price": "0.05"}
Header = tuple[bytes, bytes]


@pytest.fixture
def shelf() -> Shelf:
    """An empty shelf."""
    return Shelf()


@pytest.fixture
async def client(shelf: Shelf) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the shop."""
    async with client_of(bounded(shelf)) as client:
        yield client


def client_of(app: Boundary, **headers: str) -> httpx.AsyncClient:
    """A client of one application."""
    transport: Any = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}", headers=headers)


async def exchange(
    app: Boundary, messages: list[Any], method: str = "POST", *headers: Header, **scope: Any
) -> list[Any]:
    """What an application sends for a request whose parts arrive one by one; after the last, nothing more comes."""
    sent: list[Any] = []
    path = scope.pop("path", "/api/v1/shop/items")

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    whole = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", HOST.encode()), *headers],
        "root_path": "",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
    }
    await app({**whole, **scope}, receive, send)  # type: ignore[arg-type]
    return sent


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    """A part of a body."""
    return {"type": "http.request", "body": body, "more_body": more}


JSON = (b"content-type", b"application/json")
CHUNKED = (b"transfer-encoding", b"chunked")


async def test_every_answer_carries_an_id_and_the_headers_of_safety(client: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/nothing", "/api/v1/shop/items?poison=1"):
        answer = await client.get(path)
        assert answer.headers["x-request-id"].startswith("req_")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_the_callers_own_request_id_is_kept_where_it_is_well_formed(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz", headers={"X-Request-ID": "order-17"})).headers["x-request-id"] == "order-17"
    for wrong in ("a" * 65, "a b", "a,b", "", "aitbc_live_0123456789ab"):
        answer = await client.get("/healthz", headers={"X-Request-ID": wrong})
        assert answer.headers["x-request-id"].startswith("req_"), wrong


async def test_a_trace_is_the_request_id_of_those_who_name_none(client: httpx.AsyncClient) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    right = f"00-{trace}-00f067aa0ba902b7-01"
    assert (await client.get("/healthz", headers={"traceparent": right})).headers["x-request-id"] == trace
    both = {"traceparent": right, "X-Request-ID": "order-17"}
    assert (await client.get("/healthz", headers=both)).headers["x-request-id"] == "order-17"
    zero = "0" * 32
    for wrong in (
        "x",
        f"ff-{trace}-00f067aa0ba902b7-01",
        f"00-{zero}-00f067aa0ba902b7-01",
        f"00-{trace.upper()}-00f067aa0ba902b7-01",
    ):
        answer = await client.get("/healthz", headers={"traceparent": wrong})
        assert answer.headers["x-request-id"].startswith("req_"), wrong


async def test_a_request_id_stands_in_the_problem_too(client: httpx.AsyncClient) -> None:
    answer = await client.get("/nothing", headers={"X-Request-ID": "mine"})
    assert (answer.json()["request_id"], answer.headers["x-request-id"]) == ("mine", "mine")


@pytest.mark.parametrize("host", [HOST, HOST.upper(), f"{HOST}:8080", "127.0.0.1:80", "[::1]", "[::1]:80"])
async def test_our_own_hosts_are_answered(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/healthz", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", ["evil.test", f"{HOST}.evil.test", f"evil{HOST}", "[::2]", f"x@{HOST}"])
async def test_other_hosts_are_not(client: httpx.AsyncClient, host: str) -> None:
    answer = await client.get("/healthz", headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (421, "misdirected_host")


@pytest.mark.parametrize("origin", [f"http://{HOST}", "https://pages.test", "HTTPS://PAGES.TEST"])
async def test_pages_of_ours_may_change_things(client: httpx.AsyncClient, origin: str) -> None:
    assert (await client.post("/api/v1/shop/items", json=ITEM, headers={"Origin": origin})).status_code == 201


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Origin": f"https://{HOST}"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_pages_of_others_may_only_read(client: httpx.AsyncClient, shelf: Shelf, headers: dict[str, str]) -> None:
    answer = await client.post("/api/v1/shop/items", json=ITEM, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    assert not shelf.items
    assert (await client.get("/api/v1/shop/items", headers=headers)).status_code == 200


async def test_limits_are_exact() -> None:
    app = bounded(Shelf(), body_bytes=100, uri_bytes=50, header_count=6, header_bytes=300)
    async with client_of(app) as client:
        assert (await client.get("/" + "a" * 49)).status_code == 404
        assert (await client.get("/" + "a" * 50)).status_code == 414
    fits = b'{"name": "a", "price": "1", "note": "' + b"x" * 61 + b'"}'
    assert len(fits) == 100
    for body, status in ((fits, 201), (fits + b" ", 413)):
        length = (b"content-length", str(len(body)).encode())
        assert (await exchange(app, [part(body, more=False)], "POST", JSON, length))[0]["status"] == status
    few: list[Header] = [(b"x-a", b"b")] * 5
    assert (await exchange(app, [], "GET", *few, path="/healthz"))[0]["status"] == 200
    assert (await exchange(app, [], "GET", *few, (b"x-a", b"b"), path="/healthz"))[0]["status"] == 431
    room = 300 - len(b"host" + HOST.encode() + b"x-a")
    assert (await exchange(app, [], "GET", (b"x-a", b"b" * room), path="/healthz"))[0]["status"] == 200
    assert (await exchange(app, [], "GET", (b"x-a", b"b" * (room + 1)), path="/healthz"))[0]["status"] == 431


async def test_a_body_may_come_in_parts(shelf: Shelf) -> None:
    parts = [part(b'{"name": "a lamp"'), part(b', "price": "0.05"}'), part(b"", more=False)]
    assert (await exchange(bounded(shelf), parts, "POST", JSON, CHUNKED))[0]["status"] == 201
    assert [item.name for item in shelf.items.values()] == ["a lamp"]


async def test_a_body_without_an_end_is_refused_at_the_limit_and_the_connection_closed() -> None:
    parts = [part(b" " * 60) for _ in range(10)]
    sent = await exchange(bounded(Shelf(), body_bytes=100), [*parts, part(b"", more=False)], "POST", JSON, CHUNKED)
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]


async def test_a_body_that_stays_away_is_not_waited_for() -> None:
    head = (JSON, (b"content-length", b"50"))
    sent = await exchange(bounded(Shelf(), body_seconds=0.05), [part(b"{")], "POST", *head)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


async def test_a_caller_who_leaves_within_the_body_gets_no_answer(shelf: Shelf) -> None:
    app = bounded(shelf)
    leaving = [part(b"{"), {"type": "http.disconnect"}]
    assert await exchange(app, leaving, "POST", JSON, (b"content-length", b"50")) == []
    assert app.in_flight == 0


async def test_an_upload_streams_up_to_its_own_limit(shelf: Shelf) -> None:
    async with client_of(bounded(shelf, body_bytes=100)) as client:
        path, headers = "/api/v1/shop/pictures/one", {"Content-Type": "image/png"}
        answer = await client.put(path, content=b"x" * UPLOAD_BYTES, headers=headers)
        assert answer.json() == {"bytes": UPLOAD_BYTES}
        answer = await client.put(path, content=b"x" * (UPLOAD_BYTES + 1), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"x" * (UPLOAD_BYTES // 2)

        answer = await client.put(path, content=endless(), headers=headers)
        assert (answer.status_code, answer.headers["connection"]) == (413, "close")


async def test_an_upload_that_stalls_is_cut() -> None:
    head = (JSON[0], b"image/png"), (b"content-length", b"50")
    path = "/api/v1/shop/pictures/one"
    sent = await exchange(bounded(Shelf(), body_seconds=0.05), [part(b"x")], "PUT", *head, path=path)
    assert sent[0]["status"] == 408


async def test_one_request_too_many_is_asked_to_come_again_and_health_still_answers(shelf: Shelf) -> None:
    app = bounded(shelf, in_flight=1)
    app.in_flight = 1
    async with client_of(app) as client:
        answer = await client.get("/api/v1/shop/items")
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "overloaded", "1")
        assert answer.json()["retryable"]
        assert (await client.get("/healthz")).status_code == 200
    assert app.in_flight == 1


async def test_head_answers_as_get_without_a_body_and_ends_what_streams(shelf: Shelf) -> None:
    sent = await asyncio.wait_for(exchange(bounded(shelf), [], "HEAD", path="/api/v1/shop/feed"), 20)
    assert sent[0]["status"] == 200
    assert b"".join(message["body"] for message in sent[1:]) == b""
    await asyncio.wait_for(shelf.left.wait(), 20)


async def test_options_names_what_a_path_takes_whatever_the_query(client: httpx.AsyncClient) -> None:
    for path, methods in {
        "/api/v1/shop/items": "GET, HEAD, OPTIONS, POST",
        "/api/v1/shop/items?limit=x": "GET, HEAD, OPTIONS, POST",
        "/api/v1/shop/items/x": "DELETE, GET, HEAD, OPTIONS",
        "/api/v1/shop/pictures/x": "OPTIONS, PUT",
    }.items():
        answer = await client.options(path)
        assert (answer.status_code, answer.headers["allow"]) == (204, methods), path
        refused = await client.patch(path, json={})
        assert (refused.status_code, refused.headers["allow"]) == (405, methods), path


async def test_a_failure_of_ours_shows_nothing_of_the_inside(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/shop/broken")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("//healthz", 404),
        ("/healthz/", 404),
        ("/./healthz", 404),
        ("/x/../healthz", 404),
        ("/%68ealthz", 404),
        ("/healthz%2f", 404),
        ("/healthz%5c", 404),
        ("/healthz%00", 400),
        ("/healthz%ff", 400),
        ("/healthz%4", 400),
        ("/healthz?a=%00", 400),
        ("healthz", 400),
        ("", 400),
    ],
)
async def test_each_path_has_one_spelling(path: str, status: int) -> None:
    raw, _, query = path.encode().partition(b"?")
    sent = await exchange(bounded(Shelf()), [], "GET", path="/healthz", raw_path=raw or b"x", query_string=query)
    assert sent[0]["status"] == status


async def test_a_websocket_from_elsewhere_is_closed() -> None:
    headers = [(b"host", HOST.encode()), (b"origin", b"https://evil.test")]
    scope = {"type": "websocket", "scheme": "ws", "path": "/api/v1/shop/live", "query_string": b"", "headers": headers}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await bounded(Shelf())(scope, receive, send)  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "foreign_origin"}]


async def test_a_json_body_may_have_what_the_settings_say_and_not_a_byte_more() -> None:
    limit = 12_000_000  # more than the framework's own default
    async with client_of(bounded(Shelf(), body_bytes=limit), **{"content-type": "application/json"}) as client:
        for more, status in ((0, 201), (1, 413)):
            body = b'{"name": "a lamp", "price": "0.05"}'.ljust(limit + more)
            answer = await client.post("/api/v1/shop/items", content=body)
            assert answer.status_code == status, answer.text[:300]
