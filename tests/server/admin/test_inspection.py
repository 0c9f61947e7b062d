"""What an operator looks into: sizes and locks of the database, settings with their origin, and levels of the log."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.telemetry import logs
from aitbc.server.config.loading import Row
from tests.app import TestApp, running_app

API = "/api/v1/operations"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for the whole file, so that its tests can share an app."""
    return "asyncio"


@pytest.fixture(scope="module")
async def app(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], Target], anyio_backend: str
) -> AsyncIterator[TestApp]:
    """A running app."""
    async with running_app(new_database(), tmp_path_factory.mktemp("state")) as made:
        yield made


async def test_the_database_tells_its_size_and_who_waits_for_whom(app: TestApp) -> None:
    admin, trading = await app.admin(), app.runtime.wired.databases["trading"]
    async with trading.raw(writes=True) as holder, trading.raw(writes=True) as waiter:
        pid = await holder.fetchval("SELECT pg_backend_pid()")
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("SELECT pg_advisory_xact_lock(4711)")
        waits = asyncio.create_task(waiter.fetchval("SELECT pg_advisory_xact_lock(4711)"))
        async with asyncio.timeout(30):
            blocked: list[dict[str, Any]] = []
            while not blocked:
                state = (await admin.get(f"{API}/database")).json()
                blocked = [one for one in state["running"] if one["blocked_by"] == [pid]]
        await transaction.rollback()
        await waits
    assert blocked[0]["module"] == "trading" and "pg_advisory_xact_lock" in blocked[0]["text"]
    assert blocked[0]["waits_for"].startswith("Lock ") and blocked[0]["seconds"] >= 0
    assert state["size_bytes"] > 1_000_000 and {"kernel", "ai"} <= {one["module"] for one in state["schemas"]}
    assert state["tables"][0]["size_bytes"] >= state["tables"][-1]["size_bytes"] > 0
    assert state["slowest"] is None or all(one["calls"] >= 1 for one in state["slowest"])


async def test_settings_are_told_with_their_origin(app: TestApp) -> None:
    admin = await app.admin()
    app.runtime.described = (Row("server.port", "8080", "flag"),)
    told = (await admin.get(f"{API}/settings")).json()["data"]
    assert told == [{"name": "server.port", "value": "8080", "origin": "flag"}]


async def test_a_level_is_set_while_everything_runs_and_audited(app: TestApp) -> None:
    admin = await app.admin()
    before = dict(logs.current.levels.shown())
    try:
        answer = await admin.client.put(f"{API}/log-levels", json={"logger": "gpu", "level": "debug"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"][0]["levels"]["gpu"] == "debug"
        assert logs.current.levels.threshold("aitbc.gpu.miners") == logging.DEBUG
        assert (await admin.client.put(f"{API}/log-levels", json={"level": "error"})).status_code == 200
        assert logs.current.levels.threshold("aitbc.ai") == logging.ERROR
        entries = (await admin.get(f"{API}/audit", action="log.level")).json()["data"]
        assert [one["object"] for one in entries] == ["*", "gpu"]
        for wrong in ({"level": "loud"}, {"logger": "a b", "level": "info"}, {}):
            assert (await admin.client.put(f"{API}/log-levels", json=wrong)).status_code == 422
    finally:
        logs.current.levels.set("*", before["*"])
        logs.current.levels.set("gpu", before.get("gpu", before["*"]))


async def test_only_an_operator_looks(app: TestApp) -> None:
    buyer = await app.who("buyer")
    for path in ("settings", "database", "log-levels"):
        assert (await buyer.get(f"{API}/{path}")).status_code == 403
    assert (await buyer.client.put(f"{API}/log-levels", json={"level": "debug"})).status_code == 403
