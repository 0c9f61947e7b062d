"""Retry a transaction on deadlock or serialization failure, with jittered exponential backoff.

A violated constraint is looked at once more: the rival that was quicker has committed by then, so the command finds the
stored answer of the same request, or says in its own words what is in the way.
"""

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from aitbc.kernel.database.sql_errors import Busy, ConstraintViolated

ATTEMPTS_MAX = 8
BACKOFF_SECONDS = 0.004
T = TypeVar("T")
P = ParamSpec("P")


async def retry(work: Callable[[], Awaitable[T]]) -> T:
    """Run a transaction, again after a deadlock, serialization failure or lock timeout, up to `ATTEMPTS_MAX` times, and
    once more after a violated constraint.
    """
    violated = False
    for attempt in range(1, ATTEMPTS_MAX):
        try:
            return await work()
        except ConstraintViolated:
            if violated:
                raise
            violated = True
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
