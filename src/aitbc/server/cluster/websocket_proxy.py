"""WebSocket proxy: connects a caller's WebSocket to a module in another process.

Messages are forwarded one by one in both directions, with backpressure. A close or disconnect on one side closes the
other, with the same code.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import structlog
from litestar.types import Receive, Send

from aitbc.kernel.http.websocket import MESSAGE_BYTES_MAX, SocketRefused
from aitbc.kernel.primitives.errors import AppError, NotFound, Unauthenticated
from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc.server.asgi.access_log import LOGGED_ELSEWHERE
from aitbc.server.cluster.circuit_breaker import CircuitBreaker, ModuleUnavailable
from aitbc.server.cluster.peer_client import CONNECT_SECONDS
from aitbc.server.cluster.peers import Peer, is_token_refusal
from aitbc.server.cluster.proxy import forwarded_headers, target_of
from aitbc.server.cluster.tls_client import url_at

CLOSE_SECONDS = 2.0
"""How long the closing handshake may take."""
GOING_AWAY, NO_CODE, BROKEN, TRY_LATER = 1001, 1005, 1006, 1013
_HANDSHAKE_HEADERS = frozenset(
    {
        *(b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions", b"sec-websocket-protocol"),
        b"content-length",
    }
)

log = structlog.get_logger("aitbc.gateway")


async def forward_socket(scope: Any, receive: Receive, send: Send, peer: Peer, breaker: CircuitBreaker) -> None:
    """Forward one WebSocket. Raises `ModuleUnavailable`, or what the module answered to the handshake."""
    breaker.admit()
    await receive()  # websocket.connect
    module_socket = await _connect(scope, peer, breaker)
    scope["state"][LOGGED_ELSEWHERE] = True
    try:
        accept: Any = {"type": "websocket.accept", "subprotocol": module_socket.protocol, "headers": []}
        await send(accept)
        upstream = asyncio.create_task(_client_to_module(receive, module_socket))
        downstream = asyncio.create_task(_module_to_client(module_socket, send))
        try:
            await asyncio.wait((upstream, downstream), return_when=asyncio.FIRST_COMPLETED)
            if upstream.done() and upstream.exception() is not None:
                # The connection to the module broke: the other direction has its close code.
                await asyncio.wait((downstream,), timeout=CLOSE_SECONDS)
        finally:
            await cancel_and_wait((upstream, downstream))
    finally:
        await module_socket.close(code=GOING_AWAY)


_REFUSALS: Mapping[int, type[AppError]] = {401: Unauthenticated, 404: NotFound}


async def _connect(scope: Any, peer: Peer, breaker: CircuitBreaker) -> "aiohttp.ClientWebSocketResponse[bool]":
    url, head = url_at(peer.base, target_of(scope)), forwarded_headers(scope, peer, _HANDSHAKE_HEADERS)
    session: aiohttp.ClientSession = peer.session
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            module_socket = await session.ws_connect(
                url,
                headers=[(name.decode("ascii"), value.decode("latin-1")) for name, value in head],
                protocols=scope.get("subprotocols") or (),
                max_msg_size=MESSAGE_BYTES_MAX + 1,  # aiohttp refuses a message that reaches the limit
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
            )
    except aiohttp.WSServerHandshakeError as answered:
        if is_token_refusal(answered.status, _raw(answered.headers or {})):
            breaker.failed()
            raise ModuleUnavailable from None
        breaker.succeeded()
        scope["state"][LOGGED_ELSEWHERE] = True
        raise _REFUSALS.get(answered.status, SocketRefused) from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        breaker.failed()
        log.warning("module_unreachable", process=peer.name, reason=repr(error))
        raise ModuleUnavailable from None
    breaker.succeeded()
    return module_socket


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


async def _client_to_module(receive: Receive, module_socket: "aiohttp.ClientWebSocketResponse[bool]") -> None:
    """Forward the caller's messages, until it closes or disconnects."""
    while True:
        message: Any = await receive()
        if message["type"] != "websocket.receive":
            code = message.get("code", NO_CODE)
            await module_socket.close(
                code=code if _can_be_sent(code) else GOING_AWAY, message=_reason(message.get("reason"))
            )
            return
        if (text := message.get("text")) is not None:
            await module_socket.send_str(text)
        else:
            await module_socket.send_bytes(message["bytes"])


async def _module_to_client(module_socket: "aiohttp.ClientWebSocketResponse[bool]", send: Send) -> None:
    """Forward the module's messages, until it closes or the connection breaks."""
    while True:
        message = await module_socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            await send({"type": "websocket.send", "text": message.data, "bytes": None})
        elif message.type is aiohttp.WSMsgType.BINARY:
            await send({"type": "websocket.send", "bytes": message.data, "text": None})
        else:
            code, reason = module_socket.close_code or BROKEN, ""
            if message.type is aiohttp.WSMsgType.CLOSE:
                code, reason = message.data or NO_CODE, message.extra or ""
            if code == NO_CODE:
                code = 1000
            await send({"type": "websocket.close", "code": code if _can_be_sent(code) else TRY_LATER, "reason": reason})
            return


def _can_be_sent(code: int) -> bool:
    """Whether a close frame may carry this code: some only describe a connection that ended without one."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def _reason(text: str | None) -> bytes:
    return (text or "").encode()[:123].decode(errors="ignore").encode()
