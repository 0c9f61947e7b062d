"""Rate limits: exact in one process, nearly so over replicas, kept over restarts, and free of queries but at their end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.errors import Invalid
from aitbc.modules.ai.batched import rates
from aitbc.modules.ai.models.rate_limits import RateLimited
from aitbc.modules.ai.service.rate_gate import Admission, RateGate
from aitbc.modules.ai.service.rate_limits import RateLimitNotFound, SetByOperator, SetRateLimit
from tests.modules.ai.make import ADMIN, Market, a_key, ai_on
from tests.scale import scaled

NOON = datetime(2030, 1, 31, 12, 0, 20, tzinfo=UTC)


@pytest.fixture(autouse=True)
def noon() -> None:
    """A minute that does not end during a test."""
    clock.move(NOON - clock.now())


async def limited(market: Market, **numbers: Any) -> Principal:
    """Somebody with a limit."""
    who = market.person()
    await market.ai.rate_limits.set(who, SetRateLimit(**numbers), a_key(who))
    return who


@asynccontextmanager
async def replicas(market: Market, number: int) -> AsyncIterator[list[RateGate]]:
    """Gates of other processes over the same database."""
    async with AsyncExitStack() as stack:
        services = [await stack.enter_async_context(ai_on(market.owner)) for _ in range(number)]
        yield [service.ai.rate_gate for service in services]


async def let_through(gates: list[RateGate], who: Principal, requests: int, **request: Any) -> list[Admission]:
    """Ask at all gates in turn, everything at once; answers what was let through."""
    asked = (gates[number % len(gates)].admit(who, None, **request) for number in range(requests))
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(outcome, Admission | RateLimited) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, Admission)]


@pytest.mark.parametrize("most", [1, 7, 150])
async def test_exactly_as_many_requests_as_allowed_are_let_through(owner: Target, most: int) -> None:
    async with ai_on(owner) as market:
        who = await limited(market, requests_per_minute=most)
        assert len(await let_through([market.ai.rate_gate], who, 2 * most + 5)) == most
        with pytest.raises(RateLimited, match="of which 0 are left") as refused:
            await market.ai.rate_gate.admit(who, None)
        headers = refused.value.headers
        wait = int(headers["Retry-After"])  # of the 40 s after the clock's minute of 20:00:20 some have gone by
        assert 1 <= wait <= 40 and headers["x-ratelimit-remaining-requests"] == "0"
        assert headers["x-ratelimit-limit-requests"] == str(most)
        assert headers["x-ratelimit-reset-requests"] == f"{wait}s"
        clock.move(timedelta(seconds=40))
        assert len(await let_through([market.ai.rate_gate], who, most + 1)) == most


async def test_replicas_let_no_more_through_and_nearly_as_many(owner: Target) -> None:
    async with ai_on(owner) as market, replicas(market, 3) as gates:
        most = scaled(400, 4000)
        who = await limited(market, requests_per_minute=most)
        for gate in gates:
            await gate.refresh()
        through = len(await let_through(gates, who, 2 * most))
        assert 0.95 * most <= through <= most


async def test_a_restart_forgets_nothing(owner: Target) -> None:
    async with ai_on(owner) as market:
        who = await limited(market, requests_per_minute=10)
        await let_through([market.ai.rate_gate], who, 6)
    async with ai_on(owner) as market:
        await market.ai.rate_gate.refresh()
        assert len(await let_through([market.ai.rate_gate], who, 20)) == 4


async def test_requests_wait_for_no_query(owner: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ai_on(owner) as market:
        who = await limited(market, requests_per_minute=100_000)
        await market.ai.rate_gate.admit(who, None)
        asked = 0

        def counted(*_: Any) -> Any:
            nonlocal asked
            asked += 1
            raise AssertionError

        monkeypatch.setattr(market.ai.db, "raw_transaction", counted)
        monkeypatch.setattr(market.ai.db, "raw", counted)
        assert len(await let_through([market.ai.rate_gate], who, 400)) == 400 and asked == 0
        nobody = market.person()
        assert not market.ai.rate_gate.limits(nobody, None)


async def test_tokens_count_as_the_longest_answer_until_they_are_known(owner: Target) -> None:
    async with ai_on(owner) as market:
        gate, who = market.ai.rate_gate, await limited(market, tokens_per_minute=1000)
        first = await gate.admit(who, None, tokens=900)
        with pytest.raises(RateLimited, match="this one may take 200"):
            await gate.admit(who, None, tokens=200)
        first.settle(100)
        second = await gate.admit(who, None, tokens=900)
        assert second.headers["x-ratelimit-remaining-tokens"] == "0"
        second.settle(0)
        with pytest.raises(RateLimited):
            await gate.admit(who, None, tokens=1001)
        assert (await gate.admit(who, None)).headers == {}, "a job has no tokens"


async def test_as_many_go_on_at_once_as_allowed_whichever_process_they_are_in(owner: Target) -> None:
    async with ai_on(owner) as market, replicas(market, 1) as others:
        gates = [market.ai.rate_gate, *others]
        who = await limited(market, concurrency=5)
        await gates[1].refresh()
        through = await let_through(gates, who, 30, stays=True)
        assert len(through) == 5
        for admission in through[:3]:
            admission.release()
            admission.release()
        for gate in gates:
            await gate.refresh()  # it gives back what it does not use
        clock.move(timedelta(0))
        again = [one for _ in range(3) for one in await _eventually(gates[1], who)]
        assert len(again) == 3 and not await let_through(gates, who, 4, stays=True)
        await gates[0].stop()


async def _eventually(gate: RateGate, who: Principal) -> list[Admission]:
    """One admission; a limit that was full a moment ago is asked again after a moment."""
    end = clock.elapsed() + 20
    while not (found := await let_through([gate], who, 1, stays=True)):
        assert clock.elapsed() < end
        await asyncio.sleep(0.05)
    return found


async def test_places_of_a_process_that_was_killed_are_free_after_half_a_minute(owner: Target) -> None:
    async with ai_on(owner) as market:
        who = await limited(market, concurrency=2)
        (limit,) = [one.id for one in await market.ai.rate_limits.page(who, limit=9, after=None)]
        await rates.take_slots(market.ai.db, limit, ids.new_uuid(), held=0, wanted=2, most=2)
        assert not await let_through([market.ai.rate_gate], who, 1, stays=True)
        clock.move(timedelta(seconds=31))
        assert await _eventually(market.ai.rate_gate, who)


async def test_a_refused_request_counts_nowhere(owner: Target) -> None:
    async with ai_on(owner) as market:
        gate, who = market.ai.rate_gate, await limited(market, requests_per_minute=5, concurrency=3)
        await market.ai.rate_limits.set(who, SetRateLimit(requests_per_minute=1, model="big"), a_key(who))
        await gate.admit(who, "big")
        for _ in range(5):
            with pytest.raises(RateLimited):
                await gate.admit(who, "big", stays=True)
        assert len(await let_through([gate], who, 9, stays=True)) == 3
        assert len(await let_through([gate], who, 9)) == 1


async def test_limits_are_set_and_removed_by_those_who_may(owner: Target) -> None:
    async with ai_on(owner) as market:
        limits, who, other = market.ai.rate_limits, market.person(), market.person()
        with pytest.raises(Invalid):
            await limits.set(who, SetRateLimit(), a_key(who))
        with pytest.raises(SetByOperator):
            await limits.set(who, SetRateLimit(concurrency=1, account=other.account), a_key(who))
        operators = SetRateLimit(requests_per_minute=1, account=who.account)
        bound = await limits.set(ADMIN, operators, a_key(ADMIN))
        with pytest.raises(SetByOperator):
            await limits.remove(who, bound.id)
        with pytest.raises(RateLimitNotFound):
            await limits.remove(other, bound.id)
        own = await limits.set(who, SetRateLimit(requests_per_minute=5, key=who.key), a_key(who))
        assert [one.id for one in await limits.page(who, limit=9, after=None)] == [bound.id, own.id]
        assert await limits.page(other, limit=9, after=None) == []
        assert len(await let_through([market.ai.rate_gate], who, 5)) == 1
        await limits.remove(ADMIN, bound.id)
        assert len(await let_through([market.ai.rate_gate], who, 9)) == 4, "the one before counted here too"
        await limits.remove(who, own.id)
        assert (await limits.remove(who, own.id)).ended_at is not None
        assert not market.ai.rate_gate.limits(who, None)
