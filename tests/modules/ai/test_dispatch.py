"""Dispatch: fair order, matching, waiting, and the periodic tasks that keep the queue moving."""

import asyncio
import tracemalloc
from contextvars import Context
from datetime import timedelta
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock, ids
from aitbc.modules.ai.models.queue import EXPLORE_ONE_IN, explores
from aitbc.modules.ai.service import AiSettings
from aitbc.modules.ai.service.sweeper import PAGE
from tests.modules.ai.make import ADMIN, AITBC, Market, Worker, ai_on
from tests.scale import scaled


async def test_a_flood_of_one_account_does_not_delay_the_others(owner: Target) -> None:
    async with ai_on(owner) as market:
        flood, light, late = market.person(), market.person(), market.person()
        count = 500
        await asyncio.gather(*(market.submit(flood) for _ in range(count)))
        single = await market.submit(light)
        miner = Worker(market)
        order = [lease.job for _ in range(3) for lease in await miner.claim()]
        assert single in order
        later = await market.submit(late)
        assert later in [lease.job for _ in range(3) for lease in await miner.claim()]


async def test_two_floods_share_and_none_starves(owner: Target) -> None:
    async with ai_on(owner) as market:
        one, two = market.person(), market.person()
        ones = [await market.submit(one) for _ in range(30)]
        miner = Worker(market)
        await miner.claim(slots=10)
        twos = [await market.submit(two) for _ in range(30)]
        taken = [lease.job for lease in await miner.claim(slots=20)]
        assert 9 <= sum(job in twos for job in taken) <= 11
        assert sum(job in ones for job in taken) == 20 - sum(job in twos for job in taken)


async def test_a_higher_priority_gets_a_larger_share_and_never_all(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person()
        normal = [await market.submit(alice, priority="normal") for _ in range(40)]
        urgent = [await market.submit(alice, priority="urgent") for _ in range(40)]
        taken = [lease.job for lease in await Worker(market).claim(slots=20)]
        assert 14 <= sum(job in urgent for job in taken) <= 18
        assert sum(job in normal for job in taken) >= 2


async def test_a_job_put_first_goes_before_every_other_and_takes_nobody_along(owner: Target) -> None:
    async with ai_on(owner) as market:
        flood, late, miner = market.person(), market.person(), Worker(market)
        jobs = [await market.submit(flood) for _ in range(5)]
        assert [lease.job for lease in await miner.claim(slots=1)] == jobs[:1]
        for job in jobs[3:]:  # the later word counts
            await market.ai.job_queue.put_first(ADMIN, job, "a demonstration")
        newcomer = await market.submit(late)
        order = [lease.job for lease in await miner.claim(slots=5)]
        assert order == [jobs[4], jobs[3], jobs[1], newcomer, jobs[2]]


async def test_a_job_goes_only_to_a_miner_that_fits(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person()
        wishes: dict[str, Any] = {
            "device": "gpu",
            "gpu_model": "NVIDIA_h100",
            "min_vram_mib": 40_000,
            "region": "eu",
            "model": "big",
        }
        right: dict[str, Any] = {
            "device": "gpu",
            "gpu_models": ("NVIDIA H100 80GB HBM3",),
            "vram_mib": 81_559,
            "region": "eu",
        }
        right |= {"models": {"embed": ("big",)}}
        async with market.ai.db.unit_of_work() as uow:
            await market.ai.on_miners_changed(uow, [Worker(market, **right).changed()])
        job = await market.submit(alice, **wishes)
        wrong: dict[str, Any]
        for wrong in (
            {"device": "cpu"},
            {"gpu_models": ("NVIDIA A100",)},
            {"vram_mib": 1},
            {"region": "us"},
            {"models": {"embed": ("small",)}},
            {"models": {}},
            {"kinds": ("chat",)},
        ):
            assert await Worker(market, **(right | wrong)).claim() == []
        assert [lease.job for lease in await Worker(market, **right).claim()] == [job]


async def test_jobs_that_nobody_can_take_do_not_hide_the_others(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person()
        await asyncio.gather(*(market.submit(alice, region="moon") for _ in range(300)))
        job = await market.submit(alice)
        assert [lease.job for lease in await Worker(market).claim()] == [job]


async def test_many_claims_at_once_never_share_a_job(owner: Target) -> None:
    async with ai_on(owner) as market, ai_on(owner, trading=market.trading) as replica:
        alice = market.person()
        jobs = set(await asyncio.gather(*(market.submit(alice) for _ in range(60))))
        miners = [Worker(market) for _ in range(25)] + [Worker(replica) for _ in range(25)]
        taken: list[str] = []
        while len(taken) < 60:
            for leases in await asyncio.gather(*(miner.claim(slots=2) for miner in miners)):
                taken += [lease.job for lease in leases]
        assert len(taken) == len(set(taken)) == 60
        assert set(taken) == jobs


async def test_a_miner_never_gets_more_than_its_slots_hold(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        for _ in range(8):
            await market.submit(alice)
        claims = await asyncio.gather(*(miner.claim(slots=3, total=3) for _ in range(4)))
        leases = [lease for claim in claims for lease in claim]
        assert len(leases) == 3
        assert await miner.claim(slots=3, total=3) == []
        await market.ai.complete(miner.result(leases[0]))
        assert len(await miner.claim(slots=3, total=3)) == 1


async def test_a_waiting_miner_is_woken_at_once(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person()
        for _ in range(20):
            waiting = asyncio.create_task(Worker(market).claim(wait_seconds=100))
            await asyncio.sleep(0.01)
            job = await market.submit(alice)
            async with asyncio.timeout(20):
                assert [lease.job for lease in await waiting] == [job]


async def test_only_as_many_miners_are_woken_as_there_are_jobs(owner: Target) -> None:
    async with ai_on(owner) as market:
        waiting = [asyncio.create_task(Worker(market).claim(wait_seconds=1.0)) for _ in range(200)]
        others = [asyncio.create_task(Worker(market, kinds=("chat",)).claim(wait_seconds=1.0)) for _ in range(20)]
        await asyncio.sleep(0.2)
        assert len(market.ai.wakeups.miners) == 220
        alice = market.person()
        await asyncio.gather(*(market.submit(alice) for _ in range(3)))
        await asyncio.sleep(0.2)
        assert len(market.ai.wakeups.miners) == 217
        assert sum(task.done() for task in waiting) == 3
        assert not any(task.done() for task in others)
        done = await asyncio.gather(*waiting, *others)
        assert sum(map(len, done)) == 3
        assert len(market.ai.wakeups.miners) == 0


async def all_wait(market: Market, count: int) -> None:
    """Until so many miners have looked and found nothing."""
    while len(market.ai.wakeups.miners) < count or market.ai.dispatch._claims._in_flight:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.001)


MANY = scaled(1000, 2000)


async def test_an_idle_waiting_miner_costs_little_memory(owner: Target) -> None:
    async with ai_on(owner) as market:
        workers = [Worker(market) for _ in range(MANY)]
        for worker in workers:
            worker.capabilities = workers[0].capabilities
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        waiting = [asyncio.create_task(worker.claim(wait_seconds=30)) for worker in workers]
        await all_wait(market, MANY)
        each = (tracemalloc.get_traced_memory()[0] - before) / MANY
        tracemalloc.stop()
        market.ai.wakeups.draining.set()
        market.ai.wakeups.miners.wake_all()
        assert await asyncio.gather(*waiting) == [[]] * MANY
        assert each < 6 * 1024, each


async def test_waits_end_at_once_when_the_process_drains(owner: Target) -> None:
    async with ai_on(owner, started=True) as market:
        alice = market.person()
        job = await market.submit(alice, region="moon")
        waits = [asyncio.create_task(Worker(market).claim(wait_seconds=30))]
        reads = [asyncio.create_task(market.ai.jobs.wait(alice, job, 30))]
        await asyncio.sleep(0.1)
        market.ai.wakeups.draining.set()
        async with asyncio.timeout(20):
            assert await asyncio.gather(*waits) == [[]]
            assert [(await read).state for read in reads] == ["queued"]


async def test_a_miner_that_waits_elsewhere_hears_of_the_job_too(owner: Target) -> None:
    async with ai_on(owner, started=True) as market, ai_on(owner, started=True, trading=market.trading) as replica:
        waiting = asyncio.create_task(Worker(replica).claim(wait_seconds=100))
        await asyncio.sleep(0.3)
        job = await market.submit(market.person())
        async with asyncio.timeout(20):
            assert [lease.job for lease in await waiting] == [job]


async def test_a_paused_job_reaches_a_waiting_miner_when_its_pause_is_over(owner: Target) -> None:
    async with ai_on(owner, started=True) as market:
        miner = Worker(market)
        job = await market.submit(market.person())
        await miner.fail(await miner.take(), "unknown")
        async with asyncio.timeout(30):
            assert [lease.job for lease in await miner.claim(wait_seconds=100)] == [job]


async def test_newcomers_get_their_share_beside_proven_miners(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person()
        proven, newcomer = Worker(market, reputation=0.9), Worker(market, newcomer=True)
        given: dict[str, bool] = {}
        for _ in range(scaled(60, 160)):
            await market.submit(alice)
            claims = await asyncio.gather(proven.claim(), newcomer.claim())
            (lease,) = [*claims[0], *claims[1]]
            given[lease.job] = bool(claims[1])
        assert given == {job: explores(ids.decode("job", job)) for job in given}
        assert EXPLORE_ONE_IN <= 10  # at least a tenth in the long run


async def test_waiting_newcomers_are_woken_for_their_share(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person()
        won = {"proven": 0, "newcomer": 0}
        while won["newcomer"] < scaled(2, 8) or won["proven"] <= won["newcomer"]:
            claims = {
                "proven": asyncio.create_task(Worker(market, reputation=0.9).claim(wait_seconds=100)),
                "newcomer": asyncio.create_task(Worker(market, newcomer=True).claim(wait_seconds=100)),
            }
            await all_wait(market, 2)
            job = await market.submit(alice)
            expected = "newcomer" if explores(ids.decode("job", job)) else "proven"
            async with asyncio.timeout(20):
                assert [lease.job for lease in await claims[expected]] == [job]
            won[expected] += 1
            for task in claims.values():
                task.cancel()
            await asyncio.gather(*claims.values(), return_exceptions=True)


async def test_a_full_page_that_cannot_be_helped_hides_no_later_row(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(1000 * AITBC), Worker(market)
        count = PAGE + 5
        await asyncio.gather(*(market.submit(alice, clocks={"queue_seconds": 60}) for _ in range(count)))
        while len(await market.sql("SELECT id FROM ai.attempts")) < count:
            await miner.claim(slots=64)
        clock.move(timedelta(seconds=40))
        # The first page is held by somebody else: it cannot be helped this time.
        first = await market.sql("SELECT job FROM ai.attempts ORDER BY id LIMIT $1", PAGE)
        async with market.ai.db.raw_transaction() as connection:
            await connection.execute(
                "SELECT id FROM ai.jobs WHERE id = ANY($1::uuid[]) FOR UPDATE", [row["job"] for row in first]
            )
            ended = await asyncio.create_task(_outside(market))
        assert ended == 5
        assert await market.ai.sweeper.end_lost_leases() == PAGE
        await market.require_sound()


async def _outside(market: Market) -> int:
    """The task in a context of its own, as it is in life."""
    return await asyncio.get_running_loop().create_task(market.ai.sweeper.end_lost_leases(), context=Context())


async def test_leases_are_left_alone_after_a_freeze(owner: Target) -> None:
    async with ai_on(owner, grace_seconds=0.3) as market:
        miner = Worker(market)
        job = await market.submit(market.person())
        await miner.take()
        clock.move(timedelta(seconds=100))
        await market.ai.sweep()  # the first round of this process: it may not have heard of renewals
        assert await market.state(job) == "leased"
        await asyncio.sleep(0.35)
        await market.ai.sweep()
        assert await market.state(job) == "queued"
        await Worker(market).take()
        clock.move(timedelta(seconds=100))
        await market.ai.sweep()  # the clock jumped, which nobody could know of
        assert await market.state(job) == "leased"
        await asyncio.sleep(0.35)
        await market.ai.sweep()
        assert await market.state(job) == "queued"


async def test_a_job_that_nobody_could_take_while_the_platform_stood_still_gets_the_grace_too(owner: Target) -> None:
    async with ai_on(owner, grace_seconds=0.3) as market:
        waited = await market.submit(market.person())
        clock.move(timedelta(hours=3))
        brief = await market.submit(market.person(), clocks={"queue_seconds": 10})
        await market.ai.sweep()
        assert await market.state(waited) == "queued"
        await market.sql(
            "UPDATE ai.jobs SET expires_at = expires_at - interval '9.9 seconds' WHERE id = $1",
            ids.decode("job", brief),
        )
        await asyncio.sleep(0.15)
        await market.ai.sweep()
        assert [await market.state(job) for job in (waited, brief)] == ["queued", "expired"]
        await asyncio.sleep(0.2)
        await market.ai.sweep()
        assert await market.state(waited) == "expired"


def test_the_settings_leave_room_for_a_lease() -> None:
    assert AiSettings().grace_seconds > 30


async def test_a_lease_that_never_arrived_is_given_again_to_its_own_session_only(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner, other = market.person(), Worker(market), Worker(market)
        jobs = [await market.submit(alice) for _ in range(3)]
        lost = await miner.claim(total=3, session="first-run")
        assert [lease.job for lease in lost] == jobs[:1]
        assert not {lease.attempt for lease in await other.claim(session="first-run")} & {lost[0].attempt}
        assert await miner.claim(total=1, session="another-run") == []  # its slot is taken, by that lease
        again = await miner.claim(slots=2, total=2, session="first-run", wait_seconds=5)
        assert again[0] == lost[0]
        assert [lease.job for lease in again] == [jobs[0], jobs[2]]
        have = tuple(lease.attempt for lease in again)
        assert await miner.claim(total=4, session="first-run", at_hand=have) == []
        assert await miner.renew(again[0]) == "live"
        assert [lease.job for lease in await miner.claim(total=4, session="first-run")] == [
            jobs[2]
        ]  # not what is begun
        for lease in again:
            assert (await miner.deliver(lease)).state == "succeeded"
        assert await miner.claim(total=4, session="first-run") == []
        rows = await market.sql("SELECT attempts, token FROM ai.jobs")
        assert {(row["attempts"], row["token"]) for row in rows} == {(0, 1)}


@pytest.mark.parametrize("wait", [0.0, 0.05])
async def test_an_empty_queue_answers_nothing(owner: Target, wait: float) -> None:
    async with ai_on(owner) as market:
        assert await Worker(market).claim(wait_seconds=wait) == []


async def test_a_lease_for_one_who_left_meanwhile_is_given_back(owner: Target) -> None:
    async with ai_on(owner) as market:
        job = await market.submit(market.person())
        claiming = asyncio.create_task(Worker(market).claim())
        while not market.ai.dispatch._claims._in_flight:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        claiming.cancel()
        await asyncio.gather(claiming, return_exceptions=True)
        await market.ai.dispatch._claims.drain()
        [(_, stray)] = market.ai.dispatch._orphaned
        assert stray.job == job
        await market.ai.return_orphaned_leases()
        assert not market.ai.dispatch._orphaned
        [again] = await Worker(market).claim()
        assert (again.job, again.number) == (job, 2)
