"""Runs periodic tasks, each on one process at a time: the leader holds an advisory lock."""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import structlog

from aitbc.kernel.database.sql_errors import translate
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.module import PeriodicTask
from aitbc.kernel.primitives.errors import AppError

VERIFY_SECONDS = 0.9
"""A connection that answered so recently is taken to hold its locks still: whoever leads by mistake for that long does
what is safe to do twice, and the tasks of a module need one question a second together."""

log = structlog.get_logger("aitbc.periodic")


def lock_number(module: str, task: str) -> int:
    """The advisory lock of a periodic task: 63 bits of the digest of its name."""
    return int.from_bytes(hashlib.sha256(f"{module}.{task}".encode()).digest()[:8]) >> 1


class Leadership:
    """Leader election for periodic tasks: one connection holds their advisory locks, and loses all when it is lost."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stack = AsyncExitStack()
        self._connection: Connection | None = None
        self._locks: set[int] = set()
        self._verified_at = 0.0
        self._lock = asyncio.Lock()

    async def leads(self, number: int) -> bool:
        """Whether this process holds the lock, acquired if it was free; a query now and then notices a lost connection."""
        async with self._lock:
            try:
                if self._connection is None or self._connection.is_closed():
                    await self.close()
                    self._connection = await self._stack.enter_async_context(self._database.listener())
                at = asyncio.get_running_loop().time()
                if number in self._locks:
                    if at - self._verified_at > VERIFY_SECONDS:
                        await self._connection.execute("SELECT 1")
                        self._verified_at = at
                    return True
                if not await self._connection.fetchval("SELECT pg_try_advisory_lock($1)", number):
                    return False
                self._locks.add(number)
                return True
            except Exception as error:
                await self.close()
                raise translate(error) or error from error

    async def close(self) -> None:
        """Release every lock."""
        self._locks.clear()
        self._connection = None
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()


async def run_periodic_task(
    module: str, task: PeriodicTask, work: Callable[[], Awaitable[Any]], leadership: Leadership
) -> None:
    """Run a periodic task until cancelled; a failure is logged and retried, and never ends the loop."""
    name = task.run.__name__
    number = lock_number(module, name)
    while True:
        pause = task.every_seconds
        try:
            if not task.leader or await leadership.leads(number):
                await work()
        except AppError as error:
            log.warning("periodic_task_paused", module=module, task=name, reason=error.message)
            pause += random.random()
        except Exception:
            log.exception("periodic_task_failed", module=module, task=name)
            pause += 1.0
        await asyncio.sleep(pause)
