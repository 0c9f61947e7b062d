"""Reads the answers of a chat server: what comes for all streams of a process is read in turns, by one thread.

A thread for each stream that wakes for each token would spend more on waking than on the tokens. So a stream's own
thread reads until its first text, which somebody waits for, and then rests until the stream has ended.
"""

import http.client
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress

from aitbc_cli.miner.executors.chunked_body import ChunkedBody

PIECE_BYTES = 65_536
PIECES_A_TURN = 16
"""How much of one stream is read before the others have their turn."""
TURN_SECONDS = (0.01, 0.06)
TURN_A_STREAM_SECONDS = 0.001
"""How long streams are left to gather between two turns: a little more for each that is under way."""
CHECK_SECONDS = 1.0
"""How often deadlines are looked at."""
_NOTHING_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Body:
    """The body of a response, out of the bytes of its connection."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.source = response.fp
        self._chunks = ChunkedBody() if response.chunked else None
        self._left = response.length
        """How much is still to come; none where the end of the connection ends it."""
        self.is_over = self.source is None or self._left == 0

    def feed(self, piece: bytes) -> bytes:
        """The bytes of the body in this piece; an empty one is the end of the connection.

        Raises `MalformedBody`, and `IncompleteRead` where the connection ends before the body does.
        """
        if not piece:
            self.is_over = True
            if self._chunks is not None:
                raise http.client.IncompleteRead(b"")
            return b""
        if self._chunks is not None:
            content = self._chunks.feed(piece)
            self.is_over = self._chunks.is_over
            return content
        if self._left is not None:
            piece = piece[: self._left]
            self._left -= len(piece)
            self.is_over = self._left == 0
        return piece


def pieces_of(body: Body, channel: socket.socket, deadline: float) -> Iterator[bytes]:
    """What the server sends, as it comes. Raises `TimeoutError` at the deadline, and as `Body.feed`."""
    while not body.is_over and body.source is not None:
        # Anew before each read: a server that sends a byte a second may not keep the slot for ever.
        channel.settimeout(remaining(deadline))
        if content := body.feed(body.source.read1(PIECE_BYTES)):
            yield content


def remaining(deadline: float) -> float:
    """The seconds until a deadline of the monotonic clock. Raises `TimeoutError` after it."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


class _Reading:
    """One stream that is read."""

    def __init__(self, channel: socket.socket, body: Body, take: Callable[[bytes], None], deadline: float) -> None:
        self.channel = channel
        self.deadline = deadline
        self.is_over = False
        self.problem: BaseException | None = None
        self.has_more = False
        """Whether there may be more that no selector tells of."""
        self.told = threading.Event()
        """Set once it is over and nothing here uses its connection."""
        self._body = body
        self._take = take

    def turn(self) -> None:
        """Take what has come; what goes wrong ends it."""
        self.has_more = False
        try:
            for _ in range(PIECES_A_TURN):
                piece = self.channel.recv(PIECE_BYTES)
                if content := self._body.feed(piece):
                    self._take(content)
                if self._body.is_over:
                    self.is_over = True
                    return
                if len(piece) < PIECE_BYTES and not isinstance(self.channel, ssl.SSLSocket):
                    return
            self.has_more = True
        except _NOTHING_YET:
            return
        except Exception as error:  # noqa: BLE001 - raised again where its end is waited for
            self.end(error)

    def end(self, problem: BaseException) -> None:
        """Have it end with this."""
        self.problem = problem
        self.is_over = True


class ChatReader:
    """Reads streams, each for a thread that waits for its end."""

    def __init__(self) -> None:
        self.together: Callable[[], AbstractContextManager[None]] = nullcontext
        """What a turn is taken within."""
        self._lock = threading.Lock()
        self._fresh: list[_Reading] = []
        self._selector = selectors.DefaultSelector()
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._ringer.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._thread: threading.Thread | None = None

    def read(self, channel: socket.socket, body: Body, take: Callable[[bytes], None], deadline: float) -> None:
        """Read a connection to the end of its body; nothing of it may be held by a buffer.

        Raises what `take` raises, `TimeoutError` at the deadline, and as `Body.feed`.
        """
        if body.is_over:
            return
        channel.settimeout(0)
        reading = _Reading(channel, body, take, deadline)
        with self._lock:
            self._fresh.append(reading)
            if self._thread is None:
                self._thread = threading.Thread(target=self._read, daemon=True)
                self._thread.start()
        with suppress(BlockingIOError):  # it has been rung often enough
            self._ringer.send(b"\0")
        reading.told.wait()
        if reading.problem is not None:
            raise reading.problem

    def _read(self) -> None:
        readings: set[_Reading] = set()
        checked_at = time.monotonic()
        while True:
            has_more = any(reading.has_more for reading in readings)
            ready = self._ready(0 if has_more else CHECK_SECONDS if readings else None)
            fresh = self._begun()
            readings |= fresh
            with self.together():
                for reading in readings:
                    if reading in ready or reading in fresh or reading.has_more:
                        reading.turn()
            if time.monotonic() >= checked_at + CHECK_SECONDS:
                checked_at = time.monotonic()
                for reading in readings:
                    if reading.deadline <= checked_at and not reading.is_over:
                        reading.end(TimeoutError())
            over = {reading for reading in readings if reading.is_over}
            readings -= over
            for reading in over:  # what was taken of them has been sent: their threads go on
                self._selector.unregister(reading.channel)
                reading.told.set()
            least, most = TURN_SECONDS
            time.sleep(min(max(len(readings) * TURN_A_STREAM_SECONDS, least), most))

    def _ready(self, seconds: float | None) -> set[_Reading]:
        found = {key.data for key, _ in self._selector.select(seconds)}
        if None in found:
            self._bell.recv(PIECE_BYTES)
        return found - {None}

    def _begun(self) -> set[_Reading]:
        """Those that came since the last turn."""
        with self._lock:
            fresh, self._fresh = self._fresh, []
        for reading in fresh:
            self._selector.register(reading.channel, selectors.EVENT_READ, reading)
        return set(fresh)
