"""Connections to booked machines: a WebSocket for each shell, copy and forwarded connection, and how each ends."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from aitbc_cli.client import part
from aitbc_cli.command import Call
from aitbc_cli.exits import FAILED, REFUSED, UNAVAILABLE, Stop
from aitbc_cli.settings import LOOPBACK

OUT, ERR = 1, 2
PIECE_BYTES = 1 << 15
SILENT_SECONDS_MAX = 150.0
MESSAGE_BYTES_MAX = 1 << 17
TRIES = 10
"""How often a connection is tried that must be met at one of several servers."""
PAUSE_SECONDS = 0.5
ELSEWHERE = frozenset({421, 403})
"""The other end is at another server: a balancer may lead the next try there. A gateway tells it by the latter."""
ENDS = {
    "booking_not_active": "the time of the booking is over, or is not paid any more",
    "idle": "nothing was said for too long",
    "nobody_came": "the machine did not answer in time; its miner may be busy or away",
    "miner_cut": "the miner is gone, or the machine was ended",
    "frame_too_large": "a message was larger than may be",
    "unauthenticated": "the API key is not valid any more",
}
"""Why the server ended a connection, for people."""


class Line:
    """One connection that is open."""

    def __init__(self, socket: "aiohttp.ClientWebSocketResponse[bool]") -> None:
        self._socket = socket
        self.exit_code: int | None = None

    async def send(self, content: bytes) -> None:
        """Send bytes; waits while the other side does not read. Raises `Stop` when the line is cut."""
        try:
            for start in range(0, len(content), PIECE_BYTES):
                await self._socket.send_bytes(content[start : start + PIECE_BYTES])
        except (OSError, aiohttp.ClientError, RuntimeError):
            raise self._cut() from None

    async def say(self, told: Mapping[str, Any]) -> None:
        """Send a message about the connection."""
        if not self._socket.closed:
            await self._socket.send_str(json.dumps(told))

    async def until_started(self) -> None:
        """Wait until the machine is up. Raises `Stop` with what keeps it."""
        while True:
            message = await self._next()
            if isinstance(message, dict) and message.get("started"):
                return

    async def pieces(self) -> AsyncIterator[tuple[int, bytes]]:
        """What comes, with the stream that it is of, until it ends. Raises `Stop` for an error and a cut line."""
        while True:
            message = await self._next()
            if isinstance(message, bytes):
                if message:
                    yield message[0], message[1:]
            elif message.get("eof"):
                return
            elif isinstance(message.get("exit"), int):
                self.exit_code = message["exit"]
                return

    async def _next(self) -> bytes | dict[str, Any]:
        try:
            message = await self._socket.receive()
        except (TimeoutError, OSError, aiohttp.ClientError):
            raise self._cut() from None
        if message.type is aiohttp.WSMsgType.BINARY:
            return bytes(message.data)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise self._cut(message.extra if message.type is aiohttp.WSMsgType.CLOSE else None)
        try:
            told = json.loads(message.data)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict) or "error" in told:
            why = told["error"] if isinstance(told, dict) else "what it says makes no sense"
            raise Stop(f"the machine cannot do this: {why}", exit_code=FAILED, code="machine_failed")
        return told

    def _cut(self, reason: str | None = None) -> Stop:
        why = ENDS.get(reason or "", reason or "the server or the network went away")
        code = REFUSED if reason == "booking_not_active" else UNAVAILABLE
        return Stop(f"the connection to the machine ended: {why}", exit_code=code, code="machine_line_cut")


class Lines:
    """Opens connections to the machine of one booking."""

    def __init__(self, call: Call, booking: str, *, image: str | None = None, network: bool = False) -> None:
        self._call = call
        self._booking = booking
        self._more = {**({"image": image} if image else {}), **({"network": True} if network else {})}

    @asynccontextmanager
    async def open(self, purpose: str, **wanted: Any) -> AsyncIterator[Line]:
        """A connection, its machine up. Raises `Stop`."""
        path = f"/api/v1/gpu/bookings/{part(self._booking)}/sessions"
        once = f"cli-{os.urandom(16).hex()}"
        body = {"purpose": purpose, **wanted, **self._more}
        told = await asyncio.to_thread(lambda: self._call.api.post(path, body, once=once))
        where = self._call.where
        headers = {"Authorization": f"Bearer {where.key}"} if where.key else {}
        url = str(told.get("url") or where.url).rstrip("/")
        trusts_environment = urlsplit(url).hostname not in LOOPBACK
        async with aiohttp.ClientSession(headers=headers, trust_env=trusts_environment) as session:
            socket = await _connected(session, url + told["path"])
            async with socket:
                line = Line(socket)
                await line.until_started()
                yield line


async def _connected(session: aiohttp.ClientSession, url: str) -> "aiohttp.ClientWebSocketResponse[bool]":
    why = ""
    for _ in range(TRIES):
        try:
            return await session.ws_connect(
                url,
                timeout=aiohttp.ClientWSTimeout(ws_receive=SILENT_SECONDS_MAX, ws_close=5.0),
                max_msg_size=MESSAGE_BYTES_MAX,
            )
        except aiohttp.WSServerHandshakeError as refused:
            why = f"the server refused it with status {refused.status}"
            if refused.status not in ELSEWHERE:
                break
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = f"the server cannot be reached ({error})"
        await asyncio.sleep(PAUSE_SECONDS)
    raise Stop(f"no connection to the machine: {why}", exit_code=UNAVAILABLE, code="machine_line_refused")


async def copied(pieces: AsyncIterator[tuple[int, bytes]], write: Callable[[int, bytes], None]) -> None:
    """Write what comes, in threads, one piece after the other."""
    async for stream, piece in pieces:
        await asyncio.to_thread(write, stream, piece)
