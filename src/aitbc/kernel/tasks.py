"""Tasks that run beside everything else, and how they end."""

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_SECONDS = 0.5


async def end(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel tasks until every one of them has ended; what they raise is nobody's any more.

    Once is not enough: a library that is cancelled while it closes a connection may keep that to itself, and the task
    would go on as if nothing had been said.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_SECONDS)
