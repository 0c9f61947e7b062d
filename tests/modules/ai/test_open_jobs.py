"""How many open jobs an account may have: counted with what is written, refused beyond."""

import asyncio
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.modules.ai.api import TooManyOpenJobs
from tests.modules.ai.make import AITBC, MISCOUNTED, Market, Worker, a_job, a_key, ai_on


async def _counts(market: Market, who: Principal) -> dict[bool, int]:
    """Jobs written, and jobs ended."""
    account = ids.decode("acct", who.account)
    rows = await market.sql("SELECT ended, jobs FROM ai.job_counts WHERE account = $1", account)
    return {row["ended"]: row["jobs"] for row in rows}


async def test_two_hundred_at_once_admit_as_many_as_may_be_open(owner: Target) -> None:
    async with ai_on(owner, open_jobs_per_account=10) as market:
        alice, bob = market.person(), market.person()
        count = 200
        submits = [market.submit(who) for _ in range(count // 2) for who in (alice, bob)]
        done = await asyncio.gather(*submits, return_exceptions=True)
        assert {type(job) for job in done} == {str, TooManyOpenJobs}
        assert sum(isinstance(job, str) for job in done) == 20
        assert all(isinstance(job, str | TooManyOpenJobs) for job in done)
        rows = await market.sql("SELECT account, count(*) AS jobs FROM ai.jobs GROUP BY account")
        assert [row["jobs"] for row in rows] == [10, 10]
        assert market.trading.available[alice.account] == 100 * AITBC - 10 * 5_000_000
        assert await market.sql(MISCOUNTED) == []


async def test_several_servers_together_admit_no_more(owner: Target) -> None:
    async with ai_on(owner, open_jobs_per_account=10) as one:
        async with ai_on(owner, open_jobs_per_account=10, trading=one.trading) as two:
            alice = one.person()
            submits = [market.submit(alice) for _ in range(20) for market in (one, two)]
            done = await asyncio.gather(*submits, return_exceptions=True)
        assert sum(isinstance(job, str) for job in done) == 10
        assert all(isinstance(job, str | TooManyOpenJobs) for job in done)
        assert await one.sql(MISCOUNTED) == []


async def test_a_refused_request_moves_no_money_and_may_be_repeated(owner: Target) -> None:
    async with ai_on(owner, open_jobs_per_account=1) as market:
        alice = market.person(10 * AITBC)
        first = await market.submit(alice)
        for _ in range(2):  # the second is refused before money is held
            with pytest.raises(TooManyOpenJobs) as refused:
                await market.submit(alice, a_key(alice, "again"))
            assert refused.value.details["open_jobs_max"] == 1
        assert market.trading.available[alice.account] == 10 * AITBC - 5_000_000
        assert len(market.trading.holds) == 2
        await market.ai.stops.cancel(alice, first, a_key(alice))
        second = await market.submit(alice, a_key(alice, "again"))
        assert await market.state(second) == "queued"
        assert await _counts(market, alice) == {False: 2, True: 1}


async def test_a_repeated_request_is_answered_however_many_are_open(owner: Target) -> None:
    async with ai_on(owner, open_jobs_per_account=1) as market:
        alice = market.person()
        job = await market.submit(alice, a_key(alice, "k"))
        with pytest.raises(TooManyOpenJobs):
            await market.submit(alice)
        assert await market.submit(alice, a_key(alice, "k")) == job


async def test_twins_that_are_refused_are_both_refused(owner: Target) -> None:
    async with ai_on(owner, open_jobs_per_account=1) as market:
        alice = market.person()
        await market.submit(alice)
        twins = [market.submit(alice, a_key(alice, "twin")) for _ in range(8)]
        done = await asyncio.gather(*twins, return_exceptions=True)
        assert all(isinstance(answer, TooManyOpenJobs) for answer in done)
        assert await market.sql("SELECT key FROM ai.answers WHERE key = 'twin'") == []


async def _delivered(market: Market, miner: Worker, who: Principal, job: str) -> Any:
    await miner.deliver(await miner.take())


async def _failed(market: Market, miner: Worker, who: Principal, job: str) -> Any:
    await miner.fail(await miner.take(), "platform")
    await market.later(2)
    lease = await miner.take()
    await miner.fail(lease, "unknown")


async def _canceled(market: Market, miner: Worker, who: Principal, job: str) -> Any:
    for _ in range(2):
        await market.ai.stops.cancel(who, job, a_key(who))


async def _expired(market: Market, miner: Worker, who: Principal, job: str) -> Any:
    await market.later(3600)


async def _lost(market: Market, miner: Worker, who: Principal, job: str) -> Any:
    await miner.take()
    await market.later(40)


async def _spoilt(market: Market, miner: Worker, who: Principal, job: str) -> Any:
    await market.sql("UPDATE ai.jobs SET input = 'no json'")
    assert await miner.claim() == []


@pytest.mark.parametrize("end", [_delivered, _failed, _canceled, _expired, _lost, _spoilt])
async def test_a_job_that_ended_any_way_makes_room_once(owner: Target, end: Any) -> None:
    async with ai_on(owner, open_jobs_per_account=1) as market:
        alice, miner = market.person(), Worker(market)
        job = await market.submit(alice, clocks={"queue_seconds": 60}, retry={"attempts_max": 1})
        await end(market, miner, alice, job)
        assert await market.state(job) not in ("queued", "leased", "running")
        assert await _counts(market, alice) == {False: 1, True: 1}
        await market.submit(alice)
        with pytest.raises(TooManyOpenJobs):
            await market.ai.submissions.submit(alice, a_job(), a_key(alice))
