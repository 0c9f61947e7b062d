"""The line between a test and the application: requests go in as their bytes are, with nothing put right on the way."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from tests.poison.operations import Call

ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: str, *, plain: bool = False) -> str | None:
        """The one value of a header; `plain` without its parameters."""
        found = [value.decode("latin-1") for key, value in self.headers if key == name.encode()]
        assert len(found) <= 1, f"{name} came {len(found)} times"
        if not found:
            return None
        return found[0].partition(";")[0] if plain else found[0]

    def json(self) -> Any:
        """Its body, read."""
        return json.loads(self.body)


async def ask(app: Any, call: Call) -> Answer:
    """The answer of an ASGI application; of a stream, the head and the first piece."""
    body = call.body
    headers = list(call.headers)
    names = {name for name, _ in headers}
    if body is not None and not names & {b"content-length", b"transfer-encoding"}:
        headers.append((b"content-length", str(len(body)).encode()))
    path, _, query = call.whole_target.partition(b"?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": call.method,
        "scheme": "http",
        "path": unquote(path.decode("latin-1"), errors="surrogateescape"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    waiting = [{"type": "http.request", "body": body or b"", "more_body": False}]
    left = asyncio.Event()
    sent: list[Any] = []

    async def receive() -> Any:
        if waiting:
            return waiting.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and message.get("body"):
            left.set()

    async with asyncio.timeout(ANSWER_SECONDS):
        await app(scope, receive, send)
    assert sent, f"{call.method} {call.whole_target!r} got no answer"
    return Answer(sent[0]["status"], list(sent[0]["headers"]), b"".join(part.get("body", b"") for part in sent[1:]))
