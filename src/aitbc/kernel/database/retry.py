"""Transactions that are done again when the database asks for it: others were changing the same things, and nothing was done."""

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from aitbc.kernel.database.sql_errors import Busy

ATTEMPTS_MAX = 8
T = TypeVar("T")
P = ParamSpec("P")


async def retry(work: Callable[[], Awaitable[T]]) -> T:
    """Do a transaction again when the database asks for it (deadlock, serialization), a bounded number of times."""
    for attempt in range(1, ATTEMPTS_MAX):
        try:
            return await work()
        except Busy:
            await asyncio.sleep(random.random() * 0.004 * 2**attempt)  # jitter, so that twins part
    return await work()


def retrying(command: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The same command, done again where its one transaction lost against others; it must be safe to do from its beginning."""

    @functools.wraps(command)
    async def persisting(*args: P.args, **kwargs: P.kwargs) -> T:
        return await retry(lambda: command(*args, **kwargs))

    return persisting
