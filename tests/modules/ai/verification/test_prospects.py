"""Why a miner got work or did not: each job of a time is counted once, by the first thing that stood in the way."""

from datetime import timedelta

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from tests.modules.ai.make import Worker, ai_on
from tests.modules.ai.verification.test_quorum import submit

pytestmark = pytest.mark.anyio


async def test_every_job_is_counted_once_by_what_stood_in_the_way(owner: Target) -> None:
    async with ai_on(owner) as market:
        who = market.person()
        mine, other, twin = (Worker(market, kinds=("embed",)) for _ in range(3))
        twin.account = mine.account
        async with market.ai.db.unit_of_work() as uow:
            await market.ai.fleet_view.apply(uow, [mine.changed()])
        clock.move(timedelta(days=1))
        ids.new_id("job")
        clock.move(timedelta(days=-1))  # a clock that was set back: ids go on from where they were
        await market.submit(who)
        await mine.deliver(await mine.take())  # of before: it counts no more
        clock.move(timedelta(hours=2))
        since = now()
        await market.submit(who)
        await mine.deliver(await mine.take())
        await market.submit(who)
        await other.deliver(await other.take())
        await market.submit(who, kind="command", value={"program": "wc"})
        await market.submit(who, region="mars")
        await market.submit(who, region="mars")
        await submit(market, who, "quorum:2")
        await twin.deliver(await twin.take())
        await other.deliver(await other.take())
        await submit(market, who, "recheck")
        await other.deliver(await other.take())
        await market.submit(who)
        found = await market.ai.prospects_of(mine.id, since)
        assert (found.jobs, found.taken, found.waiting) == (8, 1, 1)
        assert [(one.reason, one.jobs) for one in found.filtered] == [("region", 2), ("kind", 1)]
        assert {(one.reason, one.jobs) for one in found.lost} == {("earlier", 1), ("owner", 1), ("trusted", 1)}
        unknown = await market.ai.prospects_of(ids.new_id("mnr"), since)
        assert [(one.reason, one.jobs) for one in unknown.filtered] == [("not_known", 8)]
