"""WebSockets as they begin: how the handshake is refused, and how long a message may be afterwards."""

from typing import Any

from litestar.types import Send

from aitbc.kernel.errors import AppError
from aitbc.kernel.http import PROBLEM_TYPE, problem, problem_headers

MESSAGE_BYTES_MAX = 1 << 20
"""The longest message, either way; a longer one closes the connection with 1009."""


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
