"""WebSocket handshakes: refuse one with an error response, and observe one for the access log and the metrics."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from litestar.types import Receive, Send

from aitbc.kernel.http.problems import PROBLEM_TYPE, problem, problem_headers
from aitbc.kernel.primitives.errors import AppError, Forbidden
from aitbc.kernel.telemetry.metrics import CLIENT_CLOSED_REQUEST

REFUSAL = "websocket_refusal"
"""The key in a scope's state of why a handshake is refused: the framework would tell only that it is."""
MESSAGE_BYTES_MAX = 1 << 20
"""The longest message, either way; a longer one closes the connection with 1009."""
SWITCHING_PROTOCOLS, FORBIDDEN = 101, 403


class SocketRefused(Forbidden):
    """There is no WebSocket at this path."""

    code = "websocket_refused"


@contextmanager
def noting_refusal(scope: Any) -> Iterator[None]:
    """Note an error of ours that is raised before a WebSocket is accepted: its handshake is answered with it."""
    try:
        yield
    except AppError as refusal:
        scope["state"][REFUSAL] = refusal
        raise


class ObservedWebSocket:
    """A WebSocket's `receive` and `send`, recording how it ended: status, close code and bytes sent."""

    __slots__ = ("_receive", "_send", "code", "size", "status")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.status = CLIENT_CLOSED_REQUEST
        """101 once accepted, else the status it was refused with; 499 when the client disconnected before either."""
        self.code: int | None = None
        """The close code; none for one that was never open."""
        self.size = 0
        """Bytes sent to the client."""

    @property
    def is_open(self) -> bool:
        """Whether it was accepted."""
        return self.status == SWITCHING_PROTOCOLS

    def fail(self) -> None:
        """Record an unhandled exception: status 500, unless it had been accepted."""
        if not self.is_open:
            self.status = 500

    async def receive(self) -> Any:
        """Receive the client's next message."""
        message: Any = await self._receive()
        if message["type"] == "websocket.disconnect" and self.code is None and self.is_open:
            self.code = message.get("code", 1005)
        return message

    async def send(self, message: Any) -> None:
        """Send a message to the client."""
        kind = message["type"]
        if kind == "websocket.send":
            text = message.get("text")
            self.size += len(message.get("bytes") or b"") if text is None else len(text.encode())
        elif kind == "websocket.accept":
            self.status = SWITCHING_PROTOCOLS
        elif kind == "websocket.http.response.start":
            self.status = message["status"]
        elif kind == "websocket.close":
            if self.is_open:
                self.code = message.get("code", 1000)
            elif self.status == CLIENT_CLOSED_REQUEST:
                self.status = FORBIDDEN
        await self._send(message)


async def refuse(scope: Any, send: Send, refusal: AppError, request_id: str) -> None:
    """Refuse the handshake with a problem document where the ASGI server can send one; else close the connection."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.code})
        return
    body = problem(refusal, request_id)
    head = {**problem_headers(refusal), "content-type": PROBLEM_TYPE, "content-length": str(len(body))}
    headers = [(name.encode(), value.encode()) for name, value in {**head, "x-request-id": request_id}.items()]
    start: Any = {"type": "websocket.http.response.start", "status": refusal.status, "headers": headers}
    await send(start)
    end: Any = {"type": "websocket.http.response.body", "body": body, "more_body": False}
    await send(end)
