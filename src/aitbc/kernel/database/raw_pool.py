"""A pool of raw asyncpg connections for batched statements, with generic query plans that are cached.

Each statement there finds its rows through an index, however large the tables are (ADR-0023). So these connections
cache the plan of a statement, and are kept from plans that are better only while the tables are small.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

from aitbc.kernel.database.pipeline import connect_wired
from aitbc.kernel.database.target import Connection as Connection

KEPT_PLANS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
PLAN_SECONDS = 60
"""How long a plan is cached: one that was made at an unlucky moment must not stay for ever."""
IDLE_SECONDS = 300.0
"""A connection that was idle for so long is closed."""


class RawPool:
    """A pool of up to `size` connections, opened when first needed; the last released is acquired first."""

    def __init__(self, arguments: Mapping[str, Any], size: int) -> None:
        self._arguments = dict(arguments)
        self._arguments["server_settings"] = self._arguments["server_settings"] | KEPT_PLANS
        self._arguments["max_cached_statement_lifetime"] = PLAN_SECONDS
        self._semaphore = asyncio.Semaphore(size)
        self._idle: list[tuple[float, Connection]] = []
        """Idle connections with the time of their release, the oldest first."""
        self._acquired: set[Connection] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._reaper: asyncio.TimerHandle | None = None

    async def acquire(self, seconds: float) -> Connection:
        """A connection; `release` it afterwards. Raises `TimeoutError` when none became free in time."""
        if self._semaphore.locked():
            async with asyncio.timeout(seconds):
                await self._semaphore.acquire()
        else:
            await self._semaphore.acquire()
        try:
            connection = self._idle_connection()
            if connection is None:
                connection = await connect_wired(self._arguments)
        except BaseException:
            self._semaphore.release()
            raise
        self._acquired.add(connection)
        return connection

    def _idle_connection(self) -> "Connection | None":
        """The connection released last, unless the server has closed it; none where none is idle."""
        while self._idle:
            connection = self._idle.pop()[1]
            if not connection.is_closed():
                return connection
        return None

    def release(self, connection: Connection) -> None:
        """Return a connection to the pool; one that is closed or still in a transaction is discarded."""
        self._acquired.discard(connection)
        if not connection.is_closed():
            if connection.is_in_transaction():
                connection.terminate()
            else:
                self._idle.append((monotonic(), connection))
                if self._reaper is None:
                    self._reaper = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._close_idle)
        self._semaphore.release()

    async def discard(self, connection: Connection) -> None:
        """Close a connection whose statement may still run; `release` it afterwards.

        The server is asked to cancel that statement, and undoes it. `terminate()` would drop the request, and outside
        of a transaction the statement would run on and commit (findings/asyncpg-terminate-commits.sh). A caller that is
        cancelled meanwhile leaves at once; the request is sent all the same.
        """
        task = asyncio.create_task(_close(connection))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        await asyncio.shield(task)

    def _close_idle(self) -> None:
        """Close connections that were idle too long, and schedule the next look if any is left."""
        self._reaper = None
        while self._idle and monotonic() - self._idle[0][0] >= IDLE_SECONDS:
            self._idle.pop(0)[1].terminate()
        if self._idle:
            self._reaper = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._close_idle)

    async def close(self) -> None:
        """Close all connections; a statement that still runs is cancelled."""
        if self._reaper is not None:
            self._reaper.cancel()
        for _, connection in self._idle:
            connection.terminate()
        self._idle.clear()
        await asyncio.gather(*map(_close, self._acquired), *self._closing)


async def _close(connection: Connection) -> None:
    """Close gracefully, within the seconds of its class; one that cannot is aborted by the driver."""
    with suppress(Exception):  # lost already, or a server that no longer answers
        await connection.close()
