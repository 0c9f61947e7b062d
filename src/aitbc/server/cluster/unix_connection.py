"""One keep-alive HTTP/1.1 client connection over a Unix socket: sequential exchanges, flow control, no retries."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol, cast

import httptools

from aitbc.server.cluster.peer_client import BUFFERED_BYTES_MAX, HeaderList, RequestBody

READ_AHEAD_BYTES = 256 * 1024
"""How much of a response may be buffered unread before reading pauses."""
HEAD_BYTES_MAX = 128 * 1024
BODYLESS = (204, 304)


class ConnectionPool(Protocol):
    """Holds the connections that are idle."""

    def release(self, connection: "UnixConnection") -> None:
        """Put a connection back into the pool."""

    def remove(self, connection: "UnixConnection") -> None:
        """Forget a connection that is closed."""


class UnixResponse:
    """A `PeerResponse` that the parser of its connection fills."""

    __slots__ = ("_connection", "headers", "is_buffered", "is_complete", "received", "status")

    def __init__(self, connection: "UnixConnection") -> None:
        self._connection = connection
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_buffered = False
        """Whether it announces no more than `BUFFERED_BYTES_MAX`."""
        self.is_complete = False
        self.received: list[bytes] = []

    @property
    def buffered_body(self) -> bytes | None:
        """The whole body, when all of it has arrived; none otherwise."""
        if not self.is_complete:
            return None
        return self.received[0] if len(self.received) == 1 else b"".join(self.received)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises `OSError` when the connection breaks."""
        while True:
            if self.received:
                received, self.received = self.received, []
                self._connection.resume_reading()
                yield b"".join(received)
            elif self.is_complete:
                return
            else:
                await self._connection.wait_for_progress()

    def close(self) -> None:
        """Release the connection; what was not read is discarded."""
        self._connection.finish(self)


class UnixConnection(asyncio.Protocol):
    """One connection: writes a request, parses its response."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._response: UnixResponse | None = None
        """The response of the current exchange."""
        self._parsing: UnixResponse | None = None
        """The response that the parser fills: none once it is complete, so that nothing can be added to it."""
        self._waiter: asyncio.Future[None] | None = None
        self._body_task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._is_writable = asyncio.Event()
        self._is_writable.set()
        self._head_bytes = 0
        self._buffered_bytes = 0
        self._is_head_request = False
        self._is_interim_response = False
        self._ends_at_close = False
        self._is_reusable = True
        self._is_reading_paused = False
        """Flow control: the read-ahead limit is reached, and nobody has read it yet."""
        self.last_activity = self._loop.time()
        """When bytes were last sent or received."""

    @property
    def is_idle(self) -> bool:
        """Whether there is no current exchange."""
        return self._response is None

    @property
    def is_closing(self) -> bool:
        """Whether the connection is closed, or about to be."""
        return self._transport is None or self._transport.is_closing()

    @property
    def awaits_peer(self) -> bool:
        """Whether the exchange waits for the peer, and not for our own caller: only then the read timeout counts."""
        is_sending = self._body_task is not None and not self._body_task.done()
        return not self._is_reading_paused and not (is_sending and self._is_writable.is_set())

    # One exchange

    async def request(self, method: str, target: bytes, headers: HeaderList, body: RequestBody) -> UnixResponse:
        """Send a request, and wait for the head of its response, or for all of a small one."""
        assert self._transport is not None
        self._response = self._parsing = response = UnixResponse(self)
        self._head_bytes, self._is_head_request = 0, method == "HEAD"
        self.last_activity = self._loop.time()
        lines = [method.encode(), b" ", target, b" HTTP/1.1\r\n"]
        has_length = False
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
            has_length = has_length or name == b"content-length"
        if isinstance(body, bytes):
            if not has_length:
                lines.append(b"content-length: %d\r\n" % len(body))
            lines += (b"\r\n", body)
        elif body is not None:
            lines.append(b"\r\n" if has_length else b"transfer-encoding: chunked\r\n\r\n")
        else:
            lines.append(b"\r\n")
        self._transport.write(b"".join(lines))
        if body is not None and not isinstance(body, bytes):
            self._body_task = self._loop.create_task(self._send_body(body, in_chunks=not has_length))
        while not (response.is_complete or (response.status and not response.is_buffered)):
            await self.wait_for_progress()
        return response

    async def _send_body(self, body: AsyncIterator[bytes], *, in_chunks: bool) -> None:
        assert self._transport is not None
        try:
            async for chunk in body:
                self._transport.writelines((b"%x\r\n" % len(chunk), chunk, b"\r\n") if in_chunks else (chunk,))
                self.last_activity = self._loop.time()
                if not self._is_writable.is_set():
                    await self._is_writable.wait()
                if self._transport.is_closing():
                    return
            if in_chunks:
                self._transport.write(b"0\r\n\r\n")
        except Exception as error:  # noqa: BLE001 - raised where the response is awaited
            self.fail(error)

    async def wait_for_progress(self) -> None:
        """Wait until the parser has something new. Raises what went wrong."""
        if self._error is None:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._error is not None:
            raise self._error

    def resume_reading(self) -> None:
        """Resume reading after the buffered body was taken."""
        self._buffered_bytes = 0
        if self._is_reading_paused and self._transport is not None:
            self._is_reading_paused = False
            self.last_activity = self._loop.time()
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def finish(self, response: UnixResponse) -> None:
        """End the exchange: back into the pool when it is complete, else abort."""
        if response is not self._response:
            return
        is_sent = self._body_task is None or self._body_task.done()
        if not (response.is_complete and is_sent and self._is_reusable) or self._error is not None:
            self.abort()
            return
        self._response = self._body_task = None
        self.resume_reading()
        self._pool.release(self)

    def abort(self) -> None:
        """Close the connection at once, whatever is in progress."""
        self._response = self._parsing = None
        if self._body_task is not None:
            self._body_task.cancel()
            self._body_task = None
        self._pool.remove(self)
        if self._waiter is not None:
            self.fail(ConnectionAbortedError("aborted"))
        if self._transport is not None:
            self._transport.abort()

    def fail(self, error: BaseException) -> None:
        """Fail the exchange: whoever waits for it gets this error."""
        if self._error is None:
            self._error = error
        self._parsing = None
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Callbacks of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Feed received bytes to the parser."""
        parsing = self._parsing
        if parsing is None:  # no request is open
            self.abort() if self._response is None else self._forbid_reuse()
            return
        self.last_activity = self._loop.time()
        if not parsing.status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.fail(ConnectionError(f"what came is no answer: {error}"))
            return
        if not parsing.status and self._head_bytes > HEAD_BYTES_MAX:
            self.fail(ConnectionError("the head of the answer does not end"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, by either side."""
        self._pool.remove(self)
        self._is_writable.set()
        parsing = self._parsing
        if parsing is not None and parsing.status and self._ends_at_close and exc is None:
            self._complete(parsing)
        elif parsing is not None:
            self.fail(exc if isinstance(exc, OSError) else ConnectionResetError("closed before the end of the answer"))
        self._is_reusable = False

    def pause_writing(self) -> None:
        """Flow control: the send buffer is full."""
        self._is_writable.clear()

    def resume_writing(self) -> None:
        """Flow control: the send buffer has room again."""
        self.last_activity = self._loop.time()
        self._is_writable.set()

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        """A response begins; a second one to the same request makes the connection unusable."""
        if self._parsing is None:
            self._forbid_reuse()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers are dropped."""
        if self._parsing is not None and not self._parsing.status:
            self._parsing.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head of the response is complete."""
        response, status = self._parsing, self._parser.get_status_code()
        if response is None:
            return
        if status < 200:  # an interim response (1xx) is not forwarded: the caller has got one already
            self._is_interim_response = True
            response.headers.clear()
            return
        has_length = is_coded = False
        for name, value in response.headers:
            if name == b"content-length":
                has_length, response.is_buffered = True, int(value) <= BUFFERED_BYTES_MAX
            elif name == b"transfer-encoding":
                is_coded = True
        response.status = status
        if self._is_head_request:  # which the parser does not know: it would wait for the body
            self._is_reusable = False
            self._complete(response)
            return
        self._ends_at_close = not (has_length or is_coded or status in BODYLESS)
        if not response.is_buffered:
            self._wake()

    def on_body(self, body: bytes) -> None:
        """A chunk of the body."""
        if self._parsing is None:
            return
        self._parsing.received.append(body)
        self._buffered_bytes += len(body)
        if self._buffered_bytes > READ_AHEAD_BYTES and not self._is_reading_paused and self._transport is not None:
            self._is_reading_paused = True
            self._transport.pause_reading()
        if not self._parsing.is_buffered:
            self._wake()

    def on_message_complete(self) -> None:
        """The response is complete."""
        if self._is_interim_response:
            self._is_interim_response = False
        elif self._parsing is not None:
            self._is_reusable = self._is_reusable and self._parser.should_keep_alive()
            self._complete(self._parsing)

    def _complete(self, response: UnixResponse) -> None:
        response.is_complete = True
        self._parsing = None
        self._wake()

    def _forbid_reuse(self) -> None:
        """Unexpected bytes came: later responses could not be matched to requests, so the connection is not reused."""
        self._is_reusable = False
