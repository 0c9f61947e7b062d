"""The access log: one line for each request and WebSocket, without query, headers and body."""

from collections.abc import Mapping
from datetime import datetime
from time import perf_counter
from typing import Any

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from msgspec import Struct

from aitbc.kernel.http.websocket import ObservedWebSocket
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.kernel.telemetry.log_writer import LogWriter
from aitbc.kernel.telemetry.logs import NUMBERS, current, escape_unsafe, render_console, truncated
from aitbc.kernel.telemetry.metrics import CLIENT_CLOSED_REQUEST

PATH_LENGTH_MAX = 200
LOGGED_ELSEWHERE = "told_elsewhere"
"""The key in a request's state: the process it was forwarded to has logged it."""
_encode = msgspec.json.Encoder().encode


class AccessLine(Struct, frozen=True, omit_defaults=True):
    """A line of the access log."""

    timestamp: datetime
    level: str
    event: str
    method: str
    path: str
    status: int
    milliseconds: float
    bytes: int
    route: str | None = None
    request_id: str | None = None
    key: str | None = None
    code: int | None = None
    """With which a WebSocket was closed."""


class AccessLog:
    """ASGI middleware that writes the access log; outside of the boundary."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, to its end."""
        kind: str = scope["type"]
        if kind == ScopeType.WEBSOCKET:
            await self._websocket(scope, receive, send)
            return
        if kind != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started, status, size, request = perf_counter(), CLIENT_CLOSED_REQUEST, 0, None

        async def watched(message: Message) -> None:
            nonlocal status, size, request
            if message["type"] == "http.response.body":
                size += len(message["body"])
            elif message["type"] == "http.response.start":
                # Noted here, since whoever set it may take it back on the way out.
                status, request = message["status"], current_request_id()
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except BaseException as error:
            status = 500 if isinstance(error, Exception) else status
            raise
        finally:
            if current.writer is not None:
                self._write(
                    current.writer, scope, status, size, perf_counter() - started, request or current_request_id()
                )

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One WebSocket, to its end: the status is 101 once it was open."""
        watched, started, request = ObservedWebSocket(receive, send), perf_counter(), None

        async def sent(message: Any) -> None:
            nonlocal request
            request = request or current_request_id()
            await watched.send(message)

        try:
            await self._app(scope, watched.receive, sent)
        except Exception:
            watched.fail()
            raise
        finally:
            if current.writer is not None:
                took = perf_counter() - started
                self._write(current.writer, scope, watched.status, watched.size, took, request, watched.code)

    def _write(
        self,
        writer: LogWriter,
        scope: Mapping[str, Any],
        status: int,
        size: int,
        seconds: float,
        request: str | None,
        code: int | None = None,
    ) -> None:
        level = "info" if status < 500 else "error"
        if scope.get("state", {}).get(LOGGED_ELSEWHERE) and status != CLIENT_CLOSED_REQUEST:
            return
        if NUMBERS[level] < current.levels.threshold("aitbc.access"):
            return
        principal = scope.get("state", {}).get("principal")
        line = AccessLine(
            now(),
            level,
            "request_answered" if scope["type"] == ScopeType.HTTP else "websocket_ended",
            scope.get("method", "GET"),
            scope["path"][:PATH_LENGTH_MAX],
            status,
            round(seconds * 1000, 3),
            size,
            scope.get("path_template"),
            request,
            getattr(principal, "key", None),
            code,
        )
        if current.console:
            writer.write(
                render_console({**msgspec.to_builtins(line), "timestamp": line.timestamp}, color=current.color)
            )
            return
        try:
            text = _encode(line)
        except UnicodeEncodeError:  # a path whose bytes are not UTF-8
            text = msgspec.json.encode(truncated(msgspec.structs.asdict(line)))
        writer.write((text if text.isascii() else escape_unsafe(text)) + b"\n")
