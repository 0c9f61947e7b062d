"""The relay: carries the messages of connections to machines between their two ends, which meet in this process.

Nothing is kept: a message is handed on before the next one is read, so a slow reader slows the writer down.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc.modules.gpu.service.machines import Machines, MachineSessionOver, SessionEnd
from aitbc.modules.gpu.service.settings import GpuSettings

FRAME_BYTES_MAX = (1 << 16) + 1
"""The longest message of bytes: a piece of a stream, and which stream it is."""
TEXT_BYTES_MAX = 4096
NORMAL, TOO_LARGE, REFUSED, TRY_LATER = 1000, 1009, 1008, 1013
RENEW_SECONDS = 20.0
OTHER = {"client": "miner", "miner": "client"}

log = structlog.get_logger("aitbc.gpu")


class Socket(Protocol):
    """One WebSocket that is open, message by message, as ASGI has them."""

    @property
    def receive(self) -> Callable[[], Awaitable[Any]]:
        """What gives the next message."""

    @property
    def send(self) -> Callable[[Any], Awaitable[None]]:
        """What sends a message."""


class _Pair:
    """The two ends of one connection."""

    def __init__(self, booking: str) -> None:
        self.booking = booking
        self.ends: dict[str, Socket] = {}
        self.both = asyncio.Event()
        self.over = asyncio.Event()
        self.code, self.reason = NORMAL, ""
        self.moved_at = asyncio.get_running_loop().time()

    def end(self, code: int, reason: str) -> None:
        """End it; the first reason counts."""
        if not self.over.is_set():
            self.code, self.reason = code, reason
            self.over.set()


class MachineRelay:
    """The connections that this process carries."""

    def __init__(self, machines: Machines, settings: GpuSettings, draining: asyncio.Event) -> None:
        self.draining = draining
        self._machines = machines
        self._settings = settings
        name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._place = f"{settings.own_url} {name}" if settings.own_url else name
        self._pairs: dict[str, _Pair] = {}
        self._renewed_at = 0.0

    async def admit(self, who: Principal, session: str, side: str) -> SessionEnd:
        """Admit one end, before its WebSocket is accepted. Raises what `Machines.admit` does."""
        end = await self._machines.admit(who, session, side, self._place)
        if (pair := self._pairs.get(session)) is not None and side in pair.ends:
            raise MachineSessionOver
        return end

    async def carry(self, end: SessionEnd, own: Socket) -> None:
        """Carry what one end sends to the other, until either is gone; closes the WebSocket."""
        pair = self._pairs.setdefault(end.session, _Pair(end.booking))
        if end.side in pair.ends:
            await _close(own, REFUSED, MachineSessionOver.code)
            return
        pair.ends[end.side] = own
        try:
            if len(pair.ends) == 2:
                await self._machines.note_open(end.session)
                pair.both.set()
            await self._run(pair, end.side)
        finally:
            pair.end(TRY_LATER, "cut")
            del pair.ends[end.side]
            if self._pairs.get(end.session) is pair:
                del self._pairs[end.session]
                await self._machines.note_ended(end.session, pair.reason)
        await _close(own, pair.code, pair.reason)

    async def _run(self, pair: _Pair, side: str) -> None:
        """One direction of a connection, to its end."""
        over = asyncio.create_task(pair.over.wait())
        pump = asyncio.create_task(self._pump(pair, side))
        try:
            await asyncio.wait({over, pump}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait([over, pump])

    async def _pump(self, pair: _Pair, side: str) -> None:
        try:
            async with asyncio.timeout(self._settings.machine_wait_seconds):
                await pair.both.wait()
        except TimeoutError:
            pair.end(TRY_LATER, "nobody_came")
            return
        own, other = pair.ends[side], pair.ends[OTHER[side]]
        while True:
            message = await own.receive()
            if message["type"] != "websocket.receive":
                await self._left(pair, side, is_clean=message.get("code") in (NORMAL, None))
                return
            text, content = message.get("text"), message.get("bytes")
            if len(text or "") > TEXT_BYTES_MAX or len(content or b"") > FRAME_BYTES_MAX:
                pair.end(TOO_LARGE, "frame_too_large")
                return
            pair.moved_at = asyncio.get_running_loop().time()
            try:
                await other.send({"type": "websocket.send", "text": text, "bytes": content})
            except OSError:  # it is gone: its own receive says so too
                pair.end(TRY_LATER, f"{OTHER[side]}_cut")
                return

    async def _left(self, pair: _Pair, side: str, *, is_clean: bool) -> None:
        """One end has closed; a miner that learned first that the booking is over closes for that reason."""
        if side == "miner" and pair.booking in await self._machines.unpaid([pair.booking]):
            pair.end(REFUSED, "booking_not_active")
        pair.end(NORMAL if is_clean else TRY_LATER, f"{side}_closed" if is_clean else f"{side}_cut")

    async def look(self) -> None:
        """End what carries nothing for too long or is not paid any more, and say which connections go on."""
        if not self._pairs:
            return
        at = asyncio.get_running_loop().time()
        for pair in list(self._pairs.values()):
            if pair.moved_at + self._settings.machine_idle_seconds < at:
                pair.end(REFUSED, "idle")
        unpaid = await self._machines.unpaid(sorted({pair.booking for pair in self._pairs.values()}))
        for pair in list(self._pairs.values()):
            if pair.booking in unpaid:
                pair.end(REFUSED, "booking_not_active")
        if self._renewed_at + RENEW_SECONDS < at:
            self._renewed_at = at
            await self._machines.renew(list(self._pairs))


async def _close(own: Socket, code: int, reason: str) -> None:
    try:
        await own.send({"type": "websocket.close", "code": code, "reason": reason})
    except (OSError, RuntimeError):  # it was closed before
        log.debug("machine_line_closed_before", reason=reason)
