"""The `receive` callables behind the boundary: a buffered body, or a streamed one with limits."""

import asyncio
import time
from typing import Any

from litestar.types import Receive

from aitbc.kernel.primitives.request_errors import BodyTimeout, BodyTooLarge


class BufferedBody:
    """A `receive` that replays a body that was read before; whatever the client sends after it is dropped."""

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


class StreamedBody:
    """A `receive` that streams a body, limited in size and time."""

    __slots__ = ("deadline", "is_complete", "left", "limit", "receive", "seconds")

    def __init__(self, receive: Receive, limit: int, *, seconds: float, total_seconds: float) -> None:
        self.receive = receive
        self.limit = self.left = limit
        self.seconds = seconds
        self.deadline = time.monotonic() + total_seconds
        self.is_complete = False

    async def __call__(self) -> Any:
        if self.is_complete:  # only a disconnect can follow, without a timeout
            return await self.receive()
        try:
            async with asyncio.timeout(min(self.seconds, self.deadline - time.monotonic())):
                message: Any = await self.receive()
        except TimeoutError:
            raise BodyTimeout(headers={"Connection": "close"}) from None
        if message["type"] == "http.request":
            self.left -= len(message.get("body", b""))
            self.is_complete = not message.get("more_body", False)
            if self.left < 0:
                raise BodyTooLarge(
                    f"The body may have {self.limit} bytes and has more.", headers={"Connection": "close"}
                )
        return message


def is_read(receive: Receive) -> bool:
    """Whether all of the body has been read that this `receive` streams; one that is not streamed has."""
    return not isinstance(receive, StreamedBody) or receive.is_complete
