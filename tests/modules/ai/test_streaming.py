"""Outputs that are told in parts, jobs that are finished early, and clients that leave."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.http.disconnect import Disconnect
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import (
    Lease,
    LeaseLost,
    LogLine,
    NotToldInParts,
    Part,
    Parts,
    PartsKept,
    PartsTooLarge,
    StopAsked,
)
from aitbc.modules.ai.models.life import IllegalMove
from aitbc.modules.ai.service.job_events import place_of
from aitbc.modules.ai.service.stops import CannotStopEarly
from tests.modules.ai.make import Market, Worker, a_job, a_key, ai_on

ASK = {"messages": [{"role": "user", "content": "Count."}], "max_tokens": 100}
PROMPT_BYTES = len("Count.")
CHAT: dict[str, Any] = {"kind": "chat", "value": ASK}


async def tell(market: Market, miner: Worker, lease: Lease, *texts: str, start: int = 1) -> PartsKept:
    """Tell parts from a sequence on; without any only ask."""
    parts = tuple(Part(sequence=number, text=text) for number, text in enumerate(texts, start))
    return await market.ai.tell_parts(Parts(miner=miner.id, attempt=lease.attempt, token=lease.token, parts=parts))


def said(text: str, reason: str = "stopped") -> dict[str, Any]:
    """An output of the chat kind."""
    return {"message": {"role": "assistant", "content": text}, "model": "tiny", "finish_reason": reason}


async def working(market: Market, **wishes: Any) -> tuple[Any, Worker, Lease]:
    """Somebody's chat in the hands of a miner."""
    alice, miner = market.person(), Worker(market)
    await market.submit(alice, **(CHAT | wishes))
    return alice, miner, await miner.take()


async def test_parts_are_kept_once_and_in_order_whatever_is_repeated(owner: Target) -> None:
    async with ai_on(owner) as market:
        _, miner, lease = await working(market)
        assert await tell(market, miner, lease) == PartsKept(status="live", kept=0, heard=0)
        assert (await market.state(lease.job)) == "running"
        assert (await tell(market, miner, lease, "one ", "two ")).kept == 2
        assert (await tell(market, miner, lease, "ONE ", "TWO ", "three")).kept == 3
        assert (await tell(market, miner, lease, "five", start=5)).kept == 3
        assert await market.ai.output_parts.text_of(lease.job, lease.token) == "one two three"


async def test_parts_come_from_nobody_but_the_holder_of_a_live_lease(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner, lease = await working(market)
        stranger = Worker(market)
        for attempt, token in ((lease.attempt, 2), (ids.new_id("att"), 1), ("att_no", 1)):
            with pytest.raises(LeaseLost):
                await market.ai.tell_parts(Parts(miner=miner.id, attempt=attempt, token=token))
        with pytest.raises(LeaseLost):
            await tell(market, stranger, lease, "mine")
        await market.ai.stops.cancel(alice, lease.job, a_key(alice))
        assert await tell(market, miner, lease, "late") == PartsKept(status="canceled", kept=0, heard=0)


async def test_a_lost_lease_tells_no_more(owner: Target) -> None:
    async with ai_on(owner) as market:
        _, miner, lease = await working(market)
        await tell(market, miner, lease, "one")
        await market.later(60)
        assert await tell(market, miner, lease, "two", start=2) == PartsKept(status="lost", kept=1, heard=1)


async def test_parts_are_bounded(owner: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aitbc.modules.ai.batched.parts.PARTS_BYTES_MAX", 5)
    async with ai_on(owner) as market:
        _, miner, lease = await working(market)
        with pytest.raises(PartsTooLarge):
            await tell(market, miner, lease, "one", "two")
        assert (await tell(market, miner, lease)).kept == 0
        assert (await tell(market, miner, lease, "öö")).kept == 1
        with pytest.raises(PartsTooLarge):
            await tell(market, miner, lease, "ö", start=2)


async def test_a_kind_that_delivers_at_its_end_tells_no_parts_and_cannot_be_stopped(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        job = await market.submit(alice)
        lease = await miner.take()
        assert (await tell(market, miner, lease)).status == "live"
        with pytest.raises(NotToldInParts):
            await tell(market, miner, lease, "one")
        with pytest.raises(CannotStopEarly, match="/cancel"):
            await market.ai.stops.stop(alice, job, a_key(alice))


async def test_a_stopped_job_is_paid_for_its_prompt_and_what_was_delivered(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner, lease = await working(market)
        await tell(market, miner, lease, "one ", "two")
        assert (await market.ai.stops.stop(alice, lease.job, a_key(alice))).state == "running"
        assert await miner.renew(lease) == "stop"
        assert await tell(market, miner, lease, " three", start=3) == PartsKept(status="stop", kept=2, heard=2)
        outcome = await miner.deliver(lease, said("one two"))
        assert outcome.state == "succeeded" and outcome.receipt is not None
        found = await market.ai.jobs.get(alice, lease.job)
        assert (found.units, found.reason) == (PROMPT_BYTES + len("one two"), "stopped_early")
        assert "finished it early" in (await market.ai.explanations.explain(alice, lease.job)).summary
        assert (await market.ai.stops.stop(alice, lease.job, a_key(alice))).state == "succeeded"
        assert await miner.deliver(lease, said("one two")) == outcome
        await market.require_sound()


async def test_after_a_stop_nothing_but_what_was_delivered_is_accepted(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner, lease = await working(market)
        await tell(market, miner, lease, "one ", "two")
        await market.ai.stops.stop(alice, lease.job, a_key(alice))
        for text in ("one two three", "one two "):
            with pytest.raises(StopAsked):
                await miner.deliver(lease, said(text))
        assert (await market.ai.jobs.get(alice, lease.job)).state == "running"
        assert (await miner.deliver(lease, said("one two", "stop"))).state == "succeeded"


async def test_a_stop_between_the_look_at_a_result_and_its_acceptance_counts(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner, lease = await working(market)
        await tell(market, miner, lease, "one ")
        look = market.ai.output_parts.text_of

        async def looked(job: str, token: int) -> str:
            told = await look(job, token)
            await market.ai.stops.stop(alice, lease.job, a_key(alice))
            return told

        market.ai.output_parts.text_of = looked  # type: ignore[method-assign]
        with pytest.raises(StopAsked):
            await miner.deliver(lease, said("one two"))
        market.ai.output_parts.text_of = look  # type: ignore[method-assign]
        assert (await miner.deliver(lease, said("one "))).state == "succeeded"
        await market.require_sound()


async def test_a_result_that_contradicts_its_own_parts_is_refused(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner, lease = await working(market)
        await tell(market, miner, lease, "one ")
        assert (await miner.deliver(lease, said("two"))).state == "queued"
        assert "told in parts" in (await market.ai.jobs.get(alice, lease.job)).history[0].message


async def test_a_stop_that_no_miner_answers_returns_the_money(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner, lease = await working(market)
        await tell(market, miner, lease, "one ")
        await market.ai.stops.stop(alice, lease.job, a_key(alice))
        await market.later(9)
        assert await market.state(lease.job) == "running"
        await market.later(2)
        found = await market.ai.jobs.get(alice, lease.job)
        assert (found.state, found.reason, found.price) == ("canceled", "stop_unanswered", None)
        with pytest.raises(LeaseLost):
            await miner.deliver(lease, said("one "))
        await market.require_sound()


@pytest.mark.parametrize("how", ["failed", "released", "lost"])
async def test_a_stopped_job_is_not_tried_again(owner: Target, how: str) -> None:
    async with ai_on(owner) as market:
        alice, miner, lease = await working(market)
        await market.ai.stops.stop(alice, lease.job, a_key(alice))
        if how == "failed":
            await miner.fail(lease, "miner")
        elif how == "released":
            await market.ai.release(miner.id, lease.attempt, lease.token, "leaving")
        else:
            clock.move(timedelta(seconds=60))
            await market.ai.sweeper.end_lost_leases()
        found = await market.ai.jobs.get(alice, lease.job)
        assert (found.state, found.reason) == ("canceled", "stop_unanswered")
        await market.require_sound()


async def test_stopping_what_no_miner_has_cancels_it_and_what_has_ended_is_left_alone(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, mallory, miner = market.person(), market.person(), Worker(market)
        waiting = await market.submit(alice, **CHAT)
        for _ in range(2):
            assert (await market.ai.stops.stop(alice, waiting, a_key(alice))).reason == "canceled_by_owner"
        done = await market.submit(alice, **CHAT)
        await miner.deliver(await miner.take(), said("done", "stop"))
        with pytest.raises(IllegalMove):
            await market.ai.stops.stop(alice, done, a_key(alice))
        with pytest.raises(Exception, match="no such job"):
            await market.ai.stops.stop(mallory, done, a_key(mallory))
        await market.require_sound()


async def test_a_stop_and_a_result_at_once_end_the_job_in_one_way(owner: Target) -> None:
    async with ai_on(owner) as market:
        for _ in range(8):
            alice, miner, lease = await working(market)
            await tell(market, miner, lease, "one ")
            outcome, _ = await asyncio.gather(
                miner.deliver(lease, said("one two")),
                market.ai.stops.stop(alice, lease.job, a_key(alice)),
                return_exceptions=True,
            )
            if isinstance(outcome, StopAsked):
                await miner.deliver(lease, said("one "))
            units = (await market.ai.jobs.get(alice, lease.job)).units
            assert units == PROMPT_BYTES + len("one " if isinstance(outcome, StopAsked) else "one two")
        await market.require_sound()


async def test_followers_get_each_part_once_wherever_they_come_back(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner, lease = await working(market)
        await tell(market, miner, lease, "one ", "two ")
        await market.ai.log(miner.id, lease.attempt, 1, [LogLine(sequence=1, at=now(), text="thinking")])
        await tell(market, miner, lease, "three", start=3)
        await miner.deliver(lease, said("one two three", "stop"))
        whole = [event async for event in await market.ai.job_events.follow(alice, lease.job, None)]
        assert [event.data["text"] for event in whole if event.event == "part"] == ["one ", "two ", "three"]
        places = [place_of(event.id) for event in whole]
        assert places == sorted(places)
        for at, event in enumerate(whole):
            rest = [event async for event in await market.ai.job_events.follow(alice, lease.job, event.id)]
            assert rest == whole[at + 1 :]


async def test_parts_and_lines_that_come_by_turns_are_neither_lost_nor_repeated(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner, lease = await working(market)
        heard: list[Any] = []
        last = None
        for number in range(1, 5):
            await tell(market, miner, lease, f"part {number}", start=number)
            await market.ai.log(miner.id, lease.attempt, 1, [LogLine(sequence=number, at=now(), text=f"line {number}")])
            flow = await market.ai.job_events.follow(alice, lease.job, last)
            wanted = 2 + (2 if number == 1 else 0) + (1 if number == 1 else 0)
            for _ in range(wanted):
                event = await anext(flow)
                last = event.id or last
                heard.append(event.data.get("text"))
            await flow.aclose()  # type: ignore[attr-defined]
        told = [text for text in heard if text]
        assert sorted(told) == sorted([f"part {n}" for n in range(1, 5)] + [f"line {n}" for n in range(1, 5)])


async def test_parts_go_with_the_retention_of_outputs(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner, lease = await working(market, clocks={"retention_seconds": 60})
        await tell(market, miner, lease, "one")
        await miner.deliver(lease, said("one", "stop"))
        clock.move(timedelta(seconds=61))
        await market.ai.tidy()
        assert await market.sql("SELECT 1 FROM ai.parts") == []
        assert [e.event async for e in await market.ai.job_events.follow(alice, lease.job, None)] == [
            *["state"] * 3,
            "attempt",
            "state",
        ]


async def test_a_client_that_leaves_stops_its_job_once(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner = market.person(), Worker(market)
        job = await market.ai.submissions.submit(alice, a_job(**CHAT), a_key(alice))
        lease = await miner.take()
        await tell(market, miner, lease, "one ")
        first, second = Disconnect(), Disconnect()
        market.ai.runs.guard(alice, job, first, "stop")
        market.ai.runs.guard(alice, job, second, "stop")
        first.set()
        second.set()
        await asyncio.gather(*market.ai.runs.under_way)
        assert (await tell(market, miner, lease)).status == "stop"
        assert (await miner.deliver(lease, said("one "))).state == "succeeded"
        await market.require_sound()


async def test_a_client_that_leaves_cancels_what_delivers_only_at_its_end(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person()
        job = await market.ai.submissions.submit(alice, a_job(), a_key(alice))
        gone = Disconnect()
        gone.set()
        market.ai.runs.guard(alice, job, gone, "stop")  # it had left before we looked
        await asyncio.gather(*market.ai.runs.under_way)
        assert await market.state(job.id) == "canceled"


async def test_a_client_that_wished_so_or_has_its_answer_leaves_its_job_alone(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person()
        job = await market.ai.submissions.submit(alice, a_job(), a_key(alice))
        gone = Disconnect()
        market.ai.runs.guard(alice, job, gone, "continue")
        market.ai.runs.guard(alice, job, gone, "stop").disarm()
        gone.set()
        market.ai.wakeups.draining.set()
        market.ai.runs.guard(alice, job, gone, "stop")  # it is the server that leaves
        assert not market.ai.runs.under_way
        assert await market.state(job.id) == "queued"
