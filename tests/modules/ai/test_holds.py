"""What is answered as succeeded is paid: holds are prolonged in time, and a result whose money is gone is refused clearly."""

import asyncio
import random
from contextlib import suppress
from contextvars import Context
from datetime import timedelta
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Unavailable
from aitbc.modules.ai.api import HoldExpired, Lease, LeaseLost
from aitbc.modules.ai.models.life import DELIVERY_MARGIN, HOLD_MARGIN
from aitbc.modules.ai.models.views import hold_of
from tests.modules.ai.make import AITBC, Market, Worker, ai_on
from tests.scale import scaled

LONG = timedelta(days=3)
"""Longer than any hold lives by itself."""


async def held_until(market: Market, job: str) -> Any:
    """Until when a job's money is held, as the job knows; which is never later than the ledger has it."""
    (row,) = await market.sql("SELECT hold_expires_at FROM ai.jobs WHERE id = $1", ids.decode("job", job))
    assert row["hold_expires_at"] <= market.trading.holds[hold_of(job)].expires_at
    return row["hold_expires_at"]


async def test_a_result_after_a_sleep_longer_than_the_hold_is_paid(owner: Target) -> None:
    async with ai_on(owner) as before:
        miner = Worker(before)
        jobs = [await before.submit(before.person()) for _ in range(3)]
        leases = await miner.claim(slots=3)
    clock.move(LONG)
    async with ai_on(owner, trading=before.trading, grace_seconds=35.0) as market:  # expiry of holds has its grace too
        miner.market = market
        await market.ai.sweep()
        for lease in leases:
            outcome = await miner.deliver(lease)
            assert (outcome.state, outcome.earned) == ("succeeded", "0.00000058")
        market.trading.expire_holds()
        assert {market.trading.holds[hold_of(job)].state for job in jobs} == {"settled"}
        clock.move(timedelta(minutes=2))
        report = await market.ai.payment_audit.verify()
        assert (report.ok, report.jobs) == (True, 3)
        await market.require_sound()


async def test_the_first_round_after_a_sleep_saves_the_holds_of_what_is_worked_on(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        job = await market.submit(market.person())
        lease = await miner.take()
        clock.move(LONG)
        await market.ai.prolong_holds()
        assert await held_until(market, job) >= now() + DELIVERY_MARGIN
        market.trading.expire_holds()
        market.trading.closed = True
        assert (await miner.deliver(lease)).state == "succeeded"  # accepted without asking, and paid later
        market.trading.closed = False
        assert market.trading.prolonged == 1


async def test_a_result_whose_money_has_gone_back_is_refused_and_nothing_is_given_for_it(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(AITBC), Worker(market)
        job = await market.submit(alice)
        lease = await miner.take()
        clock.move(LONG)
        market.trading.expire_holds()
        for _ in range(2):  # the second time it is told the same
            with pytest.raises(HoldExpired) as refused:
                await miner.deliver(lease)
            assert (refused.value.status, refused.value.code) == (409, "hold_expired")
        found = await market.ai.jobs.get(alice, job)
        assert (found.state, found.reason, found.fault, found.receipt) == ("failed", "hold_expired", "platform", None)
        assert bytes(found.output) == b"null"
        (attempt,) = found.history
        assert (attempt.state, attempt.fault, attempt.reason) == ("failed", "platform", "hold_expired")
        assert market.trading.available[alice.account] == AITBC
        kinds = await market.sql("SELECT kind FROM ai.outbox ORDER BY kind")
        assert [row["kind"] for row in kinds] == ["ai.attempt_ended", "ai.job_closed"]
        await market.require_sound()


async def test_a_result_sent_several_times_at_once_after_a_sleep_is_answered_the_same(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        await market.submit(market.person())
        result = miner.result(await miner.take())
        clock.move(LONG)
        outcomes = await asyncio.gather(*(market.ai.complete(result) for _ in range(10)))
        assert {(one.state, one.earned) for one in outcomes} == {("succeeded", "0.00000058")}
        await market.require_sound()


async def test_a_lease_whose_money_has_gone_back_is_ended_at_once(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        lost, kept = [await market.submit(market.person()) for _ in range(2)]
        leases = {lease.job: lease for lease in await miner.claim(slots=2)}
        clock.move(LONG)
        await market.trading.prolong([hold_of(kept)], now() + HOLD_MARGIN)
        market.trading.expire_holds()
        await market.ai.prolong_holds()
        assert [await market.state(job) for job in (lost, kept)] == ["failed", "leased"]
        assert await miner.renew(leases[lost]) == "lost"
        assert (await miner.deliver(leases[kept])).state == "succeeded"
        await market.require_sound()


async def test_no_result_is_accepted_while_nobody_can_say_whether_its_money_is_held(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        job = await market.submit(market.person())
        lease = await miner.take()
        clock.move(LONG)
        market.trading.closed = True
        with pytest.raises(Unavailable):
            await miner.deliver(lease)
        assert await market.state(job) == "leased"
        market.trading.closed = False
        assert (await miner.deliver(lease)).state == "succeeded"
        await market.require_sound()


async def test_the_deadline_counts_that_is_there_when_the_result_is_written(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        job = await market.submit(market.person())
        lease = await miner.take()
        shorten = "UPDATE ai.jobs SET hold_expires_at = now() + interval '1 hour' WHERE id = $1"
        async with market.ai.db.raw_transaction() as connection:
            await connection.execute(shorten, ids.decode("job", job))
            delivering = asyncio.get_running_loop().create_task(miner.deliver(lease), context=Context())
            await asyncio.sleep(0.2)  # it has looked, found the old deadline, and waits for the row
        with pytest.raises(Unavailable):
            await delivering
        assert await market.state(job) == "leased"
        assert (await miner.deliver(lease)).state == "succeeded"
        await market.require_sound()


@pytest.mark.parametrize("first", ["expiry", "acceptance"])
async def test_of_expiry_and_acceptance_one_wins(owner: Target, first: str) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(AITBC), Worker(market)
        job = await market.submit(alice)
        lease = await miner.take()
        clock.move(LONG)
        if first == "acceptance":
            market.trading.settles = False
            assert (await miner.deliver(lease)).state == "succeeded"
            market.trading.settles = True
            market.trading.expire_holds()
            assert market.trading.holds[hold_of(job)].state == "open"
        else:
            market.trading.expire_holds()
            with pytest.raises(HoldExpired):
                await miner.deliver(lease)
            assert market.trading.holds[hold_of(job)].state == "expired"
            assert market.trading.available[alice.account] == AITBC


async def test_a_result_that_waits_for_its_payment_keeps_its_hold_for_weeks(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        job = await market.submit(market.person())
        lease = await miner.take()
        market.trading.settles = False
        await miner.deliver(lease)
        for _ in range(20):
            clock.move(timedelta(hours=12))
            await market.ai.prolong_holds()
            market.trading.expire_holds()
            assert market.trading.holds[hold_of(job)].state == "open"
        report = await market.ai.payment_audit.verify()
        assert (report.ok, report.jobs, report.unpaid, report.unpaid_jobs) == (False, 1, 1, (job,))


async def test_a_job_whose_money_would_not_last_for_the_work_is_not_given_out(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        short, good = [await market.submit(alice) for _ in range(2)]
        await market.sql("UPDATE ai.jobs SET hold_expires_at = now() WHERE id = $1", ids.decode("job", short))
        assert [lease.job for lease in await miner.claim(slots=2)] == [good]
        assert await market.state(short) == "queued"


async def test_a_job_costs_no_call_more_than_before(owner: Target) -> None:
    async with ai_on(owner) as market:
        miner = Worker(market)
        await market.submit(market.person(), clocks={"queue_seconds": 86_400, "run_seconds": 3600})
        lease = await miner.take()
        clock.move(timedelta(seconds=3500))
        await miner.renew(lease)
        await market.ai.prolong_holds()
        await miner.deliver(lease)
        assert market.trading.prolonged == 0


@pytest.mark.parametrize("seed", range(scaled(8, 200)))
async def test_whatever_happens_no_job_has_succeeded_whose_money_went_back(owner: Target, seed: int) -> None:
    """Sleeps of any length, and a ledger that comes and goes; what waits for its payment is prolonged within the grace."""
    chance = random.Random(seed)
    async with ai_on(owner) as market:
        trading, miner, leases = market.trading, Worker(market), list[Lease]()
        jobs = [await market.submit(market.person()) for _ in range(3)]
        slept = False
        for _ in range(25):
            match chance.choice(("sleep", "expire", "prolong", "claim", "deliver", "deliver", "closed", "settles")):
                case "sleep":
                    clock.move(timedelta(hours=chance.choice((1, 13, 24, 30))))
                    slept = True
                case "expire" if not (slept and "succeeded" in [await market.state(job) for job in jobs]):
                    trading.expire_holds()
                case "prolong":
                    with suppress(Unavailable):
                        await market.ai.prolong_holds()
                        slept = trading.closed
                case "claim":
                    leases += await miner.claim(slots=2)
                case "deliver" if leases:
                    with suppress(Unavailable, HoldExpired, LeaseLost):
                        await miner.deliver(chance.choice(leases))
                case "closed":
                    trading.closed = not trading.closed
                case "settles":
                    trading.settles = not trading.settles
            for job in jobs:
                hold = trading.holds[hold_of(job)].state
                assert await market.state(job) != "succeeded" or hold in ("open", "settled")
