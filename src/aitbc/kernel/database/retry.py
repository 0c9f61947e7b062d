"""Retry a transaction on deadlock or serialization failure, with jittered exponential backoff."""

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from aitbc.kernel.database.sql_errors import Busy

ATTEMPTS_MAX = 8
BACKOFF_SECONDS = 0.004
T = TypeVar("T")
P = ParamSpec("P")


async def retry(work: Callable[[], Awaitable[T]]) -> T:
    """Run a transaction, again after a deadlock, serialization failure or lock timeout, up to `ATTEMPTS_MAX` times."""
    for attempt in range(1, ATTEMPTS_MAX):
        try:
            return await work()
        except Busy:
            await asyncio.sleep(
                random.random() * BACKOFF_SECONDS * 2**attempt
            )  # jitter, so that the rivals do not meet again
    return await work()


def retrying(command: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Decorate a command with `retry`. The command is one transaction, and safe to run again from its beginning."""

    @functools.wraps(command)
    async def retried(*args: P.args, **kwargs: P.kwargs) -> T:
        return await retry(lambda: command(*args, **kwargs))

    return retried
