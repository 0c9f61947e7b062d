"""Health: alive without asking anybody, ready only with all that is needed, and reasons for those who may read them."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from litestar import Litestar
from litestar.datastructures import State
from litestar.testing import AsyncTestClient

from aitbc.kernel.primitives.errors import Unavailable
from aitbc.kernel.primitives.version import Build
from aitbc.kernel.telemetry.metrics import Metrics
from aitbc.server.admin.health import CACHE_SECONDS, Check, Connection, Health, HealthRoutes, disk_has_room

BUILD = Build(version="1.2.3", python="3.11.7")


async def fine() -> str | None:
    return None


async def migrations_missing() -> str | None:
    return "gpu waits for 0002."


async def refused() -> str | None:
    raise Unavailable("The database does not answer.")


async def broken() -> str | None:
    raise ConnectionError("canary-1")


async def hanging() -> str | None:
    await asyncio.sleep(60)
    return None


@asynccontextmanager
async def asking(
    checks: Mapping[str, Check], *, draining: asyncio.Event | None = None
) -> AsyncIterator[AsyncTestClient[Litestar]]:
    async def may_see(connection: Connection) -> bool:
        if connection.headers.get("authorization") == "Bearer hanging":
            await asyncio.sleep(60)
        return connection.headers.get("authorization") == "Bearer admin"

    health = Health(
        checks,
        build=BUILD,
        draining=draining or asyncio.Event(),
        metrics=Metrics(BUILD),
        may_see=may_see,
        schema={"gpu": "0001"},
    )
    app = Litestar([HealthRoutes], state=State({"health": health}))
    async with AsyncTestClient(app) as client:
        yield client


async def test_alive_asks_nobody_and_ready_asks_everybody() -> None:
    async with asking({"database": refused, "disk": fine}) as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json() == {"ready": False, "failing": ["database"]}
    async with asking({"database": fine}) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()) == (200, {"ready": True, "failing": []})


async def test_reasons_are_for_callers_who_may_see_them() -> None:
    checks = {"database": refused, "migrations": migrations_missing, "signer": broken, "disk": fine}
    async with asking(checks) as client:
        assert "checks" not in (await client.get("/readyz")).json()
        answer = (await client.get("/readyz", headers={"Authorization": "Bearer admin"})).json()
        reasons = {check["name"]: check["reason"] for check in answer["checks"]}
        assert reasons == {
            "database": "The database does not answer.",
            "migrations": "gpu waits for 0002.",
            "signer": "ConnectionError",
            "disk": None,
        }
        assert "canary-1" not in str(answer)


async def test_a_check_that_hangs_has_failed_when_its_time_is_up() -> None:
    async with asking({"database": hanging}) as client:
        started = time.monotonic()
        assert (await client.get("/readyz")).json()["failing"] == ["database"]
        assert time.monotonic() - started < 20


async def test_a_key_that_cannot_be_looked_up_holds_up_no_answer() -> None:
    async with asking({"database": refused}) as client:
        started = time.monotonic()
        answer = await client.get("/readyz", headers={"Authorization": "Bearer hanging"})
        assert time.monotonic() - started < 20
        assert answer.json() == {"ready": False, "failing": ["database"]}


async def test_a_draining_server_is_not_ready_and_still_alive() -> None:
    draining = asyncio.Event()
    async with asking({"database": fine}, draining=draining) as client:
        assert (await client.get("/readyz")).status_code == 200
        draining.set()
        assert (await client.get("/readyz")).json()["failing"] == ["draining"]
        assert (await client.get("/healthz")).status_code == 200


async def test_asking_often_does_not_burden_the_database() -> None:
    asked = 0

    async def counting() -> str | None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return None

    async with asking({"database": counting}) as client:
        started = time.monotonic()
        await asyncio.gather(*(client.get("/readyz") for _ in range(50)))
        at_most = 1 + int((time.monotonic() - started) / CACHE_SECONDS)
        assert 1 <= asked <= at_most
        before = asked
        await asyncio.sleep(CACHE_SECONDS)
        await client.get("/readyz")
        assert asked == before + 1


async def test_the_version_says_what_runs_and_what_the_database_stands_on() -> None:
    async with asking({}) as client:
        assert (await client.get("/version")).json() == {
            "version": "1.2.3",
            "api": "v1",
            "python": "3.11.7",
            "commit": None,
            "schema": {"gpu": "0001"},
        }


async def test_readiness_is_a_figure_for_each_check() -> None:
    async with asking({"database": refused, "disk": fine}) as client:
        lines = (await client.get("/metrics")).text.splitlines()
        assert 'aitbc_ready{check="database"} 0.0' in lines
        assert 'aitbc_ready{check="disk"} 1.0' in lines


async def test_metrics_are_text_and_their_route_asks_for_a_scope_of_its_own() -> None:
    async with asking({}) as client:
        answer = await client.get("/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert b"aitbc_build_info{" in answer.content
    permissions: dict[str, Any] = {
        path: handler.opt["permission"]
        for route in Litestar([HealthRoutes], openapi_config=None).routes
        for handler in getattr(route, "route_handlers", [])
        for path in handler.paths
        if handler.opt  # Litestar adds an OPTIONS handler of its own to each path
    }
    assert permissions == {
        "/healthz": "public",
        "/readyz": "public",
        "/version": "public",
        "/metrics": "metrics:read",
    }


async def test_a_disk_without_room_is_told_with_its_figures(tmp_path: Path) -> None:
    assert await disk_has_room(tmp_path, free_bytes_min=1)() is None
    reason = await disk_has_room(tmp_path, free_bytes_min=1 << 60)()
    assert reason is not None
    assert reason.startswith(f"{tmp_path} has ")
