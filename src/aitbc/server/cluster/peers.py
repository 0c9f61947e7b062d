"""Peers: the other processes of an installation, as clients of their internal APIs, authenticated by service tokens.

They are reached over Unix sockets, and over TLS on other machines.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import structlog
from msgspec import Struct, field

from aitbc.kernel.database.outbox import Event
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Unavailable
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.kernel.primitives.trace_context import current_span, traceparent_of
from aitbc.server.cluster.peer_client import CONNECT_SECONDS, HeaderList, PeerClient, PeerResponse, RequestBody
from aitbc.server.cluster.service_token import AUTH_SCHEME, TokenRefused, Tokens
from aitbc.server.cluster.stubs import RemoteError, Transport
from aitbc.server.cluster.unix_client import UnixClient
from aitbc.server.config.hosts import PeerHost

CALL_SECONDS = 90.0
"""The longest call: a miner's long poll, with a margin."""
TOKEN_KEPT_SECONDS = 20
"""How long a token is reused: most of its lifetime must be left."""
PROCESS_OPERATION = "~process"
"""The path at which a process describes itself, in place of a module."""
SERVICE_HEADER = "X-Aitbc-Service"
"""The header with the service token of a caller's request that the gateway forwards to another machine."""
HOST_HEADER = "X-Aitbc-Host"
"""The header with the host that the caller asked for; a load balancer on the way reads the other one."""
SERVICE_REFUSED_HINT = (
    "It refuses our service token: do both processes have the same secret_key, and clocks that agree?"
)
FIGURES_OPERATION = "~figures"
"""The path at which a process tells its metrics."""
UPKEEP_OPERATION = "~upkeep"
"""The path at which the main process is asked for upkeep."""
LEVELS_OPERATION = "~levels"
"""The path at which a process changes and tells the levels of its log."""
EVENTS_OPERATION = "~hear"
"""The operation that delivers events; no coroutine of a Protocol can have this name."""


log = structlog.get_logger("aitbc.peers")


class Process(Struct, frozen=True, kw_only=True):
    """A process of the installation, as it describes itself."""

    name: str
    """`main`, or the split module that it serves."""
    pid: int
    modules: tuple[str, ...]
    ports: dict[str, tuple[str, ...]]
    """Its ports beside the gateway's, each with the modules that answer on it."""
    version: str
    started_at: datetime
    trusting: tuple[int, ...] = ()
    """Those of the ports on which callers from the process's own machine need no key."""


class _Failing(Struct, frozen=True):
    """What a process that is not ready says of itself."""

    failing: list[str]


class EventBatch(Struct, frozen=True):
    """Events for a handler in another process."""

    handler: str = field(name="hearer")
    events: tuple[tuple[UUID, str, str], ...]
    """Id, kind and body of each."""


class Peer:
    """Another process of the installation, at its Unix socket, or at its URL on another machine."""

    def __init__(self, at: PeerHost, tokens: Tokens) -> None:
        """Raises `ConfigError` for certificates that cannot be used."""
        self.name = at.process
        self.at = at
        self.gave_up: str | None = None
        """Why its process is not started again, where this process supervises it and it refused its configuration."""
        self.base = at.url or f"http://{at.process}"
        self._tls_context = at.tls_context()
        self._tokens = tokens
        self._token = ("", 0.0)
        self._session: Any = None
        self._client: PeerClient | None = None

    @property
    def is_remote(self) -> bool:
        """Whether it is on another machine, where every request needs a service token."""
        return self.at.socket is None

    @property
    def session(self) -> Any:
        """aiohttp's session, for WebSockets and for processes on other machines; made in the loop that uses it."""
        if self._session is None:
            from aitbc.server.cluster.tls_client import new_session  # noqa: PLC0415 - see there

            self._session = new_session(self.at, self._tls_context)
        return self._session

    async def request(self, method: str, target: bytes, head: HeaderList, content: RequestBody = None) -> PeerResponse:
        """Send a request, and wait for the head of its response.

        Raises `OSError` when none comes, and what `content` raises.
        """
        if self._client is None:
            self._client = self._new_client()
        return await self._client.request(method, target, head, content)

    def _new_client(self) -> PeerClient:
        if self.at.socket is not None:
            return UnixClient(self.at.socket)
        from aitbc.server.cluster.tls_client import TlsClient  # noqa: PLC0415 - see there

        return TlsClient(self.base, self.session)

    def forwarding_headers(self, host: bytes | None) -> list[tuple[bytes, bytes]]:
        """The headers added to a request forwarded to another machine: service token and original host."""
        if not self.is_remote:
            return []
        found = [(SERVICE_HEADER.encode(), self._current_token().encode())]
        return found if host is None else [*found, (HOST_HEADER.encode(), host)]

    def _current_token(self) -> str:
        token, until = self._token
        if until <= (moment := now().timestamp()):
            token = self._tokens.issue(self.name)
            self._token = (token, moment + TOKEN_KEPT_SECONDS)
        return token

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.close()
        if self._session is not None:
            await self._session.close()

    async def is_listening(self) -> bool:
        """Whether a process listens there."""
        if self.at.socket is None:
            return await self.is_alive()
        with suppress(OSError):
            _, writer = await asyncio.open_unix_connection(str(self.at.socket))
            writer.close()
            return True
        return False

    async def is_alive(self) -> bool:
        """Liveness: whether it answers a request; a process that hangs still listens."""
        try:
            status, _, _ = await self._get(b"/healthz")
        except OSError:
            return False
        return status == 200

    async def readiness(self) -> str | None:
        """Readiness: none when the process is ready, else the reason."""
        if self.gave_up is not None:
            return self.gave_up
        try:
            status, headers, body = await self._get(b"/readyz")
        except OSError:
            return "Its process does not answer."
        if status == 200:
            return None
        if is_token_refusal(status, headers):
            return SERVICE_REFUSED_HINT
        return f"It is not ready: {body.decode(errors='replace')[:200]}"

    async def failing_checks(self) -> Sequence[str]:
        """The checks of readiness that it fails, by name. Raises `OSError` where it does not answer."""
        status, headers, body = await self._get(b"/readyz")
        if status == 200:
            return ()
        if is_token_refusal(status, headers):
            return (SERVICE_REFUSED_HINT,)
        try:
            return msgspec.json.decode(body, type=_Failing).failing
        except msgspec.MsgspecError:
            return (f"it answers {status}",)

    async def _get(self, path: bytes) -> tuple[int, HeaderList, bytes]:
        """A request of this process itself, without a caller. Raises `OSError`."""
        head = self.forwarding_headers(b"localhost") if self.is_remote else [(b"host", b"localhost")]
        async with asyncio.timeout(CONNECT_SECONDS):
            return await self._fetch("GET", path, head)

    async def _fetch(
        self, method: str, target: bytes, head: HeaderList, content: bytes | None = None
    ) -> tuple[int, HeaderList, bytes]:
        """Status, headers and whole body of a response. Raises `OSError`."""
        answer = await self.request(method, target, head, content)
        try:
            body = answer.buffered_body
            if body is None:
                body = b"".join([piece async for piece in answer.chunks()])
            return answer.status, answer.headers, body
        finally:
            answer.close()

    async def call(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Call the internal API. Raises `Unavailable` when no answer came, whether or not the call took effect."""
        head = [
            (b"host", self.name.encode()),
            (b"authorization", f"{AUTH_SCHEME} {self._current_token()}".encode()),
            (b"content-type", b"application/json"),
        ]
        if self.is_remote:  # aiohttp names the host of the URL, which a load balancer on the way may read
            del head[0]
        if (request := current_request_id()) is not None:
            head.append((b"x-request-id", request.encode()))
            if (span := current_span.get()) is not None:
                head.append((b"traceparent", traceparent_of(request, span).encode()))
        try:
            async with asyncio.timeout(CALL_SECONDS):
                status, headers, answer = await self._fetch("POST", path.encode(), head, body)
        except OSError:
            raise Unavailable(f"{self.name} does not answer; try again shortly.") from None
        if is_token_refusal(status, headers):
            log.error("service_token_refused", process=self.name, meaning=SERVICE_REFUSED_HINT)
            raise Unavailable(f"{self.name} does not let us in; its operator must look.")
        kind = dict(headers).get(b"content-type", b"")
        if self.is_remote and kind.partition(b";")[0].strip() != b"application/json":  # a load balancer's own answer
            raise Unavailable(f"{self.name} does not answer; try again shortly.")
        return status, answer

    async def process(self) -> Process:
        """The process's description of itself. Raises `Unavailable`."""
        status, body = await self.call(f"/internal/{PROCESS_OPERATION}", b"")
        if status != 200:
            raise Unavailable(f"{self.name} does not say what it is; try again shortly.")
        return msgspec.json.decode(body, type=Process)

    async def figures(self) -> Mapping[str, float]:
        """The process's metrics, by name and labels. Raises `Unavailable`."""
        status, body = await self.call(f"/internal/{FIGURES_OPERATION}", b"")
        if status != 200:
            raise Unavailable(f"{self.name} does not tell its figures; try again shortly.")
        return msgspec.json.decode(body, type=dict[str, float])

    async def log_levels(self, wanted: Mapping[str, str]) -> Mapping[str, str]:
        """Have the process log from these levels on, and tell all of its levels. Raises `Unavailable`."""
        status, body = await self.call(f"/internal/{LEVELS_OPERATION}", msgspec.json.encode(wanted))
        if status != 200:
            raise Unavailable(f"{self.name} does not tell its levels; try again shortly.")
        return msgspec.json.decode(body, type=dict[str, str])

    async def upkeep(self, action: str) -> Mapping[str, Any]:
        """Have the main process clean up, reindex or back up. Raises `Unavailable`, `NotDone`."""
        status, body = await self.call(f"/internal/{UPKEEP_OPERATION}", msgspec.json.encode(action))
        if status != 200:
            error = msgspec.json.decode(body, type=RemoteError)
            raise AppError.registry.get(error.code, AppError)(error.message, **error.details)
        return msgspec.json.decode(body, type=dict[str, Any])

    def transport_to(self, module: str) -> Transport:
        """The transport to the face of a module there."""

        async def transport(operation: str, arguments: bytes) -> tuple[int, bytes]:
            return await self.call(f"/internal/{module}/{operation}", arguments)

        return transport


class RemoteHandler:
    """A subscriber that delivers events directly to a handler in another process."""

    def __init__(self, peer: Peer, module: str, name: str) -> None:
        self._peer = peer
        self._module = module
        self.name = name

    async def receive(self, events: Sequence[tuple[UUID, Event]]) -> None:
        """Deliver events there; when this returns, they are handled and committed."""
        encoded = tuple((id_, event.kind, msgspec.json.encode(event).decode()) for id_, event in events)
        body = msgspec.json.encode(EventBatch(self.name, encoded))
        status, answer = await self._peer.call(f"/internal/{self._module}/{EVENTS_OPERATION}", body)
        if status != 200:
            error = msgspec.json.decode(answer, type=RemoteError)
            raise AppError.registry.get(error.code, AppError)(error.message, **error.details)


def is_token_refusal(status: int, head: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a response refuses our service token, in contrast to a 401 about the caller's own key."""
    return status == TokenRefused.status and (b"www-authenticate", AUTH_SCHEME.encode()) in head


def peers(hosts: Mapping[str, PeerHost], tokens: Tokens) -> dict[str, Peer]:
    """For each module of another process the peer that serves it; modules of one process share theirs."""
    found = {at.process: Peer(at, tokens) for at in hosts.values()}
    return {module: found[at.process] for module, at in hosts.items()}


def encode_error(error: Any) -> bytes:
    """An error, serialized for the internal API."""
    return msgspec.json.encode(RemoteError(error.code, error.message, error.details))
