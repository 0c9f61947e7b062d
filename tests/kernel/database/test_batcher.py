"""The batcher: concurrent commands share a transaction, and a bad one fails alone."""

import asyncio
from collections.abc import Sequence

import pytest

from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.primitives.errors import AppError, Conflict, OutcomeUnknown, Unavailable
from aitbc.kernel.primitives.request_id import current_request_id, request_id


async def test_what_arrives_during_a_flush_goes_with_the_next_one() -> None:
    flushes: list[list[int]] = []

    async def flush(commands: Sequence[int]) -> Sequence[int | AppError]:
        flushes.append(list(commands))
        await asyncio.sleep(0.01)
        return [command * 2 for command in commands]

    batcher = Batcher[int, int](flush)
    assert await asyncio.gather(*(batcher.do(n) for n in range(100))) == [n * 2 for n in range(100)]
    assert len(flushes) == 1
    first = asyncio.create_task(batcher.do(1))
    await asyncio.sleep(0.005)
    await asyncio.gather(first, *(batcher.do(n) for n in range(50)))
    assert [len(load) for load in flushes[1:]] == [1, 50]


async def test_a_refused_command_fails_alone() -> None:
    async def flush(commands: Sequence[int]) -> Sequence[int | AppError]:
        return [Conflict() if command == 3 else command for command in commands]

    batcher = Batcher[int, int](flush)
    results = await asyncio.gather(*(batcher.do(n) for n in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [int, int, int, Conflict, int]


async def test_a_failed_transaction_is_done_again_one_command_at_a_time() -> None:
    async def flush(commands: Sequence[int]) -> Sequence[int | AppError]:
        if 3 in commands:
            raise ValueError("three")
        return list(commands)

    batcher = Batcher[int, int](flush)
    results = await asyncio.gather(*(batcher.do(n) for n in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [int, int, int, ValueError, int]


async def test_an_unknown_outcome_is_never_tried_again() -> None:
    flushes = 0

    async def flush(commands: Sequence[int]) -> Sequence[int | AppError]:
        nonlocal flushes
        flushes += 1
        raise OutcomeUnknown

    batcher = Batcher[int, int](flush)
    results = await asyncio.gather(*(batcher.do(n) for n in range(5)), return_exceptions=True)
    assert flushes == 1
    assert all(isinstance(result, OutcomeUnknown) for result in results)


async def test_a_batch_has_a_largest_size_and_the_waiting_line_an_end() -> None:
    sizes: list[int] = []

    async def flush(commands: Sequence[int]) -> Sequence[int | AppError]:
        sizes.append(len(commands))
        await asyncio.sleep(0)
        return list(commands)

    batcher = Batcher[int, int](flush, batch_max=10, queue_max=25)
    results = await asyncio.gather(*(batcher.do(n) for n in range(40)), return_exceptions=True)
    assert max(sizes) == 10
    assert sum(isinstance(result, Unavailable) for result in results) == 15


async def test_a_caller_who_left_does_not_stop_the_others() -> None:
    async def flush(commands: Sequence[int]) -> Sequence[int | AppError]:
        await asyncio.sleep(0.01)
        return list(commands)

    batcher = Batcher[int, int](flush)
    tasks = [asyncio.create_task(batcher.do(n)) for n in range(3)]
    await asyncio.sleep(0.002)
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[0] == 0
    assert results[2] == 2
    with pytest.raises(asyncio.CancelledError):
        raise results[1]  # type: ignore[misc]


async def test_a_result_that_nobody_hears_is_told_to_the_one_who_minds() -> None:
    left: list[tuple[int, int]] = []

    async def flush(commands: Sequence[int]) -> Sequence[int | AppError]:
        await asyncio.sleep(0.01)
        return [Conflict() if command == 3 else command * 2 for command in commands]

    batcher = Batcher[int, int](flush, on_abandoned=lambda command, result: left.append((command, result)))
    callers = [asyncio.create_task(batcher.do(n)) for n in range(4)]
    await asyncio.sleep(0.005)
    for caller in callers[1:]:
        caller.cancel()
    assert await callers[0] == 0
    assert left == [(1, 2), (2, 4)]


async def test_a_flush_belongs_to_no_request_and_the_caller_keeps_its_own() -> None:
    seen: list[str | None] = []

    async def flush(commands: Sequence[int]) -> Sequence[int | AppError]:
        seen.append(current_request_id())
        return list(commands)

    async def call(number: int) -> str | None:
        request_id.set(f"req_{number}")
        await batcher.do(number)
        return current_request_id()

    batcher = Batcher[int, int](flush)
    assert await asyncio.gather(*(call(number) for number in range(3))) == ["req_0", "req_1", "req_2"]
    assert seen == [None]
