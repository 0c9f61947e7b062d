"""Many who follow the parts of outputs: none is broken off, whatever the three connections of the pool are doing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import asyncpg
from msgspec import structs

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Unavailable
from aitbc.modules.ai.api import Lease, LeaseLost
from aitbc.modules.ai.models.values import StoredPart
from aitbc.modules.ai.service.job_events import JobEvent, place_of
from aitbc.modules.ai.service.live_parts import PART_BYTES, LiveParts
from tests.modules.ai.make import Market, Worker, a_key, ai_on
from tests.modules.ai.test_streaming import CHAT, said, tell, working
from tests.scale import scaled

SECONDS = scaled(2.0, 10.0)


def stored(*sequences: int, text: str = "word ") -> list[StoredPart]:
    return [StoredPart(attempt=1, sequence=number, at=now(), text=text) for number in sequences]


def sequences(parts: Sequence[StoredPart] | None) -> list[int] | None:
    return None if parts is None else [part.sequence for part in parts]


async def text_of(events: AsyncIterator[JobEvent], heard: list[int] | None = None) -> str:
    """All the text of a stream that is followed to its end."""
    texts: list[str] = []
    last = (0, 0, 0, 0)
    async for event in events:
        if event.id is not None:
            assert place_of(event.id) > last
            last = place_of(event.id)
        if event.event == "part":
            texts.append(str(event.data["text"]))
            if heard is not None:
                heard.append(1)
    return "".join(texts)


async def stream(market: Market, miner: Worker, lease: Lease, *, a_second: float, pieces: int) -> str:
    """Send parts as a miner does: a send that is refused for want of a connection is sent again, with the next."""
    loop = asyncio.get_running_loop()
    started, kept, texts = loop.time(), 0, list[str]()
    while loop.time() - started < SECONDS or kept < len(texts):
        if loop.time() - started < SECONDS:
            texts += [f"{len(texts) + number} " for number in range(pieces)]
        with suppress(Unavailable):
            kept = (await tell(market, miner, lease, *texts[kept:][:64], start=kept + 1)).kept
        await asyncio.sleep(1 / a_second)
    text = "".join(texts)
    await miner.deliver(lease, said(text, "stop"))
    return text


async def test_every_job_has_its_follower_while_pieces_come_a_hundred_a_second(owner: Target) -> None:
    async with ai_on(owner, started=True) as market:
        jobs = scaled(8, 64)
        alice = market.person()
        for _ in range(jobs):
            await market.submit(alice, **CHAT)
        miners = [Worker(market) for _ in range(jobs)]
        leases = [await miner.take() for miner in miners]
        following = [asyncio.create_task(text_of(await _follow(market, alice, lease))) for lease in leases]
        sent = await asyncio.gather(
            *(stream(market, *pair, a_second=7, pieces=15) for pair in zip(miners, leases, strict=True))
        )
        async with asyncio.timeout(30):
            assert await asyncio.gather(*following) == sent


async def test_a_crowd_follows_one_job(owner: Target) -> None:
    async with ai_on(owner, started=True) as market:
        alice, miner, lease = await working(market)
        heard: list[int] = []
        crowd = [
            asyncio.create_task(text_of(await _follow(market, alice, lease), heard)) for _ in range(scaled(100, 1000))
        ]
        text = await stream(market, miner, lease, a_second=2, pieces=1)
        async with asyncio.timeout(60):
            assert set(await asyncio.gather(*crowd)) == {text}
        assert len(heard) >= len(crowd) * SECONDS, "the text did not come while it was made"


async def test_parts_reach_a_follower_while_no_connection_is_free(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner, lease = await working(market)
        await tell(market, miner, lease, "one ")
        events = await _follow(market, alice, lease)
        while (await anext(events)).event != "part":
            pass
        async with market.ai.db.raw(), market.ai.db.raw(), market.ai.db.raw():
            market.ai.wakeups.watched.wake_all()  # a look that gets no connection
            part = StoredPart(attempt=lease.token, sequence=2, at=now(), text="two ")
            market.ai.output_parts.live.add(lease.job, lease.token, [part])  # as after a commit
            async with asyncio.timeout(30):
                event = await anext(events)
            assert (event.event, event.data["text"]) == ("part", "two ")
        await tell(market, miner, lease, "two ", "three", start=2)
        await miner.deliver(lease, said("one two three", "stop"))
        assert await text_of(events) == "three"


async def test_parts_that_came_to_another_process_are_not_left_out(owner: Target) -> None:
    async with ai_on(owner) as here, ai_on(owner) as there:
        alice, miner, lease = await working(here)
        events = await _follow(here, alice, lease)
        await tell(here, miner, lease, "one ")
        while (await anext(events)).event != "part":
            pass
        await tell(there, miner, lease, "two ", "three ", start=2)
        await tell(here, miner, lease, "four", start=4)
        async with asyncio.timeout(30):
            texts = [(await anext(events)).data["text"] for _ in range(3)]
        assert texts == ["two ", "three ", "four"]
        await events.aclose()  # type: ignore[attr-defined]


async def test_what_is_in_memory_is_bounded_and_without_a_gap() -> None:
    live = LiveParts(bytes_max=3000, job_bytes_max=1000)
    live.add("job_a", 1, stored(1, 2))
    assert sequences(live.after("job_a", 1, 0)) == [1, 2]
    assert sequences(live.after("job_a", 1, 1)) == [2]
    assert sequences(live.after("job_a", 1, 2)) == sequences(live.after("job_a", 2, 0)) == []
    live.add("job_a", 1, stored(5))
    assert sequences(live.after("job_a", 1, 4)) == [5] and live.after("job_a", 1, 2) is None
    live.add("job_a", 1, stored(*range(6, 20)))
    kept = sequences(live.after("job_a", 1, 18 - 1000 // (PART_BYTES + 5) + 1))
    assert kept is not None and kept[-1] == 19 and live.after("job_a", 1, 5) is None
    for name in ("b", "c", "d"):
        live.add(f"job_{name}", 1, stored(1, 2, 3, 4))
    assert sequences(live.after("job_a", 1, 5)) == [], "the oldest went"
    assert sequences(live.after("job_d", 1, 0)) == [1, 2, 3, 4]
    future = live.watch("job_d")
    live.add("job_d", 1, stored(5, text="x" * 5000))
    assert future.done() and sequences(live.after("job_d", 1, 4)) == [5]


async def _follow(market: Market, who: Any, lease: Lease) -> AsyncIterator[JobEvent]:
    return await market.ai.job_events.follow(who, lease.job, None)


async def test_text_is_handed_on_before_it_is_stored_and_counts_only_once_it_is(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner, lease = await working(market)
        told = market.ai.text_runs.text_of(alice, lease.job)
        telling = asyncio.create_task(anext(told))
        locking = await asyncpg.connect(**owner.connect_arguments(application="tests", statement_seconds=60))
        try:
            async with locking.transaction():
                await locking.execute("SELECT FROM ai.jobs FOR UPDATE")
                keeping = asyncio.create_task(tell(market, miner, lease, "one ", "two "))
                assert await asyncio.wait_for(telling, 30) == "one two "
                assert not keeping.done() and await market.ai.output_parts.text_of(lease.job, lease.token) == ""
        finally:
            await locking.close()
        assert (await keeping).kept == 2
        assert (await tell(market, miner, lease, "one ", "two ", "three ")).kept == 3
        assert await asyncio.wait_for(anext(told), 30) == "three ", "what is repeated is told once"
        await told.aclose()
        assert await market.ai.output_parts.text_of(lease.job, lease.token) == "one two three "


async def test_only_the_miner_of_a_live_lease_is_heard_before_its_parts_are_stored(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner, lease = await working(market)
        live = market.ai.output_parts.live
        for other in (structs.replace(lease, token=2), structs.replace(lease, attempt=ids.new_id("att"))):
            with suppress(LeaseLost):
                await tell(market, miner, other, "no ")
        with suppress(LeaseLost):
            await tell(market, Worker(market), lease, "no ")
        assert live.last(lease.job, lease.token) == 0
        await market.ai.stops.cancel(alice, lease.job, a_key(alice))
        await tell(market, miner, lease)
        await tell(market, miner, lease, "late ")
        assert live.last(lease.job, lease.token) == 0
