"""Placements: what is chosen is what trying everything would choose."""

import random
from collections.abc import Iterator, Sequence
from datetime import timedelta

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.modules.ai.models.placements import Place, best_ways, cheapest, fastest
from aitbc.modules.ai.service.placements import ComparePlacements
from tests.modules.ai.make import Worker, a_job, ai_on
from tests.scale import scaled

Outcome = tuple[int, int]
"""Milliseconds and price."""


def everything(places: Sequence[Place], jobs: int) -> Iterator[Outcome]:
    """What every way to share the jobs takes and costs."""
    if not places:
        if jobs == 0:
            yield 0, 0
        return
    first, *others = places
    for share in range(jobs + 1):
        for time, price in everything(others, jobs - share):
            yield max(time, first.time_for(share)), price + first.price_units * share


def test_the_optimum_is_that_of_trying_everything() -> None:
    chance = random.Random(22)
    for _ in range(scaled(60, 2000)):
        count = chance.randint(1, 5)
        places = [
            Place(f"mnr_{number}", chance.randint(1, 6), chance.randint(1, 8) * 100, chance.randint(1, 3))
            for number in range(count)
        ]
        jobs = chance.randint(1, 6)
        tried = set(everything(places, jobs))
        deadline, budget = chance.randint(50, 2000), chance.randint(1, 30)
        in_time = [(price, time) for time, price in tried if time <= deadline]
        found = cheapest(places, jobs, deadline)
        assert (None if found is None else (found.price_units, found.milliseconds)) == min(in_time, default=None)
        affordable = [(time, price) for time, price in tried if price <= budget]
        found = fastest(places, jobs, budget)
        assert (None if found is None else (found.milliseconds, found.price_units)) == min(affordable, default=None)
        best = {one for one in tried if not any(o != one and o[0] <= one[0] and o[1] <= one[1] for o in tried)}
        ways = best_ways(places, jobs, 1000)
        assert {(way.milliseconds, way.price_units) for way in ways} == best
        assert all(sum(share for _, share in way.shares) == jobs for way in ways)
        some = best_ways(places, jobs, 2)
        assert (some[0], some[-1]) == (ways[0], ways[-1])


async def test_what_is_known_of_the_miners_that_fit_is_compared(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, measured, unknown = market.person(), Worker(market), Worker(market)
        plans = market.ai.placement_plans
        asked = ComparePlacements(job=a_job(), jobs=10)
        found = await plans.compare(alice, asked)
        assert (found.problem, found.ways) == ("no miner that is online fits", ())
        for worker in (measured, unknown):
            async with market.ai.db.unit_of_work() as uow:
                await market.ai.on_miners_changed(uow, [worker.changed()])
        assert (await plans.compare(alice, asked)).problem == "of no miner that fits a speed is measured"
        for _ in range(3):
            await market.submit(alice)
            lease = await measured.take()
            clock.move(timedelta(seconds=2))
            await measured.renew(lease)
            await measured.deliver(lease)
        clock.move(timedelta(minutes=10))
        found = await plans.compare(alice, asked)
        assert (found.miners_fitting, found.miners_measured, found.problem) == (2, 1, None)
        assert found.cheapest == found.fastest == found.ways[0]
        (share,) = found.ways[0].shares
        assert (share.miner, share.jobs) == (measured.id, 10)
        late = await plans.compare(alice, ComparePlacements(job=a_job(), jobs=10, deadline_seconds=0.001))
        assert late.cheapest is None and late.fastest is not None
        assert "shortest way takes" in (late.problem or "")
        poor = await plans.compare(alice, ComparePlacements(job=a_job(), jobs=10, budget="0.00000001"))
        assert poor.fastest is None and "cheapest way costs" in (poor.problem or "")
