"""Brings a caller's request or WebSocket to a module in another process, and what comes of it back, piece by piece.

Nothing is gathered on the way and nothing is ever sent twice: what may have happened is the caller's to ask about. A caller
who leaves ends the request over there too.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog
from litestar.types import Receive, Send

from aitbc.kernel.http.disconnect import GONE
from aitbc.kernel.http.guard import loopback_key_of
from aitbc.server.asgi.access_log import TOLD
from aitbc.server.cluster.circuit_breaker import CircuitBreaker, ModuleUnavailable
from aitbc.server.cluster.peer_client import Content, PeerResponse
from aitbc.server.cluster.peers import HOST, REFUSED, SERVICE, Peer, is_refused

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


async def forward(scope: Any, receive: Receive, send: Send, peer: Peer, breaker: CircuitBreaker) -> None:
    """One HTTP request. Raises `ModuleUnavailable` when no answer comes."""
    breaker.admit()
    gone, task = scope.get(GONE), asyncio.current_task()
    if gone is not None and task is not None:
        gone.end(task)
    state = scope["state"]
    try:
        answer = await peer.exchange(
            scope["method"], target_of(scope), headers_onward(scope, peer), await _content(scope, receive)
        )
        try:
            if is_refused(answer.status, answer.headers):
                breaker.failed()
                log.error("service_token_refused", process=peer.name, meaning=REFUSED)
                raise ModuleUnavailable
            breaker.succeeded()
            state[TOLD] = True
            await _pass_on(answer, send)
        finally:
            answer.close()
    except OSError as error:
        if gone is not None and gone.is_true:  # nobody is there to be told
            return
        if state.get(TOLD):  # half an answer cannot be called back: the connection is cut
            raise
        breaker.failed()
        log.warning("module_unreachable", process=peer.name, reason=repr(error))
        raise ModuleUnavailable from None


async def _pass_on(answer: PeerResponse, send: Send) -> None:
    """The answer, in one piece where it is whole."""
    start: Any = {"type": "http.response.start", "status": answer.status, "headers": _headers_back(answer.headers)}
    await send(start)
    whole = answer.whole
    if whole is None:
        async for piece in answer.pieces():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        whole = b""
    await send({"type": "http.response.body", "body": whole, "more_body": False})


def target_of(scope: Any) -> bytes:
    """The request's own path and query, as they came."""
    query: bytes = scope["query_string"]
    path: bytes = scope["raw_path"]
    return path + b"?" + query if query else path


def headers_onward(scope: Any, peer: Peer, hidden: frozenset[bytes] = NOTHING) -> list[tuple[bytes, bytes]]:
    """The headers of a request as the other process gets them; `hidden` are left out beside those of every request."""
    head: list[tuple[bytes, bytes]] = scope["headers"]
    hidden = _with(NOT_ONWARD, hidden, _named(head))
    loopback_key = loopback_key_of(scope)
    if loopback_key is not None:
        hidden |= {b"authorization", b"x-api-key"}
    if peer.is_far:
        hidden |= {b"host"}
    headers = [pair for pair in head if pair[0] not in hidden]
    if loopback_key is not None:
        headers.append((b"authorization", b"Bearer " + loopback_key.encode()))
    if peer.is_far:
        headers += peer.pass_of(dict(head).get(b"host"))
    headers.append((b"x-request-id", scope["state"]["request_id"].encode()))
    return headers


def _headers_back(head: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    hidden = _with(NOT_BACK, _named(head))
    return [pair for pair in head if pair[0] not in hidden]


def _named(head: Sequence[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """The headers that a Connection header makes hop-by-hop."""
    found = [value for name, value in head if name == b"connection"]
    return frozenset(each.strip().lower() for value in found for each in value.split(b",")) if found else NOTHING


def _with(names: frozenset[bytes], *others: frozenset[bytes]) -> frozenset[bytes]:
    """All of these names; most requests add none to the first."""
    for more in others:
        if more:
            names |= more
    return names


async def _content(scope: Any, receive: Receive) -> Content:
    """The body: whole where it is here already, else as it comes; none for a request that has none."""
    for name, value in scope["headers"]:
        if (name == b"content-length" and value != b"0") or name == b"transfer-encoding":
            break
    else:
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
