"""Audit of denials: the first at once, further ones of the same key and scope once a minute."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from aitbc.kernel.database.unit_of_work import Connection, Database, Target
from aitbc.kernel.identity.denials import ACTION, QUEUE_MAX, WINDOWS_MAX, Denials
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.identity.tables import Base
from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.errors import Unavailable
from aitbc.kernel.primitives.ids import new_id
from aitbc.server.asgi.fast_path import FastRoutes
from tests.app import Caller, TestApp, running_app

GONE = Target(host="/nonexistent", port=1, user="x", database="x")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for this file, so that its tests share an app."""
    return "asyncio"


@pytest.fixture(scope="module")
async def stage(target: Target, tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[TestApp]:
    """The app of this file."""
    async with running_app(target, tmp_path_factory.mktemp("app")) as stage:
        yield stage


@pytest.fixture(autouse=True)
def clock_that_goes_right() -> Iterator[None]:
    """No test leaves the clock moved."""
    yield
    clock.reset()


async def refusals(stage: TestApp, key: str) -> list[dict[str, Any]]:
    """What the operator finds about a key, from the first on."""
    admin = await stage.admin()
    found = (await admin.get("/api/v1/operations/audit", module="kernel", action=ACTION, limit=1000)).json()["data"]
    return [entry for entry in reversed(found) if entry["key"] == key]


async def told(stage: TestApp, key: str, count: int) -> list[dict[str, Any]]:
    """The same, once there are so many."""
    for _ in range(1000):
        if len(found := await refusals(stage, key)) >= count:
            break
        await asyncio.sleep(0.02)
    return found


async def narrow(stage: TestApp, *scopes: str) -> Caller:
    return await stage.who("narrow", scopes=scopes)


JOB = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "0.05"}


async def test_a_key_without_the_scope_is_refused_and_that_is_audited(stage: TestApp) -> None:
    who = await narrow(stage, "jobs:read")
    answer = await who.post("/api/v1/ai/jobs", JOB)
    assert (answer.status_code, answer.json()["detail"]) == (403, "This key lacks the scope jobs:create.")
    (entry,) = await told(stage, who.principal.key, 1)
    assert entry["account"] == who.principal.account
    assert (entry["action"], entry["object"]) == ("access.refuse", "jobs:create")
    assert entry["details"] == {"operation": "POST /api/v1/ai/jobs", "times": 1}
    assert entry["request_id"] == answer.headers["x-request-id"]


async def test_a_scope_that_looks_like_a_wildcard_opens_nothing(stage: TestApp) -> None:
    who = await stage.who("wild")
    for scope in ("jobs:*", "*:read", "*:*", "**", "jobs", "Jobs:read", "*"):
        made = await who.post("/api/v1/identity/keys", {"name": "wild", "scopes": [scope]})
        assert made.status_code in (403, 422), scope
    # Even where one got into the database, it is no more than a word.
    issued = await stage.runtime.identity.issue(account=who.principal.account, kind="live", name="w", scopes=())
    wild = ["jobs:*", "*:*", "ai:*", "jobs:create ", "JOBS:CREATE"]
    async with stage.runtime.platform.kernel.raw() as connection:
        await connection.execute("UPDATE kernel.keys SET scopes = $2 WHERE prefix = $1", issued.prefix, wild)
    async with stage.client(issued.secret) as client:
        assert (await client.post("/api/v1/ai/jobs", json=JOB)).status_code == 403
        assert (await client.get("/api/v1/ai/jobs")).status_code == 403
    assert {entry["object"] for entry in await told(stage, issued.id, 2)} == {"jobs:create", "jobs:read"}


async def test_a_scope_of_another_module_opens_nothing(stage: TestApp) -> None:
    who = await narrow(stage, "miners:read")
    assert (await who.get("/api/v1/gpu/miners")).status_code == 200
    for path in ("/api/v1/ai/jobs", "/api/v1/trading/receipts", "/api/v1/operations/audit"):
        assert (await who.get(path)).status_code == 403, path
    found = await told(stage, who.principal.key, 3)
    assert {entry["object"] for entry in found} >= {"jobs:read", "audit:read"}
    assert {entry["details"]["operation"] for entry in found} >= {"GET /api/v1/ai/jobs", "GET /api/v1/operations/audit"}


async def test_every_kind_of_door_takes_note(stage: TestApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Straight, the framework's own, one with a body that is no JSON, one that streams, and the older paths."""
    doors = {
        "straight": ("GET", "/api/v1/ai/jobs"),
        "framework": ("GET", "/api/v1/ai/jobs"),
        "raw body": ("POST", "/api/v1/ai/artifacts"),
        "stream": ("GET", f"/api/v1/ai/jobs/{new_id('job')}/events"),
        "older": ("GET", "/ai/jobs"),
        "older coordinator": ("GET", "/coordinator/miners"),
    }
    for name, (method, path) in doors.items():
        who = await narrow(stage, "self:read")
        with monkeypatch.context() as patch:
            if name == "framework":
                patch.setattr(FastRoutes, "find", lambda self, method, path: (None, ""))
            raw = {"content-type": "application/octet-stream"} if name == "raw body" else {}
            answer = await who.client.request(method, path, content=b"x" if raw else None, headers=raw)
        assert answer.status_code == 403, (name, answer.text)
        (entry,) = await told(stage, who.principal.key, 1)
        assert entry["request_id"] == answer.headers["x-request-id"], name
        assert entry["details"]["operation"].startswith(method), name


async def test_a_flood_is_two_rows_a_minute(stage: TestApp) -> None:
    who = await narrow(stage, "self:read")
    for _ in range(50):
        assert (await who.get("/api/v1/ai/jobs")).status_code == 403
    assert len(await told(stage, who.principal.key, 1)) == 1
    clock.move(timedelta(seconds=61))
    last = await who.get("/api/v1/ai/jobs")
    first, gathered, fresh = await told(stage, who.principal.key, 3)
    assert (first["details"]["times"], gathered["details"]["times"], fresh["details"]["times"]) == (1, 49, 1)
    assert gathered["details"]["since"] == first["at"].replace("Z", "+00:00")
    assert fresh["request_id"] == last.headers["x-request-id"]


async def test_what_was_windows_is_written_when_its_minute_is_over_or_the_server_stops(
    stage: TestApp, target: Target, tmp_path: Path
) -> None:
    async with running_app(target, tmp_path) as stopping:
        quiet, late = await narrow(stopping, "self:read"), await narrow(stopping, "self:read")
        for who in (quiet, quiet, late, late, late):
            await who.get("/api/v1/ai/jobs")
        clock.move(timedelta(seconds=61))
        assert [entry["details"]["times"] for entry in await told(stopping, quiet.principal.key, 2)] == [1, 1]
        for _ in range(3):
            await late.get("/api/v1/ai/jobs")
    times = [entry["details"]["times"] for entry in await refusals(stage, late.principal.key)]
    assert times == [1, 2, 1, 2]


async def test_a_refusal_waits_for_no_database(stage: TestApp, monkeypatch: pytest.MonkeyPatch) -> None:
    who = await narrow(stage, "self:read")
    assert (await who.get("/api/v1/identity/keys/self")).status_code == 200
    denials = stage.runtime.denials
    away = Database("kernel", GONE, list(Base.metadata.tables.values()))
    with monkeypatch.context() as patch:
        patch.setattr(denials, "_database", away)
        assert (await who.get("/api/v1/ai/jobs")).status_code == 403
        with pytest.raises(Unavailable):
            await denials.write()
    assert len(await told(stage, who.principal.key, 1)) == 1
    await away.close()


class SlowToReturn:
    """A database whose connections take a moment to be given back."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.has_written = asyncio.Event()

    @asynccontextmanager
    async def raw(self, *, writes: bool) -> AsyncIterator[Connection]:
        """A connection."""
        async with self._database.raw(writes=writes) as connection:
            yield connection
            self.has_written.set()
            await asyncio.sleep(0.05)


async def test_who_is_stopped_just_after_it_wrote_does_not_write_again(stage: TestApp) -> None:
    database, key = SlowToReturn(stage.runtime.platform.kernel), new_id("key")
    denials = Denials(cast(Database, database))
    running = asyncio.create_task(denials.run())
    denials.record(Principal(new_id("acct"), key, "live", frozenset()), "jobs:read", "GET /")
    async with asyncio.timeout(30):
        await database.has_written.wait()
    running.cancel()
    await asyncio.wait({running})
    await denials.close()
    assert [entry["details"]["times"] for entry in await refusals(stage, key)] == [1]


async def test_what_waits_and_what_is_windows_is_bounded() -> None:
    denials = Denials(Database("kernel", GONE, list(Base.metadata.tables.values())))
    for _ in range(WINDOWS_MAX + 10):
        denials.record(Principal("acct_a", new_id("key"), "live", frozenset()), "jobs:read", "GET /")
    assert len(denials._windows) == WINDOWS_MAX
    assert len(denials._queue) == QUEUE_MAX
