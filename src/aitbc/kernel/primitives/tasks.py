"""Waits that cancellation always ends: cancel tasks until they have ended, and wait for an event with a timeout."""

import asyncio
from collections.abc import Iterable
from typing import Any

CANCEL_AGAIN_SECONDS = 0.5


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether an event is set, or becomes so within this time.

    `asyncio.wait_for` must not be used for this: on Python 3.11 it swallows a cancellation that arrives in the turn
    of the loop in which the event is set, and the cancelled task goes on for ever.
    """
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def cancel_and_wait(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel tasks, repeatedly, until each has ended; what they raise is ignored.

    Cancelling once is not enough: a library that is cancelled while it closes a connection may swallow the
    cancellation, and the task would go on.
    """
    all_tasks = list(tasks)
    running = {task for task in all_tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_SECONDS)
    for task in all_tasks:
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it as lost
