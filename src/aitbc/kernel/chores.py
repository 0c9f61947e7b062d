"""Work that is done again and again: by one process at a time, under an advisory lock, for as long as the process lives."""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from aitbc.kernel.db import Database
from aitbc.kernel.errors import AppError
from aitbc.kernel.module import Chore

log = structlog.get_logger("aitbc.chores")


def lock_number(module: str, chore: str) -> int:
    """The advisory lock of a chore: 63 bits of the digest of its name."""
    return int.from_bytes(hashlib.sha256(f"{module}.{chore}".encode()).digest()[:8]) >> 1


async def run_chore(database: Database, chore: Chore, work: Callable[[], Awaitable[Any]]) -> None:
    """Do the chore every so often until cancelled; a failure is logged and tried again, and never ends the loop."""
    while True:
        try:
            if chore.leader:
                await _lead(database, chore, work)
            else:
                await _repeat(database, chore, work)
        except AppError as error:
            log.warning("chore_paused", module=database.module, chore=chore.run, reason=error.message)
        except Exception:
            log.exception("chore_failed", module=database.module, chore=chore.run)
        await asyncio.sleep(1.0 + random.random())


async def _repeat(database: Database, chore: Chore, work: Callable[[], Awaitable[Any]]) -> None:
    while True:
        await work()
        await asyncio.sleep(chore.every_seconds)


async def _lead(database: Database, chore: Chore, work: Callable[[], Awaitable[Any]]) -> None:
    """Hold the chore's lock on a connection of its own; a lost connection ends the leadership before the next round."""
    number = lock_number(database.module, chore.run)
    async with database.listener() as connection:
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", number):  # noqa: ASYNC110
            await asyncio.sleep(min(chore.every_seconds, 5.0))
        while True:
            await connection.execute("SELECT 1")
            await work()
            await asyncio.sleep(chore.every_seconds)
