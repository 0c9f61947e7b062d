"""WebSockets on their way to a module in another process, and back.

Messages go both ways one by one, and nobody reads faster than the other side takes. Whoever closes, or leaves, closes the other
side too, with the code that was given.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import structlog
from litestar.types import Receive, Send

from aitbc.kernel.http.websocket import MESSAGE_BYTES_MAX, SocketRefused
from aitbc.kernel.primitives.errors import AppError, NotFound, Unauthenticated
from aitbc.kernel.primitives.tasks import end
from aitbc.server.asgi.access_log import TOLD
from aitbc.server.cluster.circuit_breaker import CircuitBreaker, ModuleUnavailable
from aitbc.server.cluster.peer_client import CONNECT_SECONDS
from aitbc.server.cluster.peers import Peer, is_refused
from aitbc.server.cluster.proxy import headers_onward, target_of
from aitbc.server.cluster.tls_client import url_at

CLOSE_SECONDS = 2.0
"""How long the other side may take to say goodbye."""
GOING_AWAY, NO_CODE, BROKEN, TRY_LATER = 1001, 1005, 1006, 1013
_HANDSHAKE = frozenset(
    {
        *(b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions", b"sec-websocket-protocol"),
        b"content-length",
    }
)

log = structlog.get_logger("aitbc.gateway")


async def forward_socket(scope: Any, receive: Receive, send: Send, peer: Peer, breaker: CircuitBreaker) -> None:
    """One WebSocket. Raises `ModuleUnavailable`, or what the module answered to the handshake."""
    breaker.admit()
    await receive()  # websocket.connect
    far = await _connected(scope, peer, breaker)
    scope["state"][TOLD] = True
    try:
        accept: Any = {"type": "websocket.accept", "subprotocol": far.protocol, "headers": []}
        await send(accept)
        there, back = asyncio.create_task(_there(receive, far)), asyncio.create_task(_back(far, send))
        try:
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            if there.done() and there.exception() is not None:  # the module broke off: the other way says how
                await asyncio.wait((back,), timeout=CLOSE_SECONDS)
        finally:
            await end((there, back))
    finally:
        await far.close(code=GOING_AWAY)


_REFUSALS: Mapping[int, type[AppError]] = {401: Unauthenticated, 404: NotFound}


async def _connected(scope: Any, peer: Peer, breaker: CircuitBreaker) -> "aiohttp.ClientWebSocketResponse[bool]":
    url, head = url_at(peer.base, target_of(scope)), headers_onward(scope, peer, _HANDSHAKE)
    session: aiohttp.ClientSession = peer.session
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            far = await session.ws_connect(
                url,
                headers=[(name.decode("ascii"), value.decode("latin-1")) for name, value in head],
                protocols=scope.get("subprotocols") or (),
                max_msg_size=MESSAGE_BYTES_MAX + 1,  # this library refuses what reaches the number
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
            )
    except aiohttp.WSServerHandshakeError as answered:
        if is_refused(answered.status, _raw(answered.headers or {})):
            breaker.failed()
            raise ModuleUnavailable from None
        breaker.succeeded()
        scope["state"][TOLD] = True
        raise _REFUSALS.get(answered.status, SocketRefused) from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        breaker.failed()
        log.warning("module_unreachable", process=peer.name, reason=repr(error))
        raise ModuleUnavailable from None
    breaker.succeeded()
    return far


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


async def _there(receive: Receive, far: "aiohttp.ClientWebSocketResponse[bool]") -> None:
    """What the caller sends, until it closes or leaves."""
    while True:
        message: Any = await receive()
        if message["type"] != "websocket.receive":
            code = message.get("code", NO_CODE)
            await far.close(code=code if _can_be_sent(code) else GOING_AWAY, message=_reason(message.get("reason")))
            return
        if (text := message.get("text")) is not None:
            await far.send_str(text)
        else:
            await far.send_bytes(message["bytes"])


async def _back(far: "aiohttp.ClientWebSocketResponse[bool]", send: Send) -> None:
    """What the module sends, until it closes or breaks off."""
    while True:
        message = await far.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            await send({"type": "websocket.send", "text": message.data, "bytes": None})
        elif message.type is aiohttp.WSMsgType.BINARY:
            await send({"type": "websocket.send", "bytes": message.data, "text": None})
        else:
            code, reason = far.close_code or BROKEN, ""
            if message.type is aiohttp.WSMsgType.CLOSE:
                code, reason = message.data or NO_CODE, message.extra or ""
            if code == NO_CODE:
                code = 1000
            await send({"type": "websocket.close", "code": code if _can_be_sent(code) else TRY_LATER, "reason": reason})
            return


def _can_be_sent(code: int) -> bool:
    """Whether a close frame may carry it: some only say how a connection ended without one."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def _reason(text: str | None) -> bytes:
    return (text or "").encode()[:123].decode(errors="ignore").encode()
