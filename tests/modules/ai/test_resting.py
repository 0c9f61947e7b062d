"""A kind of a miner that fails again and again is taken out of the choice, and brought back by a single attempt."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.models.life import Ended, Fault
from aitbc.modules.ai.models.rest import FAULTS_MAX, REST_FIRST, REST_MAX, KindRecord, counts_against, note_fault
from aitbc.modules.ai.models.values import AttemptValue
from aitbc.modules.ai.service.kind_health import KindHealth
from tests.modules.ai.make import Market, Worker, ai_on

pytestmark = pytest.mark.anyio
CHAT: dict[str, Any] = {"kind": "chat", "value": {"messages": [{"role": "user", "content": "hi"}]}}
ANSWER = {"message": {"role": "assistant", "content": "Hello."}, "model": None, "finish_reason": "stop"}


async def break_down(market: Market, worker: Worker, times: int = FAULTS_MAX) -> None:
    """The miner fails at one job after the other."""
    alice = market.person()
    for _ in range(times):
        await market.submit(alice, **CHAT, retry={"attempts_max": 1})
        await worker.fail(await worker.take(), "miner")


async def test_a_kind_that_failed_three_times_in_a_row_gets_no_more_jobs_and_the_other_kinds_do(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, sick, well = market.person(), Worker(market), Worker(market)
        await break_down(market, sick)
        job = await market.submit(alice, **CHAT)
        assert await sick.claim(slots=4) == []
        other = await market.submit(alice)
        assert [lease.job for lease in await sick.claim(slots=4)] == [other]
        lease = await well.take()
        assert lease.job == job
        assert (await market.ai.jobs.get(alice, job)).attempts == 0


async def test_a_dead_engine_costs_each_job_no_more_attempts_once_it_rests(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, sick = market.person(), Worker(market)
        await break_down(market, sick)
        jobs = [await market.submit(alice, **CHAT) for _ in range(5)]
        for _ in range(10):
            assert await sick.claim(slots=4) == []
        assert [(await market.ai.jobs.get(alice, job)).attempts for job in jobs] == [0] * 5


async def test_one_job_is_tried_after_the_rest_and_its_success_brings_the_kind_back(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, sick = market.person(), Worker(market)
        await break_down(market, sick)
        for _ in range(3):
            await market.submit(alice, **CHAT)
        clock.move(REST_FIRST + timedelta(seconds=1))
        probe, *more = await sick.claim(slots=4)
        assert more == [] and await sick.claim(slots=4) == []  # one at a time
        assert (await sick.deliver(probe, ANSWER)).state == "succeeded"
        assert len(await sick.claim(slots=4)) == 2


async def test_a_failed_probe_doubles_the_rest(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, sick = market.person(), Worker(market)
        await break_down(market, sick)
        await market.submit(alice, **CHAT, retry={"attempts_max": 1})
        clock.move(REST_FIRST + timedelta(seconds=1))
        await sick.fail(await sick.take(), "miner")
        await market.submit(alice, **CHAT)
        clock.move(REST_FIRST + timedelta(seconds=1))
        assert await sick.claim() == []
        clock.move(REST_FIRST)
        assert len(await sick.claim()) == 1


async def test_a_poll_without_a_job_uses_up_no_probe(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, sick = market.person(), Worker(market)
        await break_down(market, sick)
        clock.move(REST_FIRST + timedelta(seconds=1))
        assert await sick.claim() == []
        await market.submit(alice, **CHAT)
        assert len(await sick.claim()) == 1


async def test_a_bad_request_never_takes_a_kind_out(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        for fault in ("requester", "unknown", "platform"):
            await market.submit(alice, **CHAT, retry={"attempts_max": 1})
            await miner.fail(await miner.take(), fault, "invalid_input")
        await break_down(market, miner, FAULTS_MAX - 1)
        await market.submit(alice, **CHAT)
        assert (await miner.deliver(await miner.take(), ANSWER)).state == "succeeded"
        await break_down(market, miner, FAULTS_MAX - 1)  # they are counted anew after a success
        await market.submit(alice, **CHAT)
        assert len(await miner.claim()) == 1


async def test_a_refused_output_is_a_fault_and_a_report_that_is_repeated_is_one(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, sick = market.person(), Worker(market)
        for _ in range(FAULTS_MAX - 1):
            await market.submit(alice, **CHAT, retry={"attempts_max": 1})
            lease = await sick.take()
            for _ in range(3):
                await sick.fail(lease, "miner")
        job = await market.submit(alice, **CHAT, retry={"attempts_max": 1})
        lease = await sick.take()
        assert lease.job == job
        await sick.deliver(lease, {"nonsense": 1})
        await market.submit(alice, **CHAT)
        assert await sick.claim() == []


async def test_a_claim_that_waits_gets_no_job_of_a_kind_that_began_to_rest(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, sick = market.person(), Worker(market)
        await break_down(market, sick, FAULTS_MAX - 1)
        await market.submit(alice, **CHAT, retry={"attempts_max": 1})
        lease = await sick.take()
        waiting = asyncio.create_task(sick.claim(wait_seconds=20.0))
        for _ in range(3000):
            if len(market.ai.wakeups.miners):
                break
            await asyncio.sleep(0.01)
        await sick.fail(lease, "miner")
        job = await market.submit(alice, **CHAT)
        assert await waiting == []
        assert await market.state(job) == "queued"


async def test_explain_says_that_the_miners_rest(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, sick = market.person(), Worker(market)
        async with market.ai.db.unit_of_work() as uow:
            await market.ai.on_miners_changed(uow, [sick.changed()])
        await break_down(market, sick)
        job = await market.submit(alice, **CHAT)
        explained = await market.ai.explanations.explain(alice, job)
        assert explained.filters[-2].filter == "not_resting" and explained.filters[-2].after == 0
        assert "rest" in explained.suggestion


def test_a_rest_is_never_longer_than_ten_minutes() -> None:
    record, at = KindRecord(), now()
    for _ in range(50):
        note_fault(record, at)
    assert record.rests_until == at + REST_MAX


@pytest.mark.parametrize(
    ("ended", "fault", "reason", "counts"),
    [
        (Ended.FAILED, Fault.MINER, "out_of_memory", True),
        (Ended.FAILED, Fault.PLATFORM, "model_unavailable", True),
        (Ended.FAILED, Fault.PLATFORM, "input_damaged", False),
        (Ended.FAILED, Fault.REQUESTER, "invalid_input", False),
        (Ended.LOST, Fault.MINER, "lease_expired", False),
        (Ended.RELEASED, Fault.NONE, "miner_stopped", False),
    ],
)
def test_what_counts_against_a_kind(ended: Ended, fault: Fault, reason: str, counts: bool) -> None:
    assert counts_against(ended, fault, reason) is counts


def test_only_so_many_miners_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aitbc.modules.ai.service.kind_health.MINERS_MAX", 2)
    health = KindHealth()
    for miner in ("mnr_1", "mnr_2", "mnr_3"):
        for _ in range(FAULTS_MAX):
            health.record(_failed(miner))
    assert [health.resting(miner) for miner in ("mnr_1", "mnr_2", "mnr_3")] == [(), ("chat",), ("chat",)]


def _failed(miner: str) -> AttemptValue:
    at = now()
    return AttemptValue(
        id="att_1",
        job="job_1",
        kind="chat",
        token=1,
        miner=miner,
        miner_account="acct_1",
        started_at=at,
        run_until=at,
        expires_at=at,
        ended="failed",
        fault="miner",
    )
