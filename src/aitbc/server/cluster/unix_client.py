"""Wires to another process of this machine: HTTP/1.1 over its Unix socket, one exchange after the other on each. # 0024

Nothing is gathered that does not say it is small, whoever is faster waits for the other, and nothing is ever sent twice.
"""

import asyncio
from pathlib import Path

from aitbc.server.cluster.peer_client import CONNECT_SECONDS, SILENCE_SECONDS, Content, Head, PeerResponse
from aitbc.server.cluster.unix_connection import UnixConnection

IDLE_SECONDS = 15.0
"""How long a wire is kept for the next exchange; less than the other side waits for one."""
LOOK_SECONDS = 1.0


class UnixClient:
    """The connections to one process of this machine."""

    def __init__(self, path: Path, *, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._path = path
        self._silence_seconds = silence_seconds
        self._all: set[UnixConnection] = set()
        self._idle: list[UnixConnection] = []
        """The one used last at the end: what a busy time made and a quiet one does not need ages at the front."""
        self._look: asyncio.TimerHandle | None = None

    async def ask(self, method: str, target: bytes, head: Head, content: Content = None) -> PeerResponse:
        """Send a request and wait for the head of its answer. Raises `OSError` when none comes, and what `content` raises."""
        while self._idle:
            wire = self._idle.pop()
            if not wire.is_closing:
                break
        else:
            wire = await self._new()
        try:
            return await wire.ask(method, target, head, content)
        except BaseException:
            wire.cut()
            raise

    async def _new(self) -> UnixConnection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            _, wire = await loop.create_unix_connection(lambda: UnixConnection(self), str(self._path))
        self._all.add(wire)
        if self._look is None:
            self._look = loop.call_later(LOOK_SECONDS, self._look_around, loop)
        return wire

    def keep(self, wire: UnixConnection) -> None:
        """For the next exchange."""
        self._idle.append(wire)

    def forget(self, wire: UnixConnection) -> None:
        """It is no more."""
        self._all.discard(wire)
        if wire in self._idle:
            self._idle.remove(wire)

    def _look_around(self, loop: asyncio.AbstractEventLoop) -> None:
        """End what waits in vain: one timer for all of them, in place of one for each exchange."""
        now = loop.time()
        for wire in list(self._all):
            if wire.is_idle:
                if now - wire.since > IDLE_SECONDS:
                    wire.cut()
            elif now - wire.since > self._silence_seconds and wire.waits_for_them:
                wire.fail(TimeoutError(f"no answer in {self._silence_seconds:g} s"))
        self._look = loop.call_later(LOOK_SECONDS, self._look_around, loop) if self._all else None

    async def close(self) -> None:
        """Cut all of them."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        for wire in list(self._all):
            wire.cut()
        await asyncio.sleep(0)
