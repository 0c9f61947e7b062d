"""The few raw connections of the gathered way: lent without ceremony, with statements whose plans are kept for a while.

Each statement there finds its rows through an index, however many there are (ADR-0023). So these connections keep the plan that
was made when they first met a statement, and make none that would be better only while the tables are small.
"""

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any, TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

KEPT_PLANS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
PLAN_SECONDS = 60
"""After so long a statement is planned anew: a plan that was made in a strange moment must not stay for ever."""
IDLE_SECONDS = 300.0
"""A connection that nobody needed for so long is ended."""


class RawPool:
    """Lends up to `size` connections, the one that came back last first; they are made when they are first needed."""

    def __init__(self, arguments: Mapping[str, Any], size: int) -> None:
        self._arguments = dict(arguments)
        self._arguments["server_settings"] = self._arguments["server_settings"] | KEPT_PLANS
        self._arguments["max_cached_statement_lifetime"] = PLAN_SECONDS
        self._room = asyncio.Semaphore(size)
        self._idle: list[tuple[float, Connection]] = []
        """Since when each waits, the longest first."""
        self._lent: set[Connection] = set()
        self._tidying: asyncio.TimerHandle | None = None

    async def take(self, seconds: float) -> Connection:
        """A connection, to be given back. Raises `TimeoutError` when none became free in time."""
        if self._room.locked():
            async with asyncio.timeout(seconds):
                await self._room.acquire()
        else:
            await self._room.acquire()
        try:
            connection = self._waiting()
            if connection is None:
                connection = await asyncpg.connect(**self._arguments)
        except BaseException:
            self._room.release()
            raise
        self._lent.add(connection)
        return connection

    def _waiting(self) -> "Connection | None":
        """A connection that was given back, unless the server has ended it since."""
        while self._idle:
            connection = self._idle.pop()[1]
            if not connection.is_closed():
                return connection
        return None

    def give_back(self, connection: Connection) -> None:
        """Let others have it; one that is not fit for them any more is given up."""
        self._lent.discard(connection)
        if not connection.is_closed():
            if connection.is_in_transaction():
                connection.terminate()
            else:
                self._idle.append((monotonic(), connection))
                if self._tidying is None:
                    self._tidying = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._tidy)
        self._room.release()

    def _tidy(self) -> None:
        """End what has waited for too long, and look again later if anything is left."""
        self._tidying = None
        while self._idle and monotonic() - self._idle[0][0] >= IDLE_SECONDS:
            self._idle.pop(0)[1].terminate()
        if self._idle:
            self._tidying = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._tidy)

    def end(self) -> None:
        """End all of them, whatever they are doing."""
        if self._tidying is not None:
            self._tidying.cancel()
        for connection in [*self._lent, *(connection for _, connection in self._idle)]:
            connection.terminate()
        self._idle.clear()
