"""The rules of jobs do not lean on one isolation level: the same races, with the database's strictest."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives.errors import AppError, Conflict
from aitbc.modules.ai.api import LogLine, Part, Parts
from tests.modules.ai.make import Market, Pools, Worker, a_key, ai_on
from tests.modules.ai.test_streaming import CHAT, said
from tests.postgres import run_sql

JOBS = 12


@pytest.fixture(params=["read committed", "serializable"])
async def isolated(request: pytest.FixtureRequest, new_jobs: Callable[[], Target], pools: Pools) -> Target:
    """A database whose transactions are all of one level."""
    owner = new_jobs()
    level = f"ALTER DATABASE {owner.database} SET default_transaction_isolation = '{request.param}'"
    await run_sql(owner, level)
    return owner


async def attempt(work: Any) -> str:
    """What became of a command: every refusal is a definite one, and none is a plea to come back later."""
    try:
        await work
    except Conflict as refusal:
        return refusal.code
    except AppError as other:
        raise AssertionError(f"not definite: {other.code}") from other
    return "done"


async def race(market: Market, chance: random.Random, miner: Worker) -> None:
    """One job, which only this miner can take: worked on, and ended by whoever comes first."""
    alice = market.person()
    await market.submit(alice, **CHAT, region=miner.capabilities.region)
    lease = await miner.take()
    parts = (Part(sequence=1, text="one "),)
    line = [LogLine(sequence=1, at=lease.expires_at, text="a line")]
    ends = [
        miner.deliver(lease, said("one ")),
        market.ai.stops.cancel(alice, lease.job, a_key(alice)),
        market.ai.stops.stop(alice, lease.job, a_key(alice)),
        miner.fail(lease, "miner"),
        market.ai.tell_parts(Parts(miner=miner.id, attempt=lease.attempt, token=lease.token, parts=parts)),
        market.ai.log(miner.id, lease.attempt, lease.token, line),
        miner.renew(lease),
    ]
    chance.shuffle(ends)
    outcomes = Counter(await asyncio.gather(*(attempt(end) for end in ends)))
    assert outcomes["done"] >= 1
    if await market.state(lease.job) in ("queued", "running"):
        await market.ai.stops.cancel(alice, lease.job, a_key(alice))


async def test_races_end_each_job_once_at_either_level(isolated: Target) -> None:
    chance = random.Random(11)
    async with ai_on(isolated) as market:
        miners = [Worker(market, region=f"place {number}") for number in range(JOBS)]
        for start in range(0, JOBS, 4):
            await asyncio.gather(*(race(market, chance, miner) for miner in miners[start : start + 4]))
        await market.require_sound()
