"""The internal API: calls on faces and events for handlers, for the other processes of the installation only.

It listens on the process's Unix socket, or on its inner port for other machines, outside of the boundary and of
OpenAPI, and requires a service token. On the inner port every request must carry one, those that the gateway forwards
too; only liveness and readiness are public there, for load balancers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from aitbc.kernel.database.outbox import decode
from aitbc.kernel.events.relay import EventHandler
from aitbc.kernel.http.disconnect import DISCONNECT
from aitbc.kernel.primitives.errors import AppError, NotFound, TooLarge
from aitbc.kernel.primitives.request_id import request_id
from aitbc.kernel.primitives.trace_context import current_span
from aitbc.server.asgi.request_head import trace_parent
from aitbc.server.cluster.peers import (
    EVENTS_OPERATION,
    HOST_HEADER,
    PROCESS_OPERATION,
    SERVICE_HEADER,
    EventBatch,
    Process,
    encode_error,
)
from aitbc.server.cluster.service_token import AUTH_SCHEME, TokenRefused, Tokens
from aitbc.server.cluster.stubs import dispatch, operations

PREFIX = "/internal/"
WITHOUT_TOKEN = frozenset({"/healthz", "/readyz"})
_SERVICE_HEADER, _HOST_HEADER = SERVICE_HEADER.lower().encode(), HOST_HEADER.lower().encode()
OwnOperations = Mapping[str, Callable[[bytes], Awaitable[Any]]]
"""By name: what takes the body of a call, and answers what is encoded as JSON."""
BODY_BYTES_MAX = 64 * 1024 * 1024

log = structlog.get_logger("aitbc.internal")


class NoSuchOperation(NotFound):
    """The internal API has no such operation."""

    code = "no_such_inner_door"


class CallTooLarge(TooLarge):
    """The arguments of this call are too large."""

    code = "inner_call_too_large"


class InternalApi:
    """The outermost ASGI application of a process with peers: answers internal calls, and passes everything else on."""

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens,
        faces: Mapping[str, tuple[type, Any]],
        event_handlers: Mapping[str, EventHandler],
        process: Process,
        port: int | None = None,
        own: OwnOperations | None = None,
    ) -> None:
        """`port` is the inner port, for other machines; `own` are operations of the process, and of no module."""
        self._own = own or {}
        self._app = app
        self._port = port
        self._tokens = tokens
        self._faces = faces
        self._handlers = event_handlers
        self._process = msgspec.json.encode(process)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        kind: str = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
            return
        is_inner_port = self._port is not None and _port_of(scope) == self._port
        if scope["path"].startswith(PREFIX) and (is_inner_port or _is_unix_socket(scope)):
            await (
                self._serve_internal(scope, receive, send) if scope["type"] == ScopeType.HTTP else _refuse(scope, send)
            )
        elif is_inner_port:
            await self._serve_forwarded(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve_forwarded(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve a request forwarded from another machine: verify its token, and restore its original host."""
        headers = dict(scope["headers"])
        host: bytes | None = b"localhost"
        if scope["path"] not in WITHOUT_TOKEN or _SERVICE_HEADER in headers:
            try:
                self._tokens.sender(headers.get(_SERVICE_HEADER, b"").decode("latin-1"))
            except AppError:
                await _refuse(scope, send)
                return
            host = headers.get(_HOST_HEADER, headers.get(b"host"))
        kept = [pair for pair in scope["headers"] if pair[0] not in (b"host", _HOST_HEADER, _SERVICE_HEADER)]
        scope = {**scope, "headers": kept if host is None else [(b"host", host), *kept]}
        await self._app(scope, receive, send)

    async def _serve_internal(self, scope: Any, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        ident = headers.get(b"x-request-id")
        token = request_id.set(ident.decode("ascii", "replace") if ident else None)
        parent = trace_parent(headers)
        span = current_span.set(None if parent is None else parent[1])
        disconnect, task = scope.get(DISCONNECT), asyncio.current_task()
        if disconnect is not None and task is not None:
            disconnect.cancel_task(task)  # cancel when the calling process disconnects
        headers_out = {}
        try:
            status, body = await self._call(scope["path"], headers, receive)
        except AppError as error:
            status, body, headers_out = error.status, encode_error(error), error.headers
        except asyncio.CancelledError:
            if disconnect is None or not disconnect.caused_cancellation():
                raise
            return
        except Exception as error:
            log.error("internal_call_failed", exc_info=error, path=scope["path"])
            status, body = 500, encode_error(AppError("An inner call failed; the log of the other process knows more."))
        finally:
            current_span.reset(span)
            request_id.reset(token)
        await _send(send, status, body, headers_out)

    async def _call(self, path: str, headers: Mapping[bytes, bytes], receive: Receive) -> tuple[int, bytes]:
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme != AUTH_SCHEME:
            raise TokenRefused
        self._tokens.sender(token)
        body = await _body(receive)
        if path == PREFIX + PROCESS_OPERATION:
            return 200, self._process
        if (operation := self._own.get(path.removeprefix(PREFIX))) is not None:
            return 200, msgspec.json.encode(await operation(body))
        module, _, name = path.removeprefix(PREFIX).partition("/")
        if module not in self._faces:
            raise NoSuchOperation
        if name == EVENTS_OPERATION:
            return await self._handle_events(body)
        api, service = self._faces[module]
        if name not in operations(api):
            raise NoSuchOperation
        return await dispatch(api, service, name, body)

    async def _handle_events(self, body: bytes) -> tuple[int, bytes]:
        batch = msgspec.json.decode(body, type=EventBatch)
        handler = self._handlers.get(batch.handler)
        if handler is None:
            raise NoSuchOperation
        await handler.receive([(id_, decode(kind, text)) for id_, kind, text in batch.events])
        return 200, b"null"


async def _send(send: Send, status: int, body: bytes, headers_out: Mapping[str, str]) -> None:
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    head += [(name.lower().encode(), value.encode()) for name, value in headers_out.items()]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _refuse(scope: Any, send: Send) -> None:
    """Refuse a request or WebSocket without a valid token."""
    if scope["type"] == ScopeType.HTTP:
        refusal = TokenRefused()
        await _send(send, refusal.status, encode_error(refusal), refusal.headers)
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": TokenRefused.code})


def _port_of(scope: Any) -> int | None:
    server = scope.get("server")
    return None if server is None else server[1]


def _is_unix_socket(scope: Any) -> bool:
    """Whether the request came over the Unix socket: the server's address is then a path without a port."""
    server = scope.get("server")
    return server is None or (server[1] is None and server[0].startswith("/"))


async def _body(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message: Any = await receive()
        if message["type"] != "http.request":
            raise asyncio.CancelledError
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > BODY_BYTES_MAX:
            raise CallTooLarge
        if not message.get("more_body", False):
            return b"".join(chunks)
