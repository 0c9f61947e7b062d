"""The boundary: the outermost ASGI layer, which validates every request before it is routed.

A request that passes has one spelling of its path, a host and an origin that this server answers for, headers and a
body within their limits, and a body that is strict JSON. Everything else is answered here. Bodies that are not JSON
(uploads) are limited in size and time while they stream, and never buffered.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from msgspec import Struct

from aitbc.kernel.http.dialects import DIALECT, Dialect, error_answer
from aitbc.kernel.http.disconnect import DISCONNECT
from aitbc.kernel.http.problems import with_head
from aitbc.kernel.http.scope import COUNT_AS_WAITING, MUTATING
from aitbc.kernel.http.websocket import ObservedWebSocket, refuse
from aitbc.kernel.primitives import strict_json
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.request_errors import (
    BodyTimeout,
    BodyTooLarge,
    ForeignOrigin,
    HeadersTooLarge,
    MalformedHeaders,
    MalformedHost,
    MisdirectedHost,
    Overloaded,
    UnsupportedMedia,
    UriTooLong,
)
from aitbc.kernel.primitives.request_id import request_id as current_request_id
from aitbc.server.asgi.request_body import BufferedBody, StreamedBody
from aitbc.server.asgi.request_head import (
    check_escapes,
    check_media_type,
    check_path,
    refuse_duplicates,
    request_id_of,
    tidy_path,
)

RawBodies = Callable[[str, str], int | None]
"""Method and path to the body limit of a route that takes something else than JSON; none for all others."""
Observer = Callable[[Scope, int, float], None]
"""Called after each response and each WebSocket: scope, status (0: the client disconnected), and seconds."""

ALWAYS_ANSWERED = frozenset({"/healthz"})
"""Answered even when the limit of requests in flight is reached."""
DRAIN_BYTES = 4 * 1024 * 1024
DRAIN_SECONDS = 1.0
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
API_POLICY = b"default-src 'none'; frame-ancestors 'none'"
_DEFAULT_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", API_POLICY),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
_DEFAULT_NAMES = frozenset(name for name, _ in _DEFAULT_HEADERS)

log = structlog.get_logger("aitbc.boundary")


class Limits(Struct, frozen=True, kw_only=True):
    """How much a request may be."""

    body_bytes: int = 1024 * 1024
    body_seconds: float = 30.0
    """A JSON body must be complete in this time; a streamed one must go on within it."""
    upload_seconds: float = 600.0
    """A streamed body must be complete in this time."""
    uri_bytes: int = 8 * 1024
    header_count: int = 100
    header_bytes: int = 32 * 1024
    in_flight: int = 4096
    """Requests being answered at once, except those that wait or stream."""
    waiting: int = 4096
    """Requests that wait or stream at once, and WebSockets."""


class Boundary:
    """The boundary as ASGI middleware.

    `hosts` are names without ports, or with; `origins` are whole: `https://host:port`.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        hosts: frozenset[str],
        origins: frozenset[str],
        raw_bodies: RawBodies,
        *,
        watch: Observer | None = None,
        dialect_of: Callable[[Scope], Dialect | None] = lambda _: None,
    ) -> None:
        self.app = app
        self.limits = limits
        self._hosts = frozenset(host.lower().encode() for host in hosts)
        self._origins = frozenset(origin.lower().encode() for origin in origins)
        self.raw_bodies = raw_bodies
        self.watch = watch
        self.dialect_of = dialect_of
        self.in_flight = 0
        self.waiting = 0
        self.sockets = 0
        """WebSockets that are open, or about to be."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, from its first byte to its last."""
        kind: str = scope["type"]
        if kind == "http":
            await _RequestCycle(self, scope, receive, send).run()
        elif kind == "websocket":
            await self._handle_websocket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _handle_websocket(self, scope: Any, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = request_id_of(headers)
        token = current_request_id.set(request_id)
        watched, started = ObservedWebSocket(receive, send), time.perf_counter()
        self.waiting += 1
        self.sockets += 1
        try:
            if self.waiting > self.limits.waiting:
                raise Overloaded
            self.check_head(scope, headers, changes=True)
            scope.setdefault("state", {})["request_id"] = request_id
            await self.app(scope, watched.receive, watched.send)
        except AppError as refusal:
            await refuse(scope, watched.send, refusal, request_id)
        except Exception:
            watched.fail()
            raise
        finally:
            self.waiting -= 1
            self.sockets -= 1
            if self.watch is not None:
                self.watch(scope, watched.status, time.perf_counter() - started)
            current_request_id.reset(token)

    def check_head(self, scope: Any, headers: Mapping[bytes, bytes], *, changes: bool) -> None:
        """Check everything but the body. Raises the refusal."""
        limits, raw = self.limits, scope["headers"]
        if len(raw) > limits.header_count or sum(map(len, chain.from_iterable(raw))) > limits.header_bytes:
            raise HeadersTooLarge
        if len(headers) != len(raw):
            refuse_duplicates(raw)
        self._check_host(headers.get(b"host"))
        path, query = scope.get("raw_path") or scope["path"].encode(), scope.get("query_string", b"")
        if len(path) + len(query) > limits.uri_bytes:
            raise UriTooLong
        check_path(path)
        if b"%" in query or not query.isascii():
            check_escapes(query)
        if changes:
            self._check_origin(scope, headers)

    def _check_host(self, host: bytes | None) -> None:
        if not host:
            raise MalformedHost
        if host in self._hosts:
            return
        host = host.lower()
        if host not in self._hosts and host.rpartition(b":")[0] not in self._hosts:
            raise MisdirectedHost

    def _check_origin(self, scope: Any, headers: Mapping[bytes, bytes]) -> None:
        """Refuse foreign browser pages. A program sends no origin, and needs a key that no foreign page has."""
        origin = headers.get(b"origin")
        if origin is not None:
            scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"]).encode()
            if origin.lower() not in self._origins and origin.lower() != scheme + b"://" + headers[b"host"].lower():
                raise ForeignOrigin
        elif headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
            raise ForeignOrigin


def copy_route(inner: Any, outer: Any) -> None:
    """Copy the matched route from a copy of a scope to the original, for logs and metrics."""
    if "path_template" in inner:
        outer["path_template"] = inner["path_template"]


class _RequestCycle:
    """The cycle of one HTTP request and its response."""

    __slots__ = (
        *("boundary", "head_only", "is_waiting", "receive", "request_id", "response_sent", "scope", "send", "status"),
        "unread",
    )

    def __init__(self, boundary: Boundary, scope: Any, receive: Receive, send: Send) -> None:
        self.boundary = boundary
        self.scope = scope
        self.receive = receive
        self.send = send
        self.status = 0
        self.unread = False
        """Parts of the body may still be on their way."""
        self.is_waiting = False
        """Whether it counts among those that wait or stream."""
        self.head_only = scope["method"] == "HEAD"
        self.response_sent: asyncio.Event | None = None
        """Set when the response to a HEAD is sent: the handler that still makes its body sees a disconnect."""

    async def run(self) -> None:
        """Handle the request, whatever happens."""
        boundary, scope = self.boundary, self.scope
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = request_id_of(headers)
        self.request_id = request_id.encode()
        token = current_request_id.set(request_id)
        started = time.perf_counter()
        boundary.in_flight += 1
        dialect = scope[DIALECT] = boundary.dialect_of(scope)
        if dialect is not None:
            tidy_path(scope)
        try:
            await self._handle(headers)
        except AppError as refusal:
            await self._send_problem(refusal)
        except asyncio.CancelledError:
            disconnect = scope.get(DISCONNECT)
            if disconnect is None or not disconnect.caused_cancellation():
                raise
        except Exception as error:
            if self.status:  # cut the connection rather than end half an answer as if it were whole
                raise
            log.error("request_failed", exc_info=error, path=scope["path"], method=scope["method"])
            await self._send_problem(
                AppError("Something went wrong on our side; the log knows more under this request id.")
            )
        finally:
            scope.get("state", {}).pop(COUNT_AS_WAITING, None)  # it refers to this cycle, and so to the scope
            if self.is_waiting:
                boundary.waiting -= 1
            else:
                boundary.in_flight -= 1
            if boundary.watch is not None:
                boundary.watch(scope, self.status, time.perf_counter() - started)
            current_request_id.reset(token)

    async def _handle(self, headers: dict[bytes, bytes]) -> None:
        boundary, scope = self.boundary, self.scope
        if boundary.in_flight > boundary.limits.in_flight and scope["path"] not in ALWAYS_ANSWERED:
            raise Overloaded
        method = scope["method"]
        self.unread = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
        boundary.check_head(scope, headers, changes=method not in SAFE_METHODS)
        receive = await self._check_body(headers)
        if receive is None:
            return
        state = scope.setdefault("state", {})
        state["request_id"] = self.request_id.decode()
        state[COUNT_AS_WAITING] = self._count_as_waiting
        if self.head_only:
            self.response_sent = asyncio.Event()
            scope, receive = {**scope, "method": "GET"}, BufferedBody(b"", self._receive_of_head)
        try:
            await boundary.app(scope, receive, self._send_message)
        finally:
            if self.head_only:
                copy_route(scope, self.scope)

    def _count_as_waiting(self) -> None:
        """The route waits or streams: count it apart, so that others are still answered. Raises `Overloaded`."""
        if not self.is_waiting:
            self.is_waiting = True
            self.boundary.in_flight -= 1
            self.boundary.waiting += 1
            if self.boundary.waiting > self.boundary.limits.waiting:
                raise Overloaded

    async def _check_body(self, headers: Mapping[bytes, bytes]) -> Receive | None:
        """Check the headers of the body, and return the `receive` that the application reads it from.

        None when the client has disconnected.
        """
        length, coding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
        method = self.scope["method"]
        if coding is None and (length is None or length == b"0") and method not in MUTATING:
            return BufferedBody(b"", self.receive)
        if coding is not None and length is not None:
            raise MalformedHeaders
        if length is not None and not (length.isdigit() and len(length) < 19):
            raise MalformedHeaders
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UnsupportedMedia
        raw_limit = self.boundary.raw_bodies(method, self.scope["path"])
        limit = self.boundary.limits.body_bytes if raw_limit is None else raw_limit
        size = int(length or 0)
        if size > limit:
            raise BodyTooLarge(f"The body may have {limit} bytes and has {size}.")
        if raw_limit is not None:
            limits = self.boundary.limits
            return StreamedBody(self.receive, limit, seconds=limits.body_seconds, total_seconds=limits.upload_seconds)
        if size or coding is not None:
            check_media_type(headers.get(b"content-type"))
        content = await self._read_body(limit)
        if content is None:
            return None
        self.unread = False
        if content:
            if not size and coding is None:  # a protocol that announces no length, such as HTTP/2
                check_media_type(headers.get(b"content-type"))
            strict_json.check(content)
        return BufferedBody(content, self.receive)

    async def _read_body(self, limit: int) -> bytes | None:
        """Read the whole body; none when the client disconnects before its end."""
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.boundary.limits.body_seconds):
                while True:
                    message = await self.receive()
                    if message["type"] != "http.request":
                        return None
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size > limit:
                        raise BodyTooLarge(f"The body may have {limit} bytes and has more.")
                    chunks.append(chunk)
                    if not message.get("more_body", False):
                        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        except TimeoutError:
            raise BodyTimeout from None

    async def _send_message(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._add_headers(message)
        elif self.head_only:
            assert self.response_sent is not None
            if self.response_sent.is_set():
                return
            self.response_sent.set()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self.send(message)

    def _add_headers(self, message: Any) -> None:
        """Add the headers of every response."""
        headers: list[tuple[bytes, bytes]] = list(message["headers"])
        present = {name for name, _ in headers}
        if self.scope["method"] == "OPTIONS" and b"allow" in present:
            headers = [(n, with_head(v.decode()).encode() if n == b"allow" else v) for n, v in headers]
        if _DEFAULT_NAMES.isdisjoint(present):
            headers += _DEFAULT_HEADERS
        else:
            headers += [pair for pair in _DEFAULT_HEADERS if pair[0] not in present]
        headers.append((b"x-request-id", self.request_id))
        message["headers"] = headers

    async def _receive_of_head(self) -> Any:
        """The `receive` of a HEAD request: a disconnect as soon as the response is sent."""
        assert self.response_sent is not None
        await self.response_sent.wait()
        return {"type": "http.disconnect"}

    async def _send_problem(self, refusal: AppError) -> None:
        """Send the answer to an error, and close the connection where a body may still arrive."""
        if self.status:
            raise refusal
        answer = error_answer(self.scope, refusal, self.request_id.decode())
        body = answer.body
        headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        headers.append((b"content-length", str(len(body)).encode()))
        if self.unread:
            headers.append((b"connection", b"close"))
        if isinstance(refusal, BodyTooLarge):
            await self._drain()
        self.status = answer.status
        start: Any = {"type": "http.response.start", "status": answer.status, "headers": headers}
        self._add_headers(start)
        await self.send(start)
        await self.send({"type": "http.response.body", "body": b"" if self.head_only else body, "more_body": False})

    async def _drain(self) -> None:
        """Drop a bounded part of a body that is too large: else the client would see a reset, not the answer."""
        left = DRAIN_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while left > 0:
                    message: Any = await self.receive()
                    left -= len(message.get("body", b"")) or 1
                    if not message.get("more_body", False):
                        return
