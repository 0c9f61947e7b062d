"""The HTTP protocol class: uvicorn's, with limits on the head of a request that uvicorn leaves open."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from aitbc.kernel.http.disconnect import DISCONNECT, Disconnect
from aitbc.kernel.http.problems import PROBLEM_TYPE, problem
from aitbc.kernel.primitives.errors import AppError, Malformed
from aitbc.kernel.primitives.ids import new_request_id
from aitbc.kernel.primitives.request_errors import HeadersTooLarge
from aitbc.server.asgi.peer_uid import PEER_UID, PeerUid

HEAD_BYTES_MAX = 64 * 1024
"""The limit of an incomplete head; the boundary checks complete ones, more strictly."""
DISCARDED_BYTES_MAX = 72 * 1024 * 1024
DISCARDED_SECONDS_MAX = 30.0
"""How much of a body is read and dropped whose request was answered before its end, and for how long: a client that
sends all of it before it reads would lose the answer if the connection was closed at once."""

log = structlog.get_logger("aitbc.connection")


class HeadTimeout(AppError):
    """The head of the request was not complete in time."""

    status, code, exit_code = 408, "head_timeout", 6


class Connection(HttpToolsProtocol):
    """One client connection: times out slow request heads, and is not kept alive while draining."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        is_draining: Callable[[], bool],
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._is_draining = is_draining
        self._head_since: float | None = self.loop.time()
        self._head_bytes = 0
        self._is_in_body = False
        self._discarded_bytes = 0
        self._discarded_since: float | None = None
        self._disconnect: Disconnect | None = None

    # What the client sends

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection is open."""
        super().connection_made(transport)
        self._peer_uid = PeerUid(self.client, self.server)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client, in any portions."""
        cycle = self.cycle
        is_answered = cycle is None or cycle.response_complete
        is_unread = self._is_in_body and is_answered
        if self._head_since is None and is_answered and not is_unread:
            self._head_since = self.loop.time()
            self._head_bytes = 0
        super().data_received(data)
        if is_unread and self._is_in_body and self.cycle is cycle:
            self._discard(len(data))
        if self._head_since is not None and not is_unread:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
                self._close_with_problem(HeadersTooLarge())

    def on_headers_complete(self) -> None:
        """The head is complete: the request starts."""
        self._head_since = None
        self._head_bytes = 0
        self._is_in_body = True
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope[PEER_UID] = self._peer_uid
        scope[DISCONNECT] = self._disconnect = Disconnect()
        super().on_headers_complete()
        if self._is_draining() and self.cycle is not None:  # a WebSocket has none
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The body is complete, or there was none."""
        self._is_in_body = False
        self._discarded_since, self._discarded_bytes = None, 0
        if self.cycle is not None and self.cycle.response_complete:
            self._head_since = self.loop.time()  # the next request may follow; the time of an idle connection was used
            self._head_bytes = 0
        super().on_message_complete()

    def _discard(self, count: int) -> None:
        """Count what was dropped of a body whose request is answered already; close without a word past the limit."""
        if self._discarded_since is None:
            self._discarded_since = self.loop.time()
        self._discarded_bytes += count
        if self._discarded_bytes > DISCARDED_BYTES_MAX:
            self.transport.close()

    def _should_upgrade(self) -> bool:
        """Whether this is a WebSocket handshake: a GET with a key. Other upgrades are plain requests."""
        asks = self.scope["method"] == "GET" and any(name == b"sec-websocket-key" for name, _ in self.headers)
        return asks and super()._should_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        """No warning: an upgrade that is not offered is answered as a plain request."""

    # What ends it

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed: the request in progress is disconnected."""
        super().connection_lost(exc)
        if self._disconnect is not None:
            self._disconnect.set()

    def close_if_slow(self, now: float, seconds: float) -> None:
        """Close the connection if its request head has been incomplete for longer than this, or a body that nobody
        reads goes on for too long."""
        if self._discarded_since is not None and now - self._discarded_since > DISCARDED_SECONDS_MAX:
            self.transport.close()
        if self._head_since is not None and now - self._head_since > seconds and not self.transport.is_closing():
            if self._head_bytes == 0:
                self.transport.close()  # it never asked for anything, so there is nothing to answer
            else:
                self._close_with_problem(HeadTimeout())

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed with a problem document."""
        self._close_with_problem(Malformed("This is not an HTTP/1.1 request that can be read."))

    def _close_with_problem(self, refusal: AppError) -> None:
        """Send a problem document and close; within another response only close, since bytes would corrupt it."""
        if self.cycle is None or self.cycle.response_complete:
            ident = new_request_id()
            body = problem(refusal, ident)
            log.warning("request_unreadable", code=refusal.code, request_id=ident)
            head = (
                f"content-type: {PROBLEM_TYPE}\r\ncontent-length: {len(body)}\r\nx-request-id: {ident}\r\n"
                "cache-control: no-store\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(STATUS_LINE[refusal.status] + head.encode() + body)
        self.transport.close()


def close_slow_connections(connections: Iterable[Any], now: float, seconds: float) -> None:
    """Close all connections whose request heads are too slow."""
    for connection in list(connections):
        if isinstance(connection, Connection):
            connection.close_if_slow(now, seconds)
