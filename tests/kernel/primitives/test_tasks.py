"""Waits that cancellation ends, also of tasks that swallow one; and work that a cancellation does not break off."""

import asyncio
import signal
from contextlib import suppress

import pytest

from aitbc.kernel.primitives.tasks import cancel_and_wait, end_process, finish, is_set_within


async def test_a_task_that_swallows_a_cancellation_ends_with_the_next() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 2:
                    raise

    async def broken() -> None:
        await asyncio.sleep(0)
        raise ValueError("nobody's")

    async def prompt() -> None:
        return

    tasks = [asyncio.create_task(work()) for work in (stubborn, broken, prompt, stubborn)]
    await asyncio.sleep(0.01)
    async with asyncio.timeout(30):
        await cancel_and_wait(tasks)
    assert all(task.done() for task in tasks)
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_event_that_is_set_in_the_turn_of_the_cancellation_does_not_swallow_it() -> None:
    event, turns = asyncio.Event(), 0

    async def waiting() -> None:
        nonlocal turns
        while True:
            turns += await is_set_within(event, 60)
            event.clear()

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0.01)
    event.set()
    task.cancel()
    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert turns == 0


async def test_a_wait_for_an_event_says_whether_it_was_set_in_time() -> None:
    event = asyncio.Event()
    assert not await is_set_within(event, 0.01)
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await is_set_within(event, 5)
    assert await is_set_within(event, 5)


async def test_what_must_be_finished_is_done_before_a_cancellation_arrives() -> None:
    begun, may_end, done = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        begun.set()
        await may_end.wait()
        done.append(True)

    task = asyncio.create_task(finish(work()))
    await begun.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.01)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]


async def test_what_must_be_finished_tells_how_it_failed() -> None:
    async def work() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await finish(work())


async def test_a_program_is_ended_also_while_that_is_cancelled() -> None:
    program = await asyncio.create_subprocess_exec("sleep", "600")
    ending = asyncio.create_task(end_process(program))
    for _ in range(3):
        await asyncio.sleep(0)
        ending.cancel()
    with suppress(asyncio.CancelledError):
        await ending
    assert program.returncode == -signal.SIGKILL
    await end_process(program)
