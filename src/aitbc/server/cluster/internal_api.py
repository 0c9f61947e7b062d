"""The inner doors of a process: calls on its faces and events for its hearers, for the other processes of the installation only.

They stand on the process's Unix socket, or on its inner port for other machines, outside of the boundary and of OpenAPI, and
ask for a service token. On the inner port every request must show one, those that the gateway forwards too; only whether the
process lives and is ready is told to whoever asks, for load balancers.
"""

import asyncio
from collections.abc import Mapping
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
from aitbc.server.cluster.peers import (
    CHALLENGE,
    HEAR,
    HOST,
    SELF,
    SERVICE,
    Call,
    Process,
    TokenRefused,
    Tokens,
    refusal_of,
)
from aitbc.server.cluster.stubs import answer, operations

PREFIX = "/internal/"
FOR_ALL = frozenset({"/healthz", "/readyz"})
_SERVICE, _HOST = SERVICE.lower().encode(), HOST.lower().encode()
BODY_BYTES_MAX = 64 * 1024 * 1024

log = structlog.get_logger("aitbc.inner")


class NoSuchOperation(NotFound):
    """There is no such inner door."""

    code = "no_such_inner_door"


class CallTooLarge(TooLarge):
    """The arguments of this call are too large."""

    code = "inner_call_too_large"


class InternalApi:
    """The outermost application of a process that has neighbours: inner calls are answered here, all else goes on."""

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens,
        faces: Mapping[str, tuple[type, Any]],
        event_handlers: Mapping[str, EventHandler],
        process: Process,
        port: int | None = None,
    ) -> None:
        """`port` is the inner one for other machines."""
        self._app = app
        self._port = port
        self._tokens = tokens
        self._faces = faces
        self._hearers = event_handlers
        self._process = msgspec.json.encode(process)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        kind: str = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
            return
        is_inner_port = self._port is not None and _port_of(scope) == self._port
        if scope["path"].startswith(PREFIX) and (is_inner_port or _is_inside(scope)):
            await (self._answer(scope, receive, send) if scope["type"] == ScopeType.HTTP else _refuse(scope, send))
        elif is_inner_port:
            await self._forwarded(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _forwarded(self, scope: Any, receive: Receive, send: Send) -> None:
        """A caller's request from the gateway on another machine: as it was there, once the token is seen."""
        headers = dict(scope["headers"])
        host: bytes | None = b"localhost"
        if scope["path"] not in FOR_ALL or _SERVICE in headers:
            try:
                self._tokens.sender(headers.get(_SERVICE, b"").decode("latin-1"))
            except AppError:
                await _refuse(scope, send)
                return
            host = headers.get(_HOST, headers.get(b"host"))
        kept = [pair for pair in scope["headers"] if pair[0] not in (b"host", _HOST, _SERVICE)]
        scope = {**scope, "headers": kept if host is None else [(b"host", host), *kept]}
        await self._app(scope, receive, send)

    async def _answer(self, scope: Any, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        ident = headers.get(b"x-request-id")
        token = request_id.set(ident.decode("ascii", "replace") if ident else None)
        gone, task = scope.get(DISCONNECT), asyncio.current_task()
        if gone is not None and task is not None:
            gone.cancel_task(task)  # whoever called is no longer there to be told
        told = {}
        try:
            status, body = await self._call(scope["path"], headers, receive)
        except AppError as error:
            status, body, told = error.status, refusal_of(error), error.headers
        except asyncio.CancelledError:
            if gone is None or not gone.caused_cancellation():
                raise
            return
        except Exception as error:
            log.error("inner_call_failed", exc_info=error, path=scope["path"])
            status, body = 500, refusal_of(AppError("An inner call failed; the log of the other process knows more."))
        finally:
            request_id.reset(token)
        await _send(send, status, body, told)

    async def _call(self, path: str, headers: Mapping[bytes, bytes], receive: Receive) -> tuple[int, bytes]:
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme != CHALLENGE:
            raise TokenRefused
        self._tokens.sender(token)
        body = await _body(receive)
        if path == PREFIX + SELF:
            return 200, self._process
        module, _, name = path.removeprefix(PREFIX).partition("/")
        if module not in self._faces:
            raise NoSuchOperation
        if name == HEAR:
            return await self._hear(body)
        api, service = self._faces[module]
        if name not in operations(api):
            raise NoSuchOperation
        return await answer(api, service, name, body)

    async def _hear(self, body: bytes) -> tuple[int, bytes]:
        call = msgspec.json.decode(body, type=Call)
        hearer = self._hearers.get(call.hearer)
        if hearer is None:
            raise NoSuchOperation
        await hearer.receive([(id_, decode(kind, text)) for id_, kind, text in call.events])
        return 200, b"null"


async def _send(send: Send, status: int, body: bytes, told: Mapping[str, str]) -> None:
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    head += [(name.lower().encode(), value.encode()) for name, value in told.items()]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _refuse(scope: Any, send: Send) -> None:
    """Nobody comes in here without a token."""
    if scope["type"] == ScopeType.HTTP:
        refusal = TokenRefused()
        await _send(send, refusal.status, refusal_of(refusal), refusal.headers)
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": TokenRefused.code})


def _port_of(scope: Any) -> int | None:
    server = scope.get("server")
    return None if server is None else server[1]


def _is_inside(scope: Any) -> bool:
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
