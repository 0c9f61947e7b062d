"""How many open jobs an account may have: counted with what is written, refused beyond."""

import asyncio
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.modules.ai.api import TooManyOpenJobs
from tests.modules.ai.make import AITBC, MISCOUNTED, Desk, Worker, a_job, a_key, ai_on


async def _counts(desk: Desk, who: Principal) -> dict[bool, int]:
    """Jobs written, and jobs ended."""
    account = ids.decode("acct", who.account)
    rows = await desk.sql("SELECT ended, jobs FROM ai.job_counts WHERE account = $1", account)
    return {row["ended"]: row["jobs"] for row in rows}


async def test_two_hundred_at_once_admit_as_many_as_may_be_open(owner: Target) -> None:
    async with ai_on(owner, open_jobs_per_account=10) as desk:
        alice, bob = desk.person(), desk.person()
        count = 200
        submits = [desk.submit(who) for _ in range(count // 2) for who in (alice, bob)]
        done = await asyncio.gather(*submits, return_exceptions=True)
        assert {type(job) for job in done} == {str, TooManyOpenJobs}
        assert sum(isinstance(job, str) for job in done) == 20
        assert all(isinstance(job, str | TooManyOpenJobs) for job in done)
        rows = await desk.sql("SELECT account, count(*) AS jobs FROM ai.jobs GROUP BY account")
        assert [row["jobs"] for row in rows] == [10, 10]
        assert desk.trading.available[alice.account] == 100 * AITBC - 10 * 5_000_000
        assert await desk.sql(MISCOUNTED) == []


async def test_several_servers_together_admit_no_more(owner: Target) -> None:
    async with ai_on(owner, open_jobs_per_account=10) as one:
        async with ai_on(owner, open_jobs_per_account=10, trading=one.trading) as two:
            alice = one.person()
            submits = [desk.submit(alice) for _ in range(20) for desk in (one, two)]
            done = await asyncio.gather(*submits, return_exceptions=True)
        assert sum(isinstance(job, str) for job in done) == 10
        assert all(isinstance(job, str | TooManyOpenJobs) for job in done)
        assert await one.sql(MISCOUNTED) == []


async def test_a_refused_request_moves_no_money_and_may_be_repeated(owner: Target) -> None:
    async with ai_on(owner, open_jobs_per_account=1) as desk:
        alice = desk.person(10 * AITBC)
        first = await desk.submit(alice)
        for _ in range(2):  # the second is refused before money is held
            with pytest.raises(TooManyOpenJobs) as refused:
                await desk.submit(alice, a_key(alice, "again"))
            assert refused.value.details["open_jobs_max"] == 1
        assert desk.trading.available[alice.account] == 10 * AITBC - 5_000_000
        assert len(desk.trading.holds) == 2
        await desk.ai.stops.cancel(alice, first, a_key(alice))
        second = await desk.submit(alice, a_key(alice, "again"))
        assert await desk.state(second) == "queued"
        assert await _counts(desk, alice) == {False: 2, True: 1}


async def test_a_repeated_request_is_answered_however_many_are_open(owner: Target) -> None:
    async with ai_on(owner, open_jobs_per_account=1) as desk:
        alice = desk.person()
        job = await desk.submit(alice, a_key(alice, "k"))
        with pytest.raises(TooManyOpenJobs):
            await desk.submit(alice)
        assert await desk.submit(alice, a_key(alice, "k")) == job


async def test_twins_that_are_refused_are_both_refused(owner: Target) -> None:
    async with ai_on(owner, open_jobs_per_account=1) as desk:
        alice = desk.person()
        await desk.submit(alice)
        twins = [desk.submit(alice, a_key(alice, "twin")) for _ in range(8)]
        done = await asyncio.gather(*twins, return_exceptions=True)
        assert all(isinstance(answer, TooManyOpenJobs) for answer in done)
        assert await desk.sql("SELECT key FROM ai.answers WHERE key = 'twin'") == []


async def _delivered(desk: Desk, miner: Worker, who: Principal, job: str) -> Any:
    await miner.deliver(await miner.take())


async def _failed(desk: Desk, miner: Worker, who: Principal, job: str) -> Any:
    await miner.fail(await miner.take(), "platform")
    await desk.later(2)
    lease = await miner.take()
    await miner.fail(lease, "unknown")


async def _canceled(desk: Desk, miner: Worker, who: Principal, job: str) -> Any:
    for _ in range(2):
        await desk.ai.stops.cancel(who, job, a_key(who))


async def _expired(desk: Desk, miner: Worker, who: Principal, job: str) -> Any:
    await desk.later(3600)


async def _lost(desk: Desk, miner: Worker, who: Principal, job: str) -> Any:
    await miner.take()
    await desk.later(40)


async def _spoilt(desk: Desk, miner: Worker, who: Principal, job: str) -> Any:
    await desk.sql("UPDATE ai.jobs SET input = 'no json'")
    assert await miner.claim() == []


@pytest.mark.parametrize("end", [_delivered, _failed, _canceled, _expired, _lost, _spoilt])
async def test_a_job_that_ended_any_way_makes_room_once(owner: Target, end: Any) -> None:
    async with ai_on(owner, open_jobs_per_account=1) as desk:
        alice, miner = desk.person(), Worker(desk)
        job = await desk.submit(alice, clocks={"queue_seconds": 60}, retry={"attempts_max": 1})
        await end(desk, miner, alice, job)
        assert await desk.state(job) not in ("queued", "leased", "running")
        assert await _counts(desk, alice) == {False: 1, True: 1}
        await desk.submit(alice)
        with pytest.raises(TooManyOpenJobs):
            await desk.ai.submissions.submit(alice, a_job(), a_key(alice))
