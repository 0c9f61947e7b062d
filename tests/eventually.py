"""Waits for what is done beside the test."""

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.05


async def eventually(look: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so."""
    for _ in range(int(PATIENCE_SECONDS / POLL_SECONDS)):
        if await look():
            return
        await asyncio.sleep(POLL_SECONDS)
    raise AssertionError(f"not so within {PATIENCE_SECONDS} s")
