"""Limits and retention: what a vote sets holds for the next request, and for the next round of maintenance."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from tests.app import TestApp
from tests.journeys.hand_miner import HandMiner

JOB = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "1"}
ROWS = {
    "messages": """INSERT INTO hermes.messages (id, queue, account, run, url, body, headers, state, attempts, due_at, error,
        keeps_answer, created_at, ended_at)
        VALUES (:word, 'q', gen_random_uuid(), gen_random_uuid(), '', '', '', 'sent', 1, :at, '', false, :at, :at)""",
    "proofs": """INSERT INTO gpu.proofs (id, miner, uuid, step, seed, size, memory_mib, asked_at, due_at, ended_at)
        VALUES (gen_random_uuid(), :miner, 'GPU-0', 'failed', '', 16, 1, :at, :at, :at)""",
    "readings": """INSERT INTO gpu.readings (miner, uuid, step, at, samples) VALUES (:miner, 'GPU-0', 'minute', :at, 1)""",
    "minutes": """INSERT INTO monitoring.figures (name, width, start, count, total, low, high, last)
        VALUES (:word, 60, :at, 1, 1, 1, 1, 1)""",
    "days": """INSERT INTO monitoring.figures (name, width, start, count, total, low, high, last)
        VALUES (:word, 86400, :at, 1, 1, 1, 1, 1)""",
}
OLDEST = {"messages": "ended_at", "proofs": "asked_at", "readings": "at", "figures": "start"}
OLD: dict[str, tuple[str, str, str, str, int, timedelta]] = {
    "hermes.kept_days": ("hermes", "tidy", "messages", "messages", 5, timedelta(days=6)),
    "monitoring.minutes_kept_hours": ("monitoring", "purge", "minutes", "figures", 8, timedelta(hours=9)),
    "monitoring.days_kept_days": ("monitoring", "purge", "days", "figures", 100, timedelta(days=101)),
    "gpu.proofs_kept_days": ("gpu", "expire_proofs", "proofs", "proofs", 5, timedelta(days=6)),
    "gpu.minute_readings_hours": ("gpu", "keep_readings", "readings", "readings", 3, timedelta(hours=4)),
}
"""By parameter: module, task, row, table, a value, and an age that is older than that and younger than the default."""


async def put(stage: TestApp, **values: Any) -> None:
    """Set live parameters, as an executed proposal does."""
    parameters = stage.runtime.platform.parameters
    named = [(name.replace("__", "."), value) for name, value in values.items()]
    await parameters.set(named, ids.new_id("prop"))


async def test_limits_of_an_account_hold_from_the_next_request_on(stage: TestApp) -> None:
    alice = await stage.who("alice", funds="50")
    await put(stage, ai__open_jobs_per_account=1, ai__payload_retention_seconds=7_200)
    first = await alice.post("/api/v1/ai/jobs", JOB)
    assert (first.status_code, first.json()["clocks"]["retention_seconds"]) == (201, 7_200), first.text
    refused = await alice.post("/api/v1/ai/jobs", JOB)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_open_jobs"), refused.text
    await put(stage, ai__open_jobs_per_account=None, ai__payload_retention_seconds=None)
    second = await alice.post("/api/v1/ai/jobs", JOB)
    assert (second.status_code, second.json()["clocks"]["retention_seconds"]) == (201, 604_800), second.text


async def test_what_is_stored_is_kept_and_weighs_as_was_voted(stage: TestApp) -> None:
    alice = await stage.who("alice")
    alice.client.headers["Content-Type"] = "application/octet-stream"
    await put(stage, ai__artifact_retention_seconds=3_600, ai__artifact_quota_bytes=2**20)
    stored = await alice.client.post("/api/v1/ai/artifacts", content=b"x" * 1_000)
    assert stored.status_code == 201, stored.text
    until = stored.json()["expires_at"]
    assert until <= (now() + timedelta(seconds=3_601)).isoformat()
    full = await alice.client.post("/api/v1/ai/artifacts", content=b"y" * 2**20)
    assert full.json()["code"] == "artifact_quota_exceeded", full.text
    await put(stage, ai__artifact_retention_seconds=None, ai__artifact_quota_bytes=None)
    assert (await alice.client.post("/api/v1/ai/artifacts", content=b"y" * 2**20)).status_code == 201


@pytest.mark.parametrize("parameter", OLD)
async def test_maintenance_removes_what_is_older_than_was_voted(stage: TestApp, parameter: str) -> None:
    module, task, row, table, value, age = OLD[parameter]
    miner = await HandMiner.enrol(stage, await stage.who("owner"))
    service, insert, at = stage.service(module), ROWS[row], now() - age
    given = {"at": at, "miner": ids.decode("mnr", miner.id), "word": ids.new_id("x")}

    async def is_there() -> bool:
        async with service.db.reading() as session:
            count = text(f"SELECT count(*) FROM {module}.{table} WHERE {OLDEST[table]} = :at")
            return bool(await session.scalar(count, {"at": at}))

    async with service.db.unit_of_work() as uow:
        await uow.session.execute(text(insert), {name: one for name, one in given.items() if f":{name}" in insert})
    await getattr(service, task)()
    assert await is_there()
    await put(stage, **{parameter.replace(".", "__"): value})
    clock.move(timedelta(hours=1))
    await getattr(service, task)()
    assert not await is_there()


KEPT: dict[str, str] = {
    "ai.outbox": """INSERT INTO ai.outbox (id, kind, body, created_at, due_at, attempts, delivered_at)
        VALUES (gen_random_uuid(), 'ai.job_closed', '{}', :at, :at, 1, :at)""",
    "trading.inbox": "INSERT INTO trading.inbox (event_id, handler, heard_at) VALUES (gen_random_uuid(), 'x', :at)",
    "ai.answers": "INSERT INTO ai.answers (account, key, fingerprint, created_at) VALUES (:word, 'x', '', :at)",
    "plugins.fetches": "INSERT INTO plugins.fetches (digest, day) VALUES (:word ::text ::bytea, :at)",
    "kernel.webhook_deliveries": """INSERT INTO kernel.webhook_deliveries (id, endpoint, account, type, body, state, attempts,
        created_at, due_at, ended_at) SELECT gen_random_uuid(), id, account, 'x', '{}', 'dead', 1, :at, :at, :at
        FROM kernel.webhook_endpoints LIMIT 1""",
}
LONGER = {
    "kernel__events_kept_hours": 2_160,
    "kernel__answers_kept_hours": 2_160,
    "plugins__downloads_kept_days": 90,
    "webhooks__kept_days": 365,
}
MOMENTS = {"outbox": "delivered_at", "inbox": "heard_at", "answers": "created_at", "fetches": "day"}


async def test_rows_of_the_platform_itself_are_kept_as_long_as_was_voted(stage: TestApp) -> None:
    alice, runtime, at = await stage.who("alice"), stage.runtime, now() - timedelta(days=30)
    made = await alice.post("/api/v1/webhooks/endpoints", {"url": "https://example.org/x"})
    assert made.status_code == 201, made.text
    databases = runtime.databases

    async def there() -> set[str]:
        found = set()
        for name in KEPT:
            schema, _, table = name.partition(".")
            async with databases[schema].reading() as session:
                moment = MOMENTS.get(table, "ended_at")
                older = text(f"SELECT count(*) FROM {name} WHERE {moment} <= :at")
                found |= {name} if await session.scalar(older, {"at": at}) else set()
        return found

    async def clean_up() -> None:
        await runtime.operations.purge(runtime.retention)
        await runtime.webhooks.purge(runtime.retention.of_deliveries())
        await stage.service("plugins").purge()

    await put(stage, **LONGER)
    for name, insert in KEPT.items():
        given = {"at": at, "word": ids.new_id("x")}
        async with databases[name.partition(".")[0]].unit_of_work() as uow:
            await uow.session.execute(text(insert), {key: one for key, one in given.items() if f":{key}" in insert})
    await clean_up()
    assert await there() == KEPT.keys()
    await put(stage, **dict.fromkeys(LONGER))
    await clean_up()
    assert await there() == set()


async def test_a_session_of_a_browser_lasts_as_long_as_was_voted(stage: TestApp) -> None:
    alice, sessions = await stage.who("alice"), stage.runtime.sessions
    for hours in (2, None):
        await put(stage, kernel__session_life_hours=hours)
        await sessions.begin(alice.secret, "a browser")
        newest = (await sessions.sessions(alice.principal))[0]
        assert newest.expires_at - newest.created_at == timedelta(hours=hours or 7 * 24)
