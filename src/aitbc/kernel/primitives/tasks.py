"""Cancel asyncio tasks and wait until they have ended."""

import asyncio
from collections.abc import Iterable
from typing import Any

CANCEL_AGAIN_SECONDS = 0.5


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
