"""HTTP/1.1 client over Unix sockets: a pool of keep-alive connections to another process of this machine. # 0024

Only bodies that announce a small length are buffered, the faster side waits for the slower one, and no request is
retried.
"""

import asyncio
from pathlib import Path

from aitbc.server.cluster.peer_client import (
    CONNECT_SECONDS,
    READ_TIMEOUT_SECONDS,
    HeaderList,
    PeerResponse,
    RequestBody,
)
from aitbc.server.cluster.unix_connection import UnixConnection

IDLE_SECONDS = 15.0
"""How long an idle connection is kept; less than the idle timeout of the server."""
SWEEP_SECONDS = 1.0


class UnixClient:
    """A client of one process of this machine, with a connection pool."""

    def __init__(self, path: Path, *, read_timeout_seconds: float = READ_TIMEOUT_SECONDS) -> None:
        self._path = path
        self._read_timeout_seconds = read_timeout_seconds
        self._connections: set[UnixConnection] = set()
        self._idle: list[UnixConnection] = []
        """The last used at the end, so that connections made for a busy time grow old at the front and are closed."""
        self._sweep_timer: asyncio.TimerHandle | None = None

    async def request(self, method: str, target: bytes, headers: HeaderList, body: RequestBody = None) -> PeerResponse:
        """Send a request and wait for the head of its response.

        Raises `OSError` when none comes, and what `body` raises.
        """
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closing:
                break
        else:
            connection = await self._connect()
        try:
            return await connection.request(method, target, headers, body)
        except BaseException:
            connection.abort()
            raise

    async def _connect(self) -> UnixConnection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await loop.create_unix_connection(lambda: UnixConnection(self), str(self._path))
        self._connections.add(connection)
        if self._sweep_timer is None:
            self._sweep_timer = loop.call_later(SWEEP_SECONDS, self._sweep, loop)
        return connection

    def release(self, connection: UnixConnection) -> None:
        """Put a connection back into the pool."""
        self._idle.append(connection)

    def remove(self, connection: UnixConnection) -> None:
        """Forget a connection that is closed."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Apply idle and read timeouts: one timer for the whole pool, in place of one for each exchange."""
        now = loop.time()
        for connection in list(self._connections):
            if connection.is_idle:
                if now - connection.last_activity > IDLE_SECONDS:
                    connection.abort()
            elif now - connection.last_activity > self._read_timeout_seconds and connection.awaits_peer:
                connection.fail(TimeoutError(f"no answer in {self._read_timeout_seconds:g} s"))
        self._sweep_timer = loop.call_later(SWEEP_SECONDS, self._sweep, loop) if self._connections else None

    async def close(self) -> None:
        """Abort all connections."""
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)
