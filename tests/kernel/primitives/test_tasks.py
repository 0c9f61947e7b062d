"""Cancelling tasks: they end even when something in them swallows a cancellation."""

import asyncio

from aitbc.kernel.primitives.tasks import cancel_and_wait


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
    async with asyncio.timeout(5):
        await cancel_and_wait(tasks)
    assert all(task.done() for task in tasks)
    await asyncio.gather(*tasks, return_exceptions=True)
