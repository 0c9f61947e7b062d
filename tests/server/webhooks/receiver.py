"""A receiver of webhooks for tests: it listens on loopback, notes what it gets, and answers as it is told to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


def status(code: int, headers: str = "") -> bytes:
    """An empty answer with a status."""
    return f"HTTP/1.1 {code} Told\r\nContent-Length: 0\r\n{headers}\r\n".encode()


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """Its webhook-id."""
        return self.headers["webhook-id"]

    @property
    def told(self) -> dict[str, Any]:
        """Its body."""
        return msgspec.json.decode(self.body, type=dict[str, Any])


@dataclass
class Receiver:
    """What was received, and how it is answered."""

    port: int
    received: list[Received] = field(default_factory=list)
    answer: Answer = OK
    answers: list[Answer] = field(default_factory=list)
    """For the next requests, in their order; `answer` is for those that follow."""

    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/hook"

    async def until(self, count: int, seconds: float = 30.0) -> list[Received]:
        """The requests, once there are so many."""
        async with asyncio.timeout(seconds):
            while len(self.received) < count:
                self._news.clear()
                await self._news.wait()
        return self.received

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.received.append(Received(head[0].split()[1], headers, body))
            self._news.set()
            answer = self.answers.pop(0) if self.answers else self.answer
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        writer.close()


@asynccontextmanager
async def receiving(answer: Answer = OK) -> AsyncIterator[Receiver]:
    """A receiver, as long as the block lasts."""
    found = Receiver(0, answer=answer)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await found._serve(reader, writer)
        except asyncio.CancelledError:
            writer.close()
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
