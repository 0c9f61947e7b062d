"""Reverse proxy: forwards a request to a module in another process, and streams the response back.

Nothing is buffered and nothing is retried: a caller who gets no answer must ask what happened. When the caller
disconnects, the forwarded request is cancelled too.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog
from litestar.types import Receive, Send

from aitbc.kernel.http.disconnect import DISCONNECT
from aitbc.kernel.http.guard import loopback_key_of
from aitbc.kernel.primitives.trace_context import current_span, traceparent_of
from aitbc.server.asgi.access_log import LOGGED_ELSEWHERE
from aitbc.server.asgi.request_body import is_read
from aitbc.server.cluster.circuit_breaker import CircuitBreaker, ModuleUnavailable
from aitbc.server.cluster.peer_client import PeerResponse, RequestBody
from aitbc.server.cluster.peers import HOST_HEADER, SERVICE_HEADER, SERVICE_REFUSED_HINT, Peer, is_token_refusal

HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
OWN_RESPONSE_HEADERS = frozenset({b"date", b"server", b"x-request-id"})
"""Response headers that this process sets itself."""
OWN_REQUEST_HEADERS = frozenset(
    {b"x-request-id", b"origin", b"sec-fetch-site", SERVICE_HEADER.lower().encode(), HOST_HEADER.lower().encode()}
)
"""Request headers that were checked here, or are set by this process."""

NOT_FORWARDED = HOP_BY_HOP | OWN_REQUEST_HEADERS
NOT_RETURNED = HOP_BY_HOP | OWN_RESPONSE_HEADERS
NONE: frozenset[bytes] = frozenset()

log = structlog.get_logger("aitbc.gateway")


async def forward(scope: Any, receive: Receive, send: Send, peer: Peer, breaker: CircuitBreaker) -> None:
    """Forward one HTTP request. Raises `ModuleUnavailable` when no response comes."""
    breaker.admit()
    disconnect, task = scope.get(DISCONNECT), asyncio.current_task()
    if disconnect is not None and task is not None:
        disconnect.cancel_task(task)
    state = scope["state"]
    try:
        response = await peer.request(
            scope["method"], target_of(scope), forwarded_headers(scope, peer), await _request_body(scope, receive)
        )
        try:
            if is_token_refusal(response.status, response.headers):
                breaker.failed()
                log.error("service_token_refused", process=peer.name, meaning=SERVICE_REFUSED_HINT)
                raise ModuleUnavailable
            breaker.succeeded()
            state[LOGGED_ELSEWHERE] = True
            await _send_response(response, send, is_body_read=is_read(receive))
        finally:
            response.close()
    except OSError as error:
        if disconnect is not None and disconnect.is_set:  # the caller has disconnected
            return
        if state.get(LOGGED_ELSEWHERE):  # a response that has begun cannot be replaced: the connection is closed
            raise
        breaker.failed()
        log.warning("module_unreachable", process=peer.name, reason=repr(error))
        raise ModuleUnavailable from None


async def _send_response(response: PeerResponse, send: Send, *, is_body_read: bool) -> None:
    """Send the response on: at once when its body is buffered, else chunk by chunk."""
    start: Any = {
        "type": "http.response.start",
        "status": response.status,
        "headers": _response_headers(response.headers, is_body_read=is_body_read),
    }
    await send(start)
    buffered_body = response.buffered_body
    if buffered_body is None:
        async for chunk in response.chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        buffered_body = b""
    await send({"type": "http.response.body", "body": buffered_body, "more_body": False})


def target_of(scope: Any) -> bytes:
    """The request target: path and query, as they came."""
    query: bytes = scope["query_string"]
    path: bytes = scope["raw_path"]
    return path + b"?" + query if query else path


def forwarded_headers(scope: Any, peer: Peer, hidden: frozenset[bytes] = NONE) -> list[tuple[bytes, bytes]]:
    """The request headers for the other process; `hidden` are removed beside the usual ones."""
    head: list[tuple[bytes, bytes]] = scope["headers"]
    hidden = _with(NOT_FORWARDED, hidden, _named_in_connection(head))
    loopback_key = loopback_key_of(scope)
    if loopback_key is not None:
        hidden |= {b"authorization", b"x-api-key"}
    if peer.is_remote:
        hidden |= {b"host"}
    headers = [pair for pair in head if pair[0] not in hidden]
    if loopback_key is not None:
        headers.append((b"authorization", b"Bearer " + loopback_key.encode()))
    if peer.is_remote:
        headers += peer.forwarding_headers(dict(head).get(b"host"))
    request_id = scope["state"]["request_id"]
    headers.append((b"x-request-id", request_id.encode()))
    if (span := current_span.get()) is not None:  # the other process goes on from our span, not from the caller's
        headers = [pair for pair in headers if pair[0] != b"traceparent"]
        headers.append((b"traceparent", traceparent_of(request_id, span).encode()))
    return headers


def _response_headers(head: Sequence[tuple[bytes, bytes]], *, is_body_read: bool) -> list[tuple[bytes, bytes]]:
    """The response headers for the caller.

    A module that ends its connection takes no more of the request's body: then the caller's connection ends as well.
    """
    named = _named_in_connection(head)
    hidden = _with(NOT_RETURNED, named)
    headers = [pair for pair in head if pair[0] not in hidden]
    if b"close" in named and not is_body_read:
        headers.append((b"connection", b"close"))
    return headers


def _named_in_connection(head: Sequence[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """The headers that a Connection header makes hop-by-hop."""
    found = [value for name, value in head if name == b"connection"]
    return frozenset(each.strip().lower() for value in found for each in value.split(b",")) if found else NONE


def _with(names: frozenset[bytes], *others: frozenset[bytes]) -> frozenset[bytes]:
    """The union of these names; most requests add none to the first."""
    for more in others:
        if more:
            names |= more
    return names


async def _request_body(scope: Any, receive: Receive) -> RequestBody:
    """The request body: all of it when it has arrived already, else its chunks; none for a request without one."""
    for name, value in scope["headers"]:
        if (name == b"content-length" and value != b"0") or name == b"transfer-encoding":
            break
    else:
        return None
    first: Any = await receive()
    if first["type"] == "http.request" and not first.get("more_body", False):
        return bytes(first.get("body", b""))
    return _body_chunks(first, receive)


async def _body_chunks(message: Any, receive: Receive) -> AsyncIterator[bytes]:
    while True:
        if message["type"] != "http.request":
            raise ConnectionResetError
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body", False):
            return
        message = await receive()
