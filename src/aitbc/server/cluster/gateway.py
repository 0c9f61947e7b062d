"""The gateway: routes each request by port and path to its module, in this process or in another.

A port of a module answers for this module alone. A module of another process is reached over pooled connections, with
bodies streaming both ways; one that cannot be reached is a 503 for its own paths, and for no others.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from litestar.types import ASGIApp, Receive, Scope, Send

from aitbc.kernel.http.guard import without_foreign_keys
from aitbc.kernel.http.scope import count_as_waiting
from aitbc.kernel.primitives.errors import NotFound
from aitbc.server.asgi.boundary import copy_route
from aitbc.server.asgi.peer_uid import peer_uid_of
from aitbc.server.cluster.circuit_breaker import CircuitBreaker
from aitbc.server.cluster.legacy_key import GatewayKey
from aitbc.server.cluster.peers import Peer
from aitbc.server.cluster.proxy import forward
from aitbc.server.config.placement import (
    COORDINATOR_PORTS,
    EXCHANGE_PATHS,
    LEGACY_COORDINATOR_PREFIX,
    LEGACY_PREFIX,
    LEGACY_PREFIXES,
    NEW_PORTS,
    PROTOCOL_PREFIXES,
    Placement,
)

API_PREFIX = "/api/v1/"
ON_EVERY_PORT = frozenset({"/healthz", "/readyz", "/version", "/metrics"})
"""Answered on every port, each process for itself."""
NOT_LEGACY = frozenset(NEW_PORTS) | {"identity", "operations"}
LOOPBACK = frozenset({"127.0.0.1", "::1"})
NOT_A_PROGRAM = frozenset(
    {
        *(b"origin", b"sec-fetch-site"),
        *(b"forwarded", b"via", b"x-real-ip", b"true-client-ip", b"client-ip", b"x-client-ip", b"x-cluster-client-ip"),
        *(
            b"fastly-client-ip",
            b"x-original-host",
            b"x-original-url",
            b"x-proxyuser-ip",
            b"proxy-connection",
            b"cdn-loop",
        ),
    }
)
"""Headers of browsers and of proxies."""
PROXY_PREFIXES = (b"x-forwarded", b"cf-", b"x-envoy-", b"x-amzn-", b"x-azure-", b"x-appengine-", b"x-vercel-")
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


class NothingHere(NotFound):
    """There is nothing at this path on this port."""

    code = "not_on_this_port"


class Gateway:
    """ASGI middleware between the boundary and the application: routes by port and by path.

    `coordinator` gives the module of a path of the legacy coordinator, `elsewhere` that of the legacy paths which
    another module answers than their prefix says; `waits` says whether a route waits or streams,
    so that it is counted apart from others here too; `loopback_key` is the key of callers who need
    none; `key` is the legacy gateway key, where callers of legacy paths must send it.
    """

    def __init__(
        self,
        app: ASGIApp,
        placement: Placement,
        peers: Mapping[str, Peer],
        coordinator: Callable[[str, str], str | None],
        loopback_key: str | None,
        *,
        elsewhere: Mapping[str, str] | None = None,
        waits: Callable[[str, str], bool] = lambda _method, _path: False,
        key: GatewayKey | None = None,
        breaker_seconds: float = 60.0,
    ) -> None:
        self._app = app
        self._ports = placement.ports
        self._trusting = placement.trusting_ports
        self._remote = {
            module: (one, CircuitBreaker(module, one.is_alive, open_seconds=breaker_seconds))
            for module, one in peers.items()
        }
        self._coordinator = coordinator
        self._elsewhere = elsewhere or {}
        self._waits = waits
        self._loopback_key = loopback_key
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        kind: str = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
            return
        request: Any = scope
        port: Any = (request.get("server") or (None, None))[1]
        if port in self._ports:
            request = self._route_port(port, request)
        elif self._key is not None and port is not None and is_legacy(request["path"]):
            request = self._key.seen(request)
        module = self._elsewhere.get(request["path"].rstrip("/")) or module_of(request["path"])
        if module == LEGACY_COORDINATOR_PREFIX:
            module = self._coordinator(request.get("method", "GET"), request["path"])
        try:
            if module in self._remote:
                if kind == "http" and self._waits(request["method"], request["path"]):
                    count_as_waiting(request)
                proxy = forward if kind == "http" else await asyncio.to_thread(_load_websocket_proxy)
                await proxy(request, receive, send, *self._remote[module])
            else:
                await self._app(request, receive, send)
        finally:
            copy_route(request, scope)

    def _route_port(self, port: int, scope: Any) -> Any:
        """The request with its prefix: paths on a module's own port come without one."""
        path, modules = scope["path"], self._ports[port]
        if port in self._trusting and _is_local_program(scope, self._trusting[port]):
            scope["state"]["loopback_key"] = self._loopback_key
            scope = {**scope, "headers": without_foreign_keys(scope["headers"])}
        if path in ON_EVERY_PORT:
            return scope
        if path.startswith(API_PREFIX):
            module = module_of(path)
            if module in modules:
                return scope
            if module in NOT_LEGACY:  # a legacy path may begin like ours: /api/v1/blocks
                raise NothingHere
        if port not in COORDINATOR_PORTS and PROTOCOL_PREFIXES.get(path[1:].partition("/")[0]) in modules:
            return scope
        shared = "trading" if modules[0] == "marketplace" and path.startswith(EXCHANGE_PATHS) else modules[0]
        prefix = LEGACY_COORDINATOR_PREFIX if port in COORDINATOR_PORTS else LEGACY_PREFIX[shared]
        return {**scope, "path": f"/{prefix}{path}", "raw_path": f"/{prefix}".encode() + scope["raw_path"]}


def _load_websocket_proxy() -> Callable[..., Awaitable[None]]:
    """Import the WebSocket proxy at the first WebSocket, in a thread: it needs aiohttp, and most gateways see none."""
    from aitbc.server.cluster.websocket_proxy import forward_socket  # noqa: PLC0415

    return forward_socket


def module_of(path: str) -> str | None:
    """The module that a path is for: ours by its second segment, one of a protocol or a legacy one by its first."""
    if path.startswith(API_PREFIX):
        return path[len(API_PREFIX) :].partition("/")[0]
    first = path[1:].partition("/")[0]
    if first in PROTOCOL_PREFIXES:
        return PROTOCOL_PREFIXES[first]
    return first if first == LEGACY_COORDINATOR_PREFIX else LEGACY_PREFIXES.get(first)


def is_legacy(path: str) -> bool:
    """Whether a path is one of the legacy gateway: a prefix as a whole segment."""
    first = path[1:].partition("/")[0]
    return first == LEGACY_COORDINATOR_PREFIX or first in LEGACY_PREFIXES


def _is_local_program(scope: Any, users: frozenset[int]) -> bool:
    """Whether the caller is a program on this machine of one of these users, and neither a browser nor a proxy.

    Browsers send Origin or Sec-Fetch-Site. Many proxies leave a mark; one that leaves none is told by its user alone.
    """
    names = {name for name, _ in scope["headers"]}
    if not names.isdisjoint(NOT_A_PROGRAM) or any(name.startswith(PROXY_PREFIXES) for name in names):
        return False
    client, host = scope.get("client"), dict(scope["headers"]).get(b"host", b"")
    name = host.decode("latin-1").rpartition(":")[0] or host.decode("latin-1")
    if client is None or client[0] not in LOOPBACK or name not in LOOPBACK_HOSTS:
        return False
    return peer_uid_of(scope) in users
