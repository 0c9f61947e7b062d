"""Tasks that run beside everything else, and how they end."""

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_SECONDS = 0.5


async def cancel_and_wait(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel tasks until every one of them has ended; what they raise is nobody's any more.

    Once is not enough: a library that is cancelled while it closes a connection may keep that to itself, and the task
    would go on as if nothing had been said.
    """
    everyone = list(tasks)
    left = {task for task in everyone if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_SECONDS)
    for task in everyone:
        if not task.cancelled():
            task.exception()  # whoever never asks for it would read of it in the log
