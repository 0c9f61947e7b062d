"""The line of each request: who asked for what, what came of it and how long it took; no query string, no header, no body."""

from collections.abc import Mapping
from datetime import datetime
from time import perf_counter
from typing import Any

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from msgspec import Struct

from aitbc.kernel.clock import now
from aitbc.kernel.log_writer import Writer
from aitbc.kernel.logs import NUMBERS, current, for_people, harmless, shortened
from aitbc.kernel.trace import current_request_id

PATH_LENGTH_MAX = 200
CLIENT_LEFT = 499
"""The status of a request whose client did not wait for the answer."""
TOLD = "told_elsewhere"
"""In a request's state when the process that answered it has written its line."""
_encode = msgspec.json.Encoder().encode


class AccessLine(Struct, frozen=True, omit_defaults=True):
    """What is written down of a request."""

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


class AccessLog:
    """Writes one line for each request, when it is over; the outermost of the middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, to its end."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started, status, size, request = perf_counter(), CLIENT_LEFT, 0, None

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

    def _write(
        self, writer: Writer, scope: Mapping[str, Any], status: int, size: int, seconds: float, request: str | None
    ) -> None:
        level = "info" if status < 500 else "error"
        if scope.get("state", {}).get(TOLD) and status != CLIENT_LEFT:
            return
        if NUMBERS[level] < current.levels.threshold("aitbc.access"):
            return
        principal = scope.get("state", {}).get("principal")
        line = AccessLine(
            now(),
            level,
            "request_answered",
            scope["method"],
            scope["path"][:PATH_LENGTH_MAX],
            status,
            round(seconds * 1000, 3),
            size,
            scope.get("path_template"),
            request,
            getattr(principal, "key", None),
        )
        if current.console:
            writer.write(for_people({**msgspec.to_builtins(line), "timestamp": line.timestamp}, color=current.color))
            return
        try:
            text = _encode(line)
        except UnicodeEncodeError:  # a path whose bytes are not UTF-8
            text = msgspec.json.encode(shortened(msgspec.structs.asdict(line)))
        writer.write((text if text.isascii() else harmless(text)) + b"\n")
