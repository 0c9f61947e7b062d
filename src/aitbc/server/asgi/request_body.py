"""How the body of a request is handed on: read and checked before, or counted and timed while it streams."""

import asyncio
import time
from typing import Any

from litestar.types import Receive

from aitbc.kernel.primitives.request_errors import BodyTimeout, BodyTooLarge


class Replay:
    """Hands on a body that was read before; whatever the caller sends after it is dropped."""

    __slots__ = ("body", "receive")

    def __init__(self, body: bytes, receive: Receive) -> None:
        self.body: bytes | None = body
        self.receive = receive

    async def __call__(self) -> Any:
        if self.body is not None:
            body, self.body = self.body, None
            return {"type": "http.request", "body": body, "more_body": False}
        while (message := await self.receive())["type"] == "http.request":
            pass
        return message


class Counted:
    """Hands on a body while it streams, up to a size, and not slower than it must be."""

    __slots__ = ("complete", "deadline", "limit", "receive", "room", "seconds")

    def __init__(self, receive: Receive, limit: int, *, seconds: float, total_seconds: float) -> None:
        self.receive = receive
        self.limit = self.room = limit
        self.seconds = seconds
        self.deadline = time.monotonic() + total_seconds
        self.complete = False

    async def __call__(self) -> Any:
        if self.complete:  # only the caller's leaving can follow, and nobody waits for that in a hurry
            return await self.receive()
        try:
            async with asyncio.timeout(min(self.seconds, self.deadline - time.monotonic())):
                message: Any = await self.receive()
        except TimeoutError:
            raise BodyTimeout(headers={"Connection": "close"}) from None
        if message["type"] == "http.request":
            self.room -= len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
            if self.room < 0:
                raise BodyTooLarge(
                    f"The body may have {self.limit} bytes and has more.", headers={"Connection": "close"}
                )
        return message
