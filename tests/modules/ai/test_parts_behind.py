"""Parts that are handed on at once and stored a moment later: nothing is called stored that a crash could lose."""

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.modules.ai.api import Lease, Part, Parts, PartsKept, PartsTooLarge
from tests.eventually import eventually
from tests.modules.ai.make import Market, Worker, a_key, ai_on
from tests.modules.ai.test_streaming import said, working


async def tell(market: Market, miner: Worker, lease: Lease, *texts: str, start: int = 1) -> PartsKept:
    """Tell parts that may be stored later; without any ask how far they are."""
    parts = tuple(Part(sequence=number, text=text) for number, text in enumerate(texts, start))
    sent = Parts(miner=miner.id, attempt=lease.attempt, token=lease.token, parts=parts, may_wait=True)
    return await market.ai.tell_parts(sent)


def live(kept: int, heard: int) -> PartsKept:
    """The answer to a lease that goes on."""
    return PartsKept(status="live", kept=kept, heard=heard)


async def test_the_first_part_is_stored_and_what_follows_is_heard_until_it_is(owner: Target) -> None:
    async with ai_on(owner) as market:
        _, miner, lease = await working(market)
        assert await tell(market, miner, lease, "one ") == live(1, 1)
        assert await tell(market, miner, lease, "two ", "three ", start=2) == live(1, 3)
        assert await tell(market, miner, lease, "three ", "four ", start=3) == live(1, 4), "a repetition is no news"
        followed = market.ai.output_parts.live.after(lease.job, lease.token, 1)
        assert followed is not None and [part.text for part in followed] == ["two ", "three ", "four "]
        assert await tell(market, miner, lease) == live(4, 4), "a question is answered by what is stored"
        assert await tell(market, miner, lease, "five", start=5) == live(4, 5)
        assert await market.ai.output_parts.text_of(lease.job, lease.token) == "one two three four five"


async def test_it_is_stored_by_itself(owner: Target) -> None:
    async with ai_on(owner) as market:
        _, miner, lease = await working(market)
        await tell(market, miner, lease, "one ")
        await tell(market, miner, lease, "two", start=2)

        async def stored() -> bool:
            return len(await market.ai.output_parts.after(lease.job, lease.token, 0)) == 2

        await eventually(stored)
        assert await tell(market, miner, lease, "three", start=3) == live(2, 3)


async def test_what_a_crash_loses_is_asked_for_again(owner: Target) -> None:
    async with ai_on(owner) as market:
        _, miner, lease = await working(market)
        await tell(market, miner, lease, "one ")
        assert await tell(market, miner, lease, "two ", start=2) == live(1, 2)
        market.ai.output_parts._unstored.clear()  # as in a process that was just started
        market.ai.wakeups.current.drop(lease.attempt)
        assert await tell(market, miner, lease, "three", start=3) == live(1, 1)
        assert await tell(market, miner, lease, "two ", "three", start=2) == live(1, 3)
        assert await tell(market, miner, lease) == live(3, 3)
        assert await market.ai.output_parts.text_of(lease.job, lease.token) == "one two three"


async def test_a_stop_counts_all_that_was_handed_on_before_it(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, miner, lease = await working(market)
        await tell(market, miner, lease, "one ")
        await tell(market, miner, lease, "two", start=2)
        await market.ai.stops.stop(alice, lease.job, a_key(alice))
        stopped = PartsKept(status="stop", kept=2, heard=2)
        assert await tell(market, miner, lease, " three", start=3) == stopped, "it hears so at once"
        assert (await miner.deliver(lease, said("one two"))).state == "succeeded"


async def test_text_that_was_handed_on_binds_the_result(owner: Target) -> None:
    async with ai_on(owner) as market:
        _, miner, lease = await working(market)
        await tell(market, miner, lease, "one ")
        await tell(market, miner, lease, "two", start=2)
        outcome = await miner.deliver(lease, said("something else", "stop"))
        assert outcome.state != "succeeded"
        assert await market.ai.output_parts.text_of(lease.job, lease.token) == "one two"


async def test_too_much_text_is_refused_once_it_is_stored(owner: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aitbc.modules.ai.batched.parts.PARTS_BYTES_MAX", 5)
    async with ai_on(owner) as market:
        _, miner, lease = await working(market)
        await tell(market, miner, lease, "one")
        assert await tell(market, miner, lease, "two", start=2) == live(1, 2)
        await market.ai.output_parts.store_all()
        with pytest.raises(PartsTooLarge):
            await tell(market, miner, lease, "two", start=2)
