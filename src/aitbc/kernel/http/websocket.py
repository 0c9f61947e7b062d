"""WebSockets as they begin and end: how the handshake is refused, how long a message may be, and what is told of them later."""

from typing import Any

from litestar.types import Receive, Send

from aitbc.kernel.http.problems import PROBLEM_TYPE, problem, problem_headers
from aitbc.kernel.primitives.errors import AppError, Forbidden

MESSAGE_BYTES_MAX = 1 << 20
"""The longest message, either way; a longer one closes the connection with 1009."""


SWITCHED, REFUSED, CLIENT_CLOSED_REQUEST = 101, 403, 499


class SocketRefused(Forbidden):
    """There is no WebSocket at this path."""

    code = "websocket_refused"


class ObservedWebSocket:
    """The two ends of a WebSocket under the eyes of somebody who will tell how it went."""

    __slots__ = ("_receive", "_send", "code", "size", "status")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.status = CLIENT_CLOSED_REQUEST
        """101 once it was accepted, else how it was refused; 499 where the client did not wait for either."""
        self.code: int | None = None
        """With which it was closed; none for one that was never open."""
        self.size = 0
        """Bytes of the messages to the client."""

    @property
    def is_open(self) -> bool:
        """Whether it was accepted."""
        return self.status == SWITCHED

    def fail(self) -> None:
        """It ended in a fault of ours; one that was open ended all the same."""
        if not self.is_open:
            self.status = 500

    async def receive(self) -> Any:
        """What the client says."""
        message: Any = await self._receive()
        if message["type"] == "websocket.disconnect" and self.code is None and self.is_open:
            self.code = message.get("code", 1005)
        return message

    async def send(self, message: Any) -> None:
        """What the client is told."""
        kind = message["type"]
        if kind == "websocket.send":
            text = message.get("text")
            self.size += len(message.get("bytes") or b"") if text is None else len(text.encode())
        elif kind == "websocket.accept":
            self.status = SWITCHED
        elif kind == "websocket.http.response.start":
            self.status = message["status"]
        elif kind == "websocket.close":
            if self.is_open:
                self.code = message.get("code", 1000)
            elif self.status == CLIENT_CLOSED_REQUEST:
                self.status = REFUSED
        await self._send(message)


async def refuse(scope: Any, send: Send, refusal: AppError, request_id: str) -> None:
    """Answer the handshake with a problem where the server can; else close."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.code})
        return
    body = problem(refusal, request_id)
    head = {**problem_headers(refusal), "content-type": PROBLEM_TYPE, "content-length": str(len(body))}
    headers = [(name.encode(), value.encode()) for name, value in {**head, "x-request-id": request_id}.items()]
    start: Any = {"type": "websocket.http.response.start", "status": refusal.status, "headers": headers}
    await send(start)
    ending: Any = {"type": "websocket.http.response.body", "body": body, "more_body": False}
    await send(ending)
