"""A bare HTTP/1.1 client for the load: one request at a time on a connection that stays open, and nothing parsed in vain."""

import asyncio
from typing import Any

LENGTH = b"content-length: "


class Broken(Exception):
    """The connection ended in the middle of an answer."""


class UnixConnection(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._received = b""
        self._head_end = self._end = 0

    @classmethod
    async def open(cls, port: int) -> "UnixConnection":
        """Connect to a server on this machine."""
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(cls, "127.0.0.1", port)
        return wire

    def connection_made(self, transport: Any) -> None:
        """The way is open."""
        self._transport = transport

    def ask(self, request: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        """Send a whole request; gives the status and the body of the answer."""
        assert self._transport is not None
        assert self._answer is None, "one request at a time"
        self._answer = asyncio.get_running_loop().create_future()
        self._received, self._end = b"", 0
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer, in any portions."""
        self._received = self._received + data if self._received else data
        if not self._end:
            head_end = self._received.find(b"\r\n\r\n")
            if head_end < 0:
                return
            at = self._received.find(LENGTH, 0, head_end) + len(LENGTH)
            assert at >= len(LENGTH), self._received[:head_end]
            self._head_end = head_end + 4
            self._end = self._head_end + int(self._received[at : self._received.index(b"\r", at)])
        if len(self._received) >= self._end and self._answer is not None:
            answer, self._answer = self._answer, None
            if not answer.done():
                answer.set_result((int(self._received[9:12]), self._received[self._head_end : self._end]))

    def connection_lost(self, error: Exception | None) -> None:
        """The other side closed."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Broken(str(error)))

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


def head(method: str, path: str, key: str, **more: str) -> bytes:
    """The unchanging part of a request's head; for a body, its length and the body follow: see `with_body`."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"authorization: Bearer {key}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    return ("\r\n".join(lines) + "\r\n").encode()


def with_body(start: bytes, body: bytes, more: bytes = b"") -> bytes:
    """A whole request with a JSON body; `more` are further header lines, each with its end."""
    return b"%bcontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (start, more, len(body), body)
