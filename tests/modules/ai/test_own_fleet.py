"""Own fleet first: jobs of an account for its own miners come before others', cost no fee, and prove nothing."""

import asyncio

from msgspec import structs

from aitbc.kernel.database.unit_of_work import Target
from tests.eventually import eventually
from tests.modules.ai.make import Market, Worker, a_job, a_key, ai_on


async def with_fleet(market: Market, *workers: Worker) -> None:
    async with market.ai.db.unit_of_work() as uow:
        await market.ai.on_miners_changed(uow, [worker.changed() for worker in workers])


async def test_own_jobs_are_taken_before_all_others_by_own_miners_only(owner: Target) -> None:
    async with ai_on(owner) as market:
        mine, other = Worker(market), Worker(market)
        person, crowd = market.person(), market.person()
        mine.account = person.account
        await with_fleet(market, mine, other)
        before = [await market.submit(crowd) for _ in range(3)]
        own = [await market.submit(person) for _ in range(2)]
        told = await market.ai.explanations.explain(person, own[0])
        assert "Miners of its own account that can: 1" in told.summary
        quote = await market.ai.quotes.quote(person, a_job())
        assert (quote.own_miners, quote.miners_eligible) == (1, 2)
        assert (await market.ai.quotes.quote(crowd, a_job())).own_miners == 0

        leases = await mine.claim(slots=3)
        assert [lease.job for lease in leases] == [*own, before[0]]  # its own first, then whose turn it is
        assert [lease.job for lease in await other.claim(slots=5)] == before[1:]

        outcome = await mine.deliver(leases[0])
        assert outcome.earned == outcome.price  # no fee
        paid = await mine.deliver(leases[2])
        assert paid.earned != paid.price
        told = await market.ai.explanations.explain(person, own[0])
        assert "without a fee" in told.summary

        found = await market.ai.statistics.of_kind("embed", None, 1)
        assert (found.settled, len(await market.ai.durations.recent("embed"))) == (1, 1)
        assert found.newcomer_share == 0.0
        rows = await market.sql("SELECT body FROM ai.outbox WHERE kind = 'ai.attempt_ended' ORDER BY id")
        assert ['"is_own_work":true' in row["body"] for row in rows] == [True, False]


async def test_an_own_miner_that_waits_is_woken_first_and_a_quorum_has_no_vote_of_its_payer(owner: Target) -> None:
    async with ai_on(owner, started=True) as market:
        person = market.person()
        other, mine = Worker(market, reputation=0.9), Worker(market, reputation=0.1)
        mine.account = person.account
        await with_fleet(market, mine, other)
        waits = [asyncio.create_task(worker.claim(wait_seconds=50.0)) for worker in (other, mine)]

        async def both_wait() -> bool:
            return len(market.ai.wakeups.miners) == 2

        await eventually(both_wait)
        job = await market.submit(person)
        (lease,) = await asyncio.wait_for(waits[1], 30)
        assert lease.job == job
        assert not waits[0].done()
        checked = structs.replace(a_job(), verification="quorum:2")
        await market.ai.submissions.submit(person, checked, a_key(person))
        (voted,) = await asyncio.wait_for(waits[0], 30)
        assert voted.job != job
        assert await mine.claim() == []
