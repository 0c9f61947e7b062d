"""The breaker: five failures in a row open it, and one answer closes it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from aitbc.server.cluster.circuit_breaker import FAILURES_MAX, OPEN_SECONDS, CircuitBreaker, ModuleUnavailable


class Far:
    """A process that answers or not, and a clock."""

    def __init__(self) -> None:
        self.answers = False
        self.asked = 0
        self.seconds = 1000.0

    async def look(self) -> bool:
        """A probe."""
        self.asked += 1
        return self.answers

    def time(self) -> float:
        """The clock."""
        return self.seconds


@asynccontextmanager
async def breaker(far: Far, *, failures: int = 0, probe_seconds: float = 3600.0) -> AsyncIterator[CircuitBreaker]:
    """A breaker that saw so many failures."""
    made = CircuitBreaker("gpu", far.look, probe_seconds=probe_seconds, clock=far.time)
    for _ in range(failures):
        made.failed()
    yield made
    await made.close()


async def test_the_fifth_failure_in_a_row_opens_it_and_not_the_fourth() -> None:
    async with breaker(Far(), failures=FAILURES_MAX - 1) as made:
        made.admit()
        made.failed()
        with pytest.raises(ModuleUnavailable) as refused:
            made.admit()
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})


async def test_an_answer_in_between_starts_the_count_anew() -> None:
    async with breaker(Far(), failures=FAILURES_MAX - 1) as made:
        made.succeeded()
        for _ in range(FAILURES_MAX - 1):
            made.failed()
        assert not made.is_open


async def test_after_a_minute_one_request_tries_and_the_others_wait_for_what_becomes_of_it() -> None:
    far = Far()
    async with breaker(far, failures=FAILURES_MAX) as made:
        far.seconds += OPEN_SECONDS - 0.1
        with pytest.raises(ModuleUnavailable):
            made.admit()
        far.seconds += 0.2
        ended = asyncio.Event()

        async def trial() -> None:
            made.admit()
            await ended.wait()
            made.failed()

        trying = asyncio.create_task(trial())
        await asyncio.sleep(0)
        with pytest.raises(ModuleUnavailable):
            made.admit()
        ended.set()
        await trying
        far.seconds += OPEN_SECONDS - 0.1  # the failed trial opened it for another minute
        with pytest.raises(ModuleUnavailable):
            made.admit()
        far.seconds += 0.2
        made.admit()
        made.succeeded()
        assert not made.is_open


async def test_a_trial_whose_caller_left_leaves_the_way_free_for_the_next() -> None:
    far = Far()
    async with breaker(far, failures=FAILURES_MAX) as made:
        far.seconds += OPEN_SECONDS

        async def trial() -> None:
            made.admit()
            await asyncio.sleep(3600)

        left = asyncio.create_task(trial())
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        made.admit()


async def test_it_closes_as_soon_as_the_process_is_found_to_answer() -> None:
    far = Far()
    async with breaker(far, failures=FAILURES_MAX, probe_seconds=0.001) as made:
        await asyncio.sleep(0.05)
        stayed_open = made.is_open
        assert stayed_open
        assert far.asked > 1
        far.answers = True
        async with asyncio.timeout(30):
            while made.is_open:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        made.admit()
