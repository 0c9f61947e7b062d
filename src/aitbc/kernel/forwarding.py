"""Brings a caller's request or WebSocket to a module in another process, and what comes of it back, piece by piece.

Nothing is gathered on the way and nothing is ever sent twice: what may have happened is the caller's to ask about. A caller
who leaves ends the request over there too.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import structlog
from litestar.types import Receive, Send
from yarl import URL

from aitbc.kernel.access_log import TOLD
from aitbc.kernel.breaker import Breaker, ModuleUnavailable
from aitbc.kernel.doors import stand_in_of
from aitbc.kernel.gone import GONE
from aitbc.kernel.roads import HOST, REFUSED, SERVICE, Neighbour, is_refused

SILENCE_SECONDS = 90.0
"""How long an answer may pause; more than any long poll and any beat of a stream."""
CONNECT_SECONDS = 2.0
PATIENCE = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
WHOLE_BYTES = 64 * 1024
"""An answer that says it is no longer than this is passed on in one piece."""
HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
OWN = frozenset({b"date", b"server", b"x-request-id"})
"""Headers of an answer that this process makes itself."""
SEEN = frozenset({b"x-request-id", b"origin", b"sec-fetch-site", SERVICE.lower().encode(), HOST.lower().encode()})
"""Headers of a request that were judged here, or are ours to write."""

NOT_ONWARD = HOP_BY_HOP | SEEN
NOT_BACK = HOP_BY_HOP | OWN
NOTHING: frozenset[bytes] = frozenset()

log = structlog.get_logger("aitbc.gateway")


async def forward(scope: Any, receive: Receive, send: Send, neighbour: Neighbour, breaker: Breaker) -> None:
    """One HTTP request. Raises `ModuleUnavailable` when no answer comes."""
    breaker.admit()
    gone, task = scope.get(GONE), asyncio.current_task()
    if gone is not None and task is not None:
        gone.end(task)
    started = False
    try:
        async with neighbour.session.request(
            scope["method"],
            target_of(scope, neighbour),
            headers=headers_onward(scope, neighbour),
            data=await _content(scope, receive),
            allow_redirects=False,
            timeout=PATIENCE,
        ) as answer:
            if is_refused(answer.status, answer.headers):
                breaker.failed()
                log.error("service_token_refused", process=neighbour.name, meaning=REFUSED)
                raise ModuleUnavailable
            breaker.succeeded()
            start: Any = {"type": "http.response.start", "status": answer.status, "headers": _headers_back(answer)}
            if (answer.content_length or WHOLE_BYTES + 1) <= WHOLE_BYTES:
                body = await answer.read()
                started = scope["state"][TOLD] = True
                await send(start)
                await send({"type": "http.response.body", "body": body, "more_body": False})
                return
            started = scope["state"][TOLD] = True
            await send(start)
            async for piece in answer.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        if gone is not None and gone.is_true:  # nobody is there to be told
            return
        if started:  # half an answer cannot be called back: the connection is cut
            raise
        breaker.failed()
        log.warning("module_unreachable", process=neighbour.name, reason=repr(error))
        raise ModuleUnavailable from None


def target_of(scope: Any, neighbour: Neighbour) -> URL:
    """The request's own path and query, as they came, over there."""
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    return URL(neighbour.base + target.decode("ascii"), encoded=True)


def headers_onward(scope: Any, neighbour: Neighbour, hidden: frozenset[bytes] = frozenset()) -> list[tuple[str, str]]:
    """The headers of a request as the other process gets them; `hidden` are left out beside those of every request."""
    head: list[tuple[bytes, bytes]] = scope["headers"]
    hidden = hidden | NOT_ONWARD | _named(head)
    stand_in = stand_in_of(scope)
    if stand_in is not None:
        hidden |= {b"authorization", b"x-api-key"}
    if neighbour.is_far:
        hidden |= {b"host"}
    headers = [(name.decode("ascii"), value.decode("latin-1")) for name, value in head if name not in hidden]
    if stand_in is not None:
        headers.append(("Authorization", f"Bearer {stand_in}"))
    if neighbour.is_far:
        host = dict(head).get(b"host")
        headers += neighbour.pass_of(host.decode("latin-1") if host is not None else None).items()
    headers.append(("X-Request-ID", scope["state"]["request_id"]))
    return headers


def _headers_back(answer: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
    head = [(name.lower(), value) for name, value in answer.raw_headers]
    hidden = NOT_BACK | _named(head)
    return [pair for pair in head if pair[0] not in hidden]


def _named(head: Sequence[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """The headers that a Connection header makes hop-by-hop."""
    for name, value in head:
        if name == b"connection":
            return frozenset(each.strip().lower() for each in value.split(b","))
    return NOTHING


async def _content(scope: Any, receive: Receive) -> bytes | AsyncIterator[bytes] | None:
    """The body: whole where it is here already, else as it comes; none for a request that has none."""
    headers = dict(scope["headers"])
    if headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
        return None
    first: Any = await receive()
    if first["type"] == "http.request" and not first.get("more_body", False):
        return bytes(first.get("body", b""))
    return _pieces(first, receive)


async def _pieces(message: Any, receive: Receive) -> AsyncIterator[bytes]:
    while True:
        if message["type"] != "http.request":
            raise ConnectionResetError
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body", False):
            return
        message = await receive()
