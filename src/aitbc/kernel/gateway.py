"""The gateway: brings each request to the module that its path names, in this process or in another, and keeps ports apart.

A port of a module answers for this module alone. A module elsewhere is reached over pooled connections, with bodies streaming
both ways; what cannot be reached is a 503 for its own paths, and nobody else's.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send
from yarl import URL

from aitbc.kernel.boundary import note_route
from aitbc.kernel.doors import stand_in_of
from aitbc.kernel.errors import NotFound, Unavailable
from aitbc.kernel.gone import GONE
from aitbc.kernel.places import COORDINATOR_PORTS, COORDINATOR_PREFIX, OLDER_PREFIX, OLDER_PREFIXES, Places
from aitbc.kernel.roads import Neighbour

OURS = "/api/v1/"
FOR_ALL = frozenset({"/healthz", "/readyz", "/version", "/metrics"})
"""Answered on every port, each process for itself."""
LOOPBACK = frozenset({"127.0.0.1", "::1"})
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
FAILURES_MAX = 5
OPEN_SECONDS = 60.0
PROBE_SECONDS = 1.0
SILENCE_SECONDS = 90.0
"""How long an answer may pause; more than any long poll and any beat of a stream."""
HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
OWN = frozenset({b"date", b"server", b"x-request-id"})
"""Headers of an answer that this process makes itself."""

log = structlog.get_logger("aitbc.gateway")


class NothingHere(NotFound):
    """There is nothing at this path on this port."""

    code = "not_on_this_port"


class ModuleUnavailable(Unavailable):
    """The process of this module does not answer; everything else goes on."""

    code = "module_unavailable"


class Breaker:
    """Opens after some failures in a row, so that nobody waits for a process that is not there; a probe closes it again."""

    def __init__(self, neighbour: Neighbour) -> None:
        self._neighbour = neighbour
        self._failures = 0
        self._opened_at = 0.0
        self._probe: asyncio.Task[None] | None = None

    def check(self) -> None:
        """Raises `ModuleUnavailable` while it is open."""
        if self._failures >= FAILURES_MAX and time.monotonic() - self._opened_at < OPEN_SECONDS:
            raise ModuleUnavailable

    def succeeded(self) -> None:
        """An answer came."""
        self._failures = 0

    def failed(self) -> None:
        """No answer came."""
        self._failures += 1
        if self._failures >= FAILURES_MAX:
            self._opened_at = time.monotonic()
            if self._probe is None or self._probe.done():
                log.warning("breaker_opened", process=self._neighbour.name)
                self._probe = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while not await self._neighbour.answers():  # noqa: ASYNC110
            await asyncio.sleep(PROBE_SECONDS)
        log.info("breaker_closed", process=self._neighbour.name)
        self.succeeded()


class Gateway:
    """Between the boundary and the application: routes by port and by path.

    `coordinator` tells the module of a path of the older coordinator; `stand_in` is the key of callers who need none.
    """

    def __init__(
        self,
        app: ASGIApp,
        places: Places,
        neighbours: Mapping[str, Neighbour],
        coordinator: Callable[[str, str], str | None],
        stand_in: str | None,
    ) -> None:
        self._app = app
        self._ports = places.ports
        self._trusting = places.trusting
        self._far = {module: (one, Breaker(one)) for module, one in neighbours.items()}
        self._coordinator = coordinator
        self._stand_in = stand_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        request: Any = scope
        port: Any = (request.get("server") or (None, None))[1]
        if port in self._ports:
            request = self._at_port(port, request)
        module = module_of(request["path"])
        if module == COORDINATOR_PREFIX:
            module = self._coordinator(request["method"], request["path"])
        if module in self._far:
            await self._forward(request, receive, send, *self._far[module])
        else:
            try:
                await self._app(request, receive, send)
            finally:
                note_route(request, scope)

    def _at_port(self, port: int, scope: Any) -> Any:
        """The request as the application knows it: what came bare to a module's port has its prefix there."""
        path, modules = scope["path"], self._ports[port]
        if port in self._trusting and _is_from_here(scope):
            scope["state"]["stand_in"] = self._stand_in
        if path in FOR_ALL and port not in COORDINATOR_PORTS:
            return scope
        if path.startswith(OURS):
            if module_of(path) not in modules:
                raise NothingHere
            return scope
        prefix = COORDINATOR_PREFIX if port in COORDINATOR_PORTS else OLDER_PREFIX[modules[0]]
        return {**scope, "path": f"/{prefix}{path}", "raw_path": f"/{prefix}".encode() + scope["raw_path"]}

    async def _forward(self, scope: Any, receive: Receive, send: Send, neighbour: Neighbour, breaker: Breaker) -> None:
        breaker.check()
        gone, task = scope.get(GONE), asyncio.current_task()
        if gone is not None and task is not None:
            gone.end(task)
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        started = False
        try:
            async with neighbour.session.request(
                scope["method"],
                URL(f"http://{neighbour.name}{target.decode('ascii')}", encoded=True),
                headers=_onward(scope),
                data=_content(scope, receive),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=2.0, sock_read=SILENCE_SECONDS),
            ) as answer:
                breaker.succeeded()
                head = [(name.lower(), value) for name, value in answer.raw_headers]
                hidden = HOP_BY_HOP | OWN | _named(dict(head).get(b"connection"))
                headers = [pair for pair in head if pair[0] not in hidden]
                started = True
                await send({"type": "http.response.start", "status": answer.status, "headers": headers})
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


def module_of(path: str) -> str | None:
    """The module that a path is for: ours by its second segment, the older ones by their first."""
    if path.startswith(OURS):
        return path[len(OURS) :].partition("/")[0]
    first = path[1:].partition("/")[0]
    return first if first == COORDINATOR_PREFIX else OLDER_PREFIXES.get(first)


def _is_from_here(scope: Any) -> bool:
    """A program on this machine, not a page in a browser on it: pages send an Origin, or where they come from."""
    names = {name for name, _ in scope["headers"]}
    if b"origin" in names or b"sec-fetch-site" in names or b"x-forwarded-for" in names or b"forwarded" in names:
        return False
    client, host = scope.get("client"), dict(scope["headers"]).get(b"host", b"")
    name = host.decode("latin-1").rpartition(":")[0] or host.decode("latin-1")
    return client is not None and client[0] in LOOPBACK and name in LOOPBACK_HOSTS


def _onward(scope: Any) -> list[tuple[str, str]]:
    """The headers of a request as the other process gets them."""
    head: list[tuple[bytes, bytes]] = scope["headers"]
    hidden = HOP_BY_HOP | {b"x-request-id"} | _named(dict(head).get(b"connection"))
    if (stand_in := stand_in_of(scope)) is not None:
        hidden |= {b"authorization", b"x-api-key"}
    headers = [(name.decode("ascii"), value.decode("latin-1")) for name, value in head if name not in hidden]
    if stand_in is not None:
        headers.append(("Authorization", f"Bearer {stand_in}"))
    return [*headers, ("X-Request-ID", scope["state"]["request_id"])]


def _named(connection: bytes | None) -> frozenset[bytes]:
    """The headers that a Connection header makes hop-by-hop."""
    return frozenset(name.strip().lower() for name in (connection or b"").split(b","))


def _content(scope: Any, receive: Receive) -> AsyncIterator[bytes] | None:
    """The body as it comes; none for a request that has none."""
    headers = dict(scope["headers"])
    if headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
        return None
    return _pieces(receive)


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message: Any = await receive()
        if message["type"] != "http.request":
            raise ConnectionResetError
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body", False):
            return
