"""The API, called within the process: a page asks what the command line asks, with the rights of who looks at it.

So there is one set of rules: permission, validation, idempotency and the way to a module of another process are those
of any other request.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from litestar.types import ASGIApp
from msgspec import Struct

from aitbc.kernel.primitives.errors import AppError, FieldError, Unavailable

QUEUE_LENGTH = 16
"""How many pieces of a streamed answer may wait for who reads them."""
_decode = msgspec.json.Decoder().decode
_JSON = (b"content-type", b"application/json")


class Call(Struct, frozen=True):
    """A request to the API, as a page made it: shown to people as the command that does the same."""

    method: str
    target: str
    """Path and query."""
    body: str | None = None
    """The body as JSON text, where there is one."""


class Answer(Struct, frozen=True):
    """An answer of the API that succeeded."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        """The body, decoded."""
        return _decode(self.body) if self.body else None


def target_of(path: str, query: Mapping[str, Any]) -> str:
    """The path with a query of what is given: what is none or empty is left out."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path


class ApiClient:
    """Calls the API below the boundary; `outer` is the scope of the request that shows the page."""

    def __init__(self, api: ASGIApp) -> None:
        self._api = api

    async def call(
        self,
        outer: Any,
        method: str,
        target: str,
        *,
        secret: str,
        body: bytes | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (_JSON,),
        refuse: bool = True,
    ) -> Answer:
        """The whole answer, without a key where `secret` is empty.

        Raises the `AppError` that the API answers with, unless `refuse` is false.
        """
        scope = _scope(outer, method, target, secret, body, headers)
        messages: list[Any] = []
        finished = asyncio.Event()

        async def send(message: Any) -> None:
            messages.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                finished.set()

        await self._api(scope, _receive(body, finished), send)
        content = b"".join(message.get("body", b"") for message in messages[1:])
        return _answered(messages[0], content, refuse=refuse)

    async def stream(
        self, outer: Any, target: str, *, secret: str, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> tuple[Answer, AsyncIterator[bytes]]:
        """The head of an answer, and its body piece by piece. Raises the `AppError` that the API answers with."""
        scope = _scope(outer, "GET", target, secret, None, headers)
        queue: asyncio.Queue[Any] = asyncio.Queue(QUEUE_LENGTH)
        task = asyncio.create_task(self._run(scope, queue))
        start = await queue.get()
        if isinstance(start, AppError):
            raise start
        if start["status"] >= 400:
            pieces = [piece async for piece in _pieces(queue, task)]
            _answered(start, b"".join(pieces))
        return _answered(start, b""), _pieces(queue, task)

    async def _run(self, scope: Any, queue: "asyncio.Queue[Any]") -> None:
        """One streamed request; what goes wrong before its first byte goes to who waits for that."""
        try:
            await self._api(scope, _receive(None, asyncio.Event()), queue.put)
        except AppError as error:
            await queue.put(error)
        finally:
            with suppress(asyncio.QueueFull):
                queue.put_nowait({"type": "http.response.body", "body": b"", "more_body": False})


async def _pieces(queue: "asyncio.Queue[Any]", task: "asyncio.Task[None]") -> AsyncIterator[bytes]:
    try:
        while True:
            message = await queue.get()
            if isinstance(message, AppError):
                return
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                return
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _scope(
    outer: Any, method: str, target: str, secret: str, body: bytes | None, more: tuple[tuple[bytes, bytes], ...]
) -> Any:
    path, _, query = target.partition("?")
    headers = [pair for pair in outer["headers"] if pair[0] == b"host"]
    if secret:
        headers.append((b"authorization", f"Bearer {secret}".encode()))
    if body is not None:
        headers.append((b"content-length", str(len(body)).encode()))
    headers += [pair for pair in more if body is not None or pair != _JSON]
    return {
        "type": "http",
        "asgi": outer["asgi"],
        "http_version": "1.1",
        "method": method,
        "scheme": outer["scheme"],
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": outer.get("client"),
        "server": outer.get("server"),
        "state": {"request_id": outer["state"]["request_id"]},
    }


def _receive(body: bytes | None, finished: asyncio.Event) -> Any:
    """A `receive` with this body, whose client goes when the answer is finished."""
    messages = [{"type": "http.request", "body": body or b"", "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await finished.wait()
        return {"type": "http.disconnect"}

    return receive


def _answered(start: Any, body: bytes, *, refuse: bool = True) -> Answer:
    status: int = start["status"]
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
    if status >= 400 and refuse:
        raise _refusal(status, body)
    return Answer(status, headers, body)


def _refusal(status: int, body: bytes) -> AppError:
    """The error behind a problem document; its class, where this process knows the code."""
    try:
        problem = _decode(body)
        kind = AppError.registry.get(problem["code"], AppError)
        fields = tuple(FieldError(each["pointer"], each["message"]) for each in problem.get("errors", ()))
        found = kind(problem["detail"], fields=fields, **problem.get("details", {}))
    except (msgspec.DecodeError, KeyError, TypeError):
        return Unavailable()
    return found if kind.status == status else Unavailable(found.message)
