"""One HTTP/1.1 connection to another process of this machine: one exchange after the other, nothing ever sent twice."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol, cast

import httptools

from aitbc.server.cluster.peer_client import WHOLE_BYTES, Content, Head

AHEAD_BYTES = 256 * 1024
"""How much of an answer may lie here unread before the other side has to wait."""
HEAD_BYTES_MAX = 128 * 1024
BODYLESS = (204, 304)


class ConnectionPool(Protocol):
    """Whoever keeps the connections between two exchanges."""

    def keep(self, wire: "UnixConnection") -> None:
        """For the next exchange."""

    def forget(self, wire: "UnixConnection") -> None:
        """It is no more."""


class UnixResponse:
    """An `PeerResponse` on a wire; the parser fills it."""

    __slots__ = ("_wire", "headers", "is_complete", "is_small", "parts", "status")

    def __init__(self, wire: "UnixConnection") -> None:
        self._wire = wire
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_small = False
        """It says that it is no longer than `WHOLE_BYTES`."""
        self.is_complete = False
        self.parts: list[bytes] = []

    @property
    def whole(self) -> bytes | None:
        """The whole body, where all of it is here."""
        if not self.is_complete:
            return None
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises `OSError` when it breaks off."""
        while True:
            if self.parts:
                parts, self.parts = self.parts, []
                self._wire.go_on()
                yield b"".join(parts)
            elif self.is_complete:
                return
            else:
                await self._wire.more()

    def close(self) -> None:
        """It was read, or nobody wants the rest."""
        self._wire.end(self)


class UnixConnection(asyncio.Protocol):
    """One connection."""

    def __init__(self, wires: ConnectionPool) -> None:
        self._wires = wires
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: UnixResponse | None = None
        """The one that is awaited."""
        self._reading: UnixResponse | None = None
        """The one that the parser fills: none when it is complete, so that nothing can be added to it."""
        self._waiter: asyncio.Future[None] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._head_bytes = 0
        self._held_bytes = 0
        self._asks_for_head = False
        self._is_interim = False
        self._ends_with_the_wire = False
        self._can_be_kept = True
        self._is_held_up = False
        """The other side has to wait, since nobody takes what it has sent."""
        self.since = self._loop.time()
        """When something was last sent or heard."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is awaited."""
        return self._answer is None

    @property
    def is_closing(self) -> bool:
        """Whether the other side has ended it, and the transport has yet to tell."""
        return self._transport is None or self._transport.is_closing()

    @property
    def waits_for_them(self) -> bool:
        """Whether it is the other side that must go on, and not whoever asks there."""
        is_sending = self._sending is not None and not self._sending.done()
        return not self._is_held_up and not (is_sending and self._may_write.is_set())

    # One exchange

    async def ask(self, method: str, target: bytes, head: Head, content: Content) -> UnixResponse:
        """Send a request, and wait for the head of its answer, or for all of a small one."""
        assert self._transport is not None
        self._answer = self._reading = answer = UnixResponse(self)
        self._head_bytes, self._asks_for_head = 0, method == "HEAD"
        self.since = self._loop.time()
        lines = [method.encode(), b" ", target, b" HTTP/1.1\r\n"]
        has_length = False
        for name, value in head:
            lines += (name, b": ", value, b"\r\n")
            has_length = has_length or name == b"content-length"
        if isinstance(content, bytes):
            if not has_length:
                lines.append(b"content-length: %d\r\n" % len(content))
            lines += (b"\r\n", content)
        elif content is not None:
            lines.append(b"\r\n" if has_length else b"transfer-encoding: chunked\r\n\r\n")
        else:
            lines.append(b"\r\n")
        self._transport.write(b"".join(lines))
        if content is not None and not isinstance(content, bytes):
            self._sending = self._loop.create_task(self._send(content, in_chunks=not has_length))
        while not (answer.is_complete or (answer.status and not answer.is_small)):
            await self.more()
        return answer

    async def _send(self, content: AsyncIterator[bytes], *, in_chunks: bool) -> None:
        assert self._transport is not None
        try:
            async for piece in content:
                self._transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n") if in_chunks else (piece,))
                self.since = self._loop.time()
                if not self._may_write.is_set():
                    await self._may_write.wait()
                if self._transport.is_closing():
                    return
            if in_chunks:
                self._transport.write(b"0\r\n\r\n")
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the one who waits
            self.fail(error)

    async def more(self) -> None:
        """Wait until something happens. Raises what went wrong."""
        if self._error is None:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._error is not None:
            raise self._error

    def go_on(self) -> None:
        """What was here was taken: the other side may send again."""
        self._held_bytes = 0
        if self._is_held_up and self._transport is not None:
            self._is_held_up = False
            self.since = self._loop.time()
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def end(self, answer: UnixResponse) -> None:
        """The exchange is over; the wire is kept when it went as it should."""
        if answer is not self._answer:
            return
        is_sent = self._sending is None or self._sending.done()
        if not (answer.is_complete and is_sent and self._can_be_kept) or self._error is not None:
            self.cut()
            return
        self._answer = self._sending = None
        self.go_on()
        self._wires.keep(self)

    def cut(self) -> None:
        """End the connection at once, whatever is under way."""
        self._answer = self._reading = None
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        self._wires.forget(self)
        if self._waiter is not None:
            self.fail(ConnectionAbortedError("cut"))
        if self._transport is not None:
            self._transport.abort()

    def fail(self, error: BaseException) -> None:
        """Tell who waits that no more will come, and why."""
        if self._error is None:
            self._error = error
        self._reading = None
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer, in any portions."""
        reading = self._reading
        if reading is None:  # nobody asked
            self.cut() if self._answer is None else self._doubt()
            return
        self.since = self._loop.time()
        if not reading.status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.fail(ConnectionError(f"what came is no answer: {error}"))
            return
        if not reading.status and self._head_bytes > HEAD_BYTES_MAX:
            self.fail(ConnectionError("the head of the answer does not end"))

    def connection_lost(self, exc: Exception | None) -> None:
        """It is no more, whoever ended it."""
        self._wires.forget(self)
        self._may_write.set()
        reading = self._reading
        if reading is not None and reading.status and self._ends_with_the_wire and exc is None:
            self._complete(reading)
        elif reading is not None:
            self.fail(exc if isinstance(exc, OSError) else ConnectionResetError("closed before the end of the answer"))
        self._can_be_kept = False

    def pause_writing(self) -> None:
        """The other side takes nothing more for now."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """It takes again."""
        self.since = self._loop.time()
        self._may_write.set()

    # What the parser finds

    def on_message_begin(self) -> None:
        """An answer; a second one to the same request is nobody's."""
        if self._reading is None:
            self._doubt()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; what stands behind a body is not passed on."""
        if self._reading is not None and not self._reading.status:
            self._reading.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is here."""
        answer, status = self._reading, self._parser.get_status_code()
        if answer is None:
            return
        if status < 200:  # an interim answer is this process's own affair: its caller has got one already
            self._is_interim = True
            answer.headers.clear()
            return
        has_length = is_coded = False
        for name, value in answer.headers:
            if name == b"content-length":
                has_length, answer.is_small = True, int(value) <= WHOLE_BYTES
            elif name == b"transfer-encoding":
                is_coded = True
        answer.status = status
        if self._asks_for_head:  # which the parser does not know: it would wait for the body
            self._can_be_kept = False
            self._complete(answer)
            return
        self._ends_with_the_wire = not (has_length or is_coded or status in BODYLESS)
        if not answer.is_small:
            self._wake()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._reading is None:
            return
        self._reading.parts.append(body)
        self._held_bytes += len(body)
        if self._held_bytes > AHEAD_BYTES and not self._is_held_up and self._transport is not None:
            self._is_held_up = True
            self._transport.pause_reading()
        if not self._reading.is_small:
            self._wake()

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._is_interim:
            self._is_interim = False
        elif self._reading is not None:
            self._can_be_kept = self._can_be_kept and self._parser.should_keep_alive()
            self._complete(self._reading)

    def _complete(self, answer: UnixResponse) -> None:
        answer.is_complete = True
        self._reading = None
        self._wake()

    def _doubt(self) -> None:
        """Something came that nobody asked for: what it answers cannot be known, so nobody may ask here again."""
        self._can_be_kept = False
