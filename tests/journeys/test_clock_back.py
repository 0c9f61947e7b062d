"""After a clock that went a day ahead and back nothing waits for tomorrow: work, leases, pauses, payments, heartbeats."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.modules.ai.api import Lease
from aitbc.modules.ai.service import AiSettings
from aitbc.server.webhooks import retention
from tests.app import running_app
from tests.journeys.test_long_sleep import leased, purse, verified, worker
from tests.modules.ai.make import a_job, a_key
from tests.postgres import run_sql

pytestmark = pytest.mark.anyio
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
async def _own_clock(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    for place in (
        "aitbc.modules.ai.service.sweeper",
        "aitbc.kernel.events.relay",
        "aitbc.modules.gpu.service.liveness",
    ):
        monkeypatch.setattr(f"{place}.CLOCK_CHECK_SECONDS", -1.0)
    yield
    clock.reset()


async def test_what_began_while_the_clock_was_ahead_goes_on_and_is_paid(
    new_database: Callable[[], Target], tmp_path: Path
) -> None:
    async with running_app(new_database(), tmp_path, tables={"ai": AiSettings(grace_seconds=0.0)}) as app:
        ai, buyer, miner, gone = app.service("ai"), await app.who(funds="10"), worker(app), worker(app)
        clock.move(DAY)
        kept, lost = (await leased(app, buyer, miner, 1))[0], (await leased(app, buyer, gone, 1))[0]
        waiting = await ai.submissions.submit(buyer.principal, a_job(), a_key(buyer.principal))
        failed = (await leased(app, buyer, miner, 1))[0]
        await miner.fail(failed, "unknown")
        clock.move(-DAY)
        await ai.sweep()
        assert (await miner.deliver(kept)).state == "succeeded"
        # The lease of the miner that is gone ends in its own time, and its job and the paused one are there at once.
        clock.move(timedelta(seconds=400))
        jobs: dict[str, Lease] = {}
        async with asyncio.timeout(30):  # the app sweeps too, and may be at it right now
            while not set(jobs) >= {lost.job, failed.job, waiting.id}:
                await ai.sweep()
                jobs |= {lease.job: lease for lease in await miner.claim(slots=9)}
        for lease in jobs.values():
            assert 0 < lease.run_seconds <= 301
            assert (await miner.deliver(lease)).state == "succeeded"
        assert (await purse(app, buyer))[1] == 0
        ok, _, unpaid = await verified(app)
        assert (ok, unpaid) == (True, [])


async def test_webhooks_and_heartbeats_of_tomorrow_count_as_of_now(
    new_database: Callable[[], Target], tmp_path: Path
) -> None:
    target = new_database()
    async with running_app(target, tmp_path) as app:
        who = await app.who()
        made = await who.post(
            "/api/v1/webhooks/endpoints", {"url": "https://example.org/x", "events": ["ai.job_closed"]}
        )
        assert made.status_code == 201, made.text
        await run_sql(
            target,
            "INSERT INTO kernel.webhook_deliveries (id, endpoint, account, event, type, body, state, attempts,"
            " created_at, due_at) SELECT gen_random_uuid(), id, account, gen_random_uuid(), 'x', '{}', 'pending', 0,"
            " now() + interval '1 day', now() + interval '1 day' FROM kernel.webhook_endpoints",
        )
        await retention.purge(app.runtime.platform.kernel, DAY)
        async with app.runtime.platform.kernel.raw() as connection:
            late = await connection.fetchval(
                "SELECT count(*) FROM kernel.webhook_deliveries WHERE state = 'pending' AND due_at > now() + interval '1 h'"
            )
        assert late == 0
