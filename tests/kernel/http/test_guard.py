"""The guard: authentication, permission and Idempotency-Keys, on a small app."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import httpx
import msgspec
import pytest
from litestar import Litestar, Request, get, post
from litestar.di import NamedDependency
from litestar.exceptions import ImproperlyConfiguredException
from litestar.params import FromQuery
from litestar.response import Stream

from aitbc.kernel.database.idempotency import KEY_LENGTH_MAX, IdempotencyKey
from aitbc.kernel.http.guard import Guard, IdempotencyMiddleware, dependencies, loopback_key_of, without_foreign_keys
from aitbc.kernel.identity.accounts import Identity
from aitbc.kernel.identity.principal import PUBLIC, Principal
from aitbc.kernel.primitives.errors import Unauthenticated, Unavailable
from aitbc.kernel.primitives.ids import new_id
from aitbc.server.asgi.app_options import app_options, check_routes

KEYS = {
    name: Principal(new_id("acct"), new_id("key"), "live", frozenset(scopes))
    for name, scopes in {"wide": {"*"}, "writer": {"things:write"}, "reader": {"things:read"}}.items()
}


class Keys:
    """An `Identity` that knows a few fixed keys."""

    def __init__(self) -> None:
        self.known = dict(KEYS)
        self.is_away = False

    def on_revoked(self, callback: Callable[[], None]) -> None:
        """Nothing is revoked here."""

    async def authenticate(self, secret: str, *, cached: bool = True) -> Principal:
        """The caller behind a key."""
        if self.is_away:
            raise Unavailable
        if secret not in self.known:
            raise Unauthenticated
        return self.known[secret]


class Floor:
    """What the handlers saw, and a gate that holds them."""

    def __init__(self) -> None:
        self.seen: list[IdempotencyKey] = []
        self.gate = asyncio.Event()
        self.gate.set()


@pytest.fixture
def keys() -> Keys:
    """The keys."""
    return Keys()


@pytest.fixture
def floor() -> Floor:
    """What the handlers record."""
    return Floor()


@pytest.fixture
async def client(keys: Keys, floor: Floor) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app with a route of each kind."""

    async def keep(once: IdempotencyKey) -> dict[str, str | None]:
        floor.seen.append(once)
        await floor.gate.wait()
        once.replayed = once.key == "again"
        return {"key": once.key}

    @get("/open", opt={"permission": PUBLIC})
    async def open_door() -> str:
        return "open"

    @get("/things", opt={"permission": "things:read"})
    async def read(who: NamedDependency[Principal]) -> dict[str, str]:
        return {"account": who.account}

    @get("/either", opt={"permission": "things:own", "alternative": "things:read"})
    async def either() -> str:
        return "either"

    @post("/things", opt={"permission": "things:write"})
    async def write(once: NamedDependency[IdempotencyKey]) -> dict[str, str | None]:
        return await keep(once)

    @post("/payments", opt={"permission": "things:write", "idempotency": "required"})
    async def pay(once: NamedDependency[IdempotencyKey]) -> dict[str, str | None]:
        return await keep(once)

    @post("/marks", opt={"permission": "things:write", "idempotency": "natural"})
    async def mark(once: NamedDependency[IdempotencyKey]) -> dict[str, str | None]:
        return await keep(once)

    guard = Guard(cast(Identity, keys))
    app = Litestar(
        [open_door, read, either, write, pay, mark],
        guards=[guard.__call__],
        dependencies=dependencies(),
        **app_options(),
    )
    check_routes(app)
    transport: Any = httpx.ASGITransport(app=cast(Any, IdempotencyMiddleware(app)))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        yield client


def by(name: str, once: str | None = None) -> dict[str, str]:
    """The headers of a caller."""
    return {"Authorization": f"Bearer {name}"} | ({"Idempotency-Key": once} if once is not None else {})


async def test_open_doors_ask_for_nothing(client: httpx.AsyncClient) -> None:
    assert (await client.get("/open")).status_code == 200
    assert (await client.get("/open", headers=by("nobody"))).status_code == 200


async def test_a_route_may_name_a_scope_that_does_as_well(client: httpx.AsyncClient) -> None:
    found = {name: (await client.get("/either", headers=by(name))).status_code for name in KEYS}
    assert found == {"wide": 200, "reader": 200, "writer": 403}


async def test_the_others_ask_for_one_key_that_counts(client: httpx.AsyncClient) -> None:
    for headers in (
        {},
        by("nobody"),
        {"Authorization": "wide"},
        {"Authorization": "Basic wide"},
        {"Authorization": "Bearer"},
        by("wide") | {"X-Api-Key": "wide"},
    ):
        answer = await client.get("/things", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), headers
        assert answer.headers["www-authenticate"] == "Bearer"
    twice = [("Authorization", "Bearer wide")] * 2
    assert (await client.get("/things", headers=twice)).status_code == 401
    assert (await client.get("/things?key=wide")).status_code == 401


async def test_a_key_comes_in_either_header(client: httpx.AsyncClient) -> None:
    for headers in (by("reader"), {"authorization": "bearer reader"}, {"X-Api-Key": "reader"}):
        assert (await client.get("/things", headers=headers)).json() == {"account": KEYS["reader"].account}


async def test_a_key_without_the_scope_is_told_which_it_lacks(client: httpx.AsyncClient) -> None:
    answer = await client.post("/things", headers=by("reader"))
    assert (answer.status_code, answer.json()["detail"]) == (403, "This key lacks the scope things:write.")
    assert (await client.get("/things", headers=by("writer"))).status_code == 403
    assert (await client.post("/things", headers=by("wide"))).status_code == 201


async def test_while_nobody_knows_the_keys_the_door_says_so(client: httpx.AsyncClient, keys: Keys) -> None:
    keys.is_away = True
    answer = await client.get("/things", headers=by("wide"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (await client.get("/open")).status_code == 200


async def test_payments_need_an_idempotency_key(client: httpx.AsyncClient, floor: Floor) -> None:
    answer = await client.post("/payments", headers=by("writer"))
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_required")
    assert floor.seen == []
    assert (await client.post("/payments", headers=by("writer", "one"))).json() == {"key": "one"}
    assert (await client.post("/things", headers=by("writer"))).json() == {"key": None}


async def test_where_repeating_is_harmless_the_key_is_let_be(client: httpx.AsyncClient, floor: Floor) -> None:
    assert (await client.post("/marks", headers=by("writer", "x" * 999))).status_code == 201
    assert floor.seen == [IdempotencyKey(KEYS["writer"].account)]


@pytest.mark.parametrize("key", ["", "a" * (KEY_LENGTH_MAX + 1), "\t", "a\x7f", "\xe9"])
async def test_an_idempotency_key_is_short_printable_ascii(client: httpx.AsyncClient, key: str) -> None:
    headers = [(b"authorization", b"Bearer writer"), (b"idempotency-key", key.encode("latin-1"))]
    answer = await client.post("/things", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_malformed")
    longest = await client.post("/things", headers=by("writer", "a" * KEY_LENGTH_MAX))
    assert longest.status_code == 201


async def test_the_fingerprint_tells_method_path_and_body(client: httpx.AsyncClient, floor: Floor) -> None:
    for path, body in (("/things", {"a": 1}), ("/things", {"a": 1}), ("/things", {"a": 2}), ("/payments", {"a": 1})):
        assert (await client.post(path, json=body, headers=by("writer", "one"))).status_code == 201
    prints = [once.fingerprint for once in floor.seen]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


async def test_a_key_in_use_is_refused_until_its_request_is_over(client: httpx.AsyncClient, floor: Floor) -> None:
    floor.gate.clear()
    first = asyncio.create_task(client.post("/things", headers=by("writer", "one")))
    while not floor.seen:  # noqa: ASYNC110 - the request is on its way
        await asyncio.sleep(0)
    second = await client.post("/things", headers=by("writer", "one"))
    assert (second.status_code, second.json()["code"]) == (409, "idempotency_key_in_flight")
    other = asyncio.create_task(client.post("/things", headers=by("wide", "one")))
    while len(floor.seen) < 2:  # noqa: ASYNC110 - another account's key is another key
        await asyncio.sleep(0)
    floor.gate.set()
    assert {(await first).status_code, (await other).status_code} == {201}
    assert (await client.post("/things", headers=by("writer", "one"))).status_code == 201


async def test_a_key_is_free_again_after_a_refusal(client: httpx.AsyncClient) -> None:
    for _ in range(2):
        answer = await client.post("/things?poison=1", headers=by("writer", "one"))
        assert (answer.status_code, answer.json()["code"]) == (422, "unknown_parameter")


async def test_a_replayed_answer_says_so(client: httpx.AsyncClient) -> None:
    assert (await client.post("/things", headers=by("writer", "again"))).headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in (await client.post("/things", headers=by("writer", "one"))).headers


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], "local"),
        ([(b"authorization", b"")], "local"),
        ([(b"authorization", b"Bearer")], "local"),
        ([(b"x-api-key", b" ")], "local"),
        ([(b"authorization", b"Bearer x")], "local"),
        ([(b"authorization", b"Basic eDp5")], "local"),
        ([(b"x-api-key", b"miner_prod_key_use_real_value")], "local"),
        ([(b"x-api-key", b"test-key"), (b"authorization", b"bearer test-key")], "local"),
        ([(b"x-api-key", b"aitbc_live_mistyped")], None),
        ([(b"authorization", b"Bearer aitbc_")], None),
        ([(b"x-api-key", b"test-key"), (b"authorization", b"bearer  aitbc_live_1")], None),
    ],
)
def test_only_a_caller_without_a_key_is_stood_in_for(headers: list[tuple[bytes, bytes]], expected: str | None) -> None:
    sent = without_foreign_keys(headers)
    assert len(sent) == len(headers)
    assert loopback_key_of({"state": {"loopback_key": "local"}, "headers": sent}) == expected
    assert loopback_key_of({"state": {}, "headers": headers}) is None


async def test_what_lasts_ends_with_its_key_and_not_while_nobody_can_say(keys: Keys) -> None:
    left: list[str] = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0.01)
        finally:
            left.append("stream")

    @get("/wait", opt={"permission": "things:own", "alternative": "things:read", "waits": True})
    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            left.append("wait")

    @get("/stream", opt={"permission": "things:read", "lasts": True})
    async def stream() -> Stream:
        return Stream(endless(), media_type="text/plain")

    @get("/file", opt={"permission": "things:read", "lasts": True})
    async def file() -> Stream:
        return Stream(endless(), media_type="text/plain", headers={"content-length": "1000000"})

    @post(
        "/upload", opt={"permission": "things:read", "lasts": True, "idempotency": "natural", "raw_body_bytes": 10**9}
    )
    async def upload(request: Request[Any, Any, Any]) -> None:
        async for _ in request.stream():
            pass

    guard = Guard(cast(Identity, keys))
    app = Litestar([wait, stream, file, upload], guards=[guard.__call__], dependencies=dependencies(), **app_options())
    check_routes(app)
    transport: Any = httpx.ASGITransport(app=cast(Any, IdempotencyMiddleware(app)))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        for narrowed in (False, True):
            keys.known = {**KEYS, "reader": KEYS["reader"]}
            calls = [
                asyncio.create_task(client.get("/wait", headers=by("reader"))),
                asyncio.create_task(client.get("/stream", headers=by("reader"))),
                asyncio.create_task(client.get("/file", headers=by("reader"))),
                asyncio.create_task(client.post("/upload", headers=by("reader"), content=endless())),
            ]
            other = asyncio.create_task(client.get("/wait", headers=by("wide")))
            keys.is_away = False
            await asyncio.sleep(0.1)
            keys.is_away = True
            await asyncio.sleep(0.5)
            assert not any(call.done() for call in calls)
            keys.is_away = False
            if narrowed:
                keys.known["reader"] = msgspec.structs.replace(KEYS["reader"], scopes=frozenset({"things:write"}))
            else:
                del keys.known["reader"]
            async with asyncio.timeout(20):
                waited, streamed, cut, uploaded = await asyncio.gather(*calls, return_exceptions=True)
            assert isinstance(waited, Unauthenticated)  # the boundary answers it with 401
            assert isinstance(uploaded, Unauthenticated)
            assert isinstance(streamed, httpx.Response) and set(streamed.content) == {ord("x")}
            assert isinstance(cut, BaseException), "part of a file is no whole answer"
            assert not other.done()
            other.cancel()
            await asyncio.gather(other, return_exceptions=True)
    assert guard.lasting == 0


def test_a_route_that_waits_or_streams_and_does_not_say_so_is_refused() -> None:
    @get("/stream", opt={"permission": "things:read"})
    async def stream() -> Stream:
        return Stream(iter(()))

    @get("/wait", opt={"permission": "things:read"})
    async def wait(seconds: FromQuery[float] = 1.0) -> None: ...

    @post("/upload", opt={"permission": "things:read", "idempotency": "natural", "raw_body_bytes": 1})
    async def upload() -> None: ...

    for handler in (stream, wait, upload):
        with pytest.raises(ImproperlyConfiguredException, match="waits or streams"):
            check_routes(Litestar([handler], **app_options()))
