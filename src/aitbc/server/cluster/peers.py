"""Roads between the processes of one installation: calls of faces and events, under service tokens.

They run over Unix sockets, and over TLS between machines. A token names its sender and its receiver, lasts a minute, and is
signed with a key that is derived from the installation's secret, which all processes have. It is refused by anybody but the
process that it names.
"""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import structlog
from msgspec import Struct

from aitbc.kernel.database.outbox import Event
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Unauthenticated, Unavailable
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.server.cluster.peer_client import CONNECT_SECONDS, Content, Head, PeerClient, PeerResponse
from aitbc.server.cluster.stubs import Refusal, Transport
from aitbc.server.cluster.unix_client import UnixClient
from aitbc.server.config.hosts import PeerHost

TOKEN_SECONDS = 60
CALL_SECONDS = 90.0
"""The longest call: a miner's poll, and something over."""
SELF = "~process"
"""Where a process tells about itself, in place of a module."""
SERVICE = "X-Aitbc-Service"
"""The header with the service token of a caller's request that the gateway forwards to another machine."""
HOST = "X-Aitbc-Host"
"""The header with the host that the caller asked for; a load balancer on the way reads the other one."""
TOKEN_KEPT_SECONDS = 20
"""How long a token is used again: it must have most of its life before it."""
REFUSED = "It refuses our service token: do both processes have the same secret_key, and clocks that agree?"
CHALLENGE = "Service"
"""How an inner door asks for a token, so that nobody takes its refusal for one of the caller's own key."""
HEAR = "~hear"
"""The operation by which events are told; no coroutine of a Protocol can be called so."""


log = structlog.get_logger("aitbc.roads")


class TokenRefused(Unauthenticated):
    """This service token is not for this process, or not any more."""

    code = "service_token_refused"

    def __init__(self, message: str | None = None, **details: Any) -> None:
        super().__init__(message, headers={"WWW-Authenticate": CHALLENGE}, **details)


class Claims(Struct, frozen=True):
    """What a service token says."""

    sender: str
    receiver: str
    expires: int
    """In seconds since 1970."""


class Tokens:
    """Makes and checks the tokens of one process."""

    def __init__(self, secret: bytes, me: str) -> None:
        self._key = hmac.digest(secret, b"service tokens", hashlib.sha256)
        self._me = me

    def make(self, receiver: str) -> str:
        """A token for a call of this process on another."""
        claims = Claims(self._me, receiver, int(now().timestamp()) + TOKEN_SECONDS)
        body = base64.urlsafe_b64encode(msgspec.json.encode(claims))
        return f"{body.decode()}.{self._sign(body)}"

    def sender(self, token: str) -> str:
        """Who sent this. Raises `TokenRefused` for a token that is not for this process, or not any more."""
        body, _, mark = token.partition(".")
        if not body.isascii() or not hmac.compare_digest(mark.encode(), self._sign(body.encode()).encode()):
            raise TokenRefused
        claims = msgspec.json.decode(base64.urlsafe_b64decode(body), type=Claims)
        if claims.receiver != self._me or claims.expires <= now().timestamp():
            raise TokenRefused
        return claims.sender

    def _sign(self, body: bytes) -> str:
        return hmac.new(self._key, body, hashlib.sha256).hexdigest()


class Process(Struct, frozen=True, kw_only=True):
    """A process of the installation, as it tells itself."""

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


class Placed(Struct, frozen=True, kw_only=True):
    """Where a module runs, told by the process that serves it."""

    module: str
    process: str
    """`main`, or the module's own name."""
    answers: bool
    pid: int | None = None
    ports: tuple[int, ...] = ()
    """Ports on which this module answers, beside the gateway's."""
    trusting: tuple[int, ...] = ()
    """Those of them on which callers from that machine need no key: they act as the account `local`."""
    version: str | None = None
    started_at: datetime | None = None

    @classmethod
    def of(cls, module: str, name: str, process: Process | None) -> "Placed":
        """A module of a process; none for a process that does not answer."""
        if process is None:
            return cls(module=module, process=name, answers=False)
        ports = tuple(int(port) for port, modules in process.ports.items() if module in modules)
        return cls(
            module=module,
            process=name,
            answers=module in process.modules,
            pid=process.pid,
            ports=ports,
            trusting=tuple(port for port in ports if port in process.trusting),
            version=process.version,
            started_at=process.started_at,
        )


class Directory:
    """Where the modules of the installation run, asked of the processes themselves."""

    def __init__(self, own: Process, modules: Sequence[str], peers: "Mapping[str, Peer]") -> None:
        self._own = own
        self._modules = modules
        self._neighbours = peers

    async def placed(self) -> list[Placed]:
        """For every module what serves it."""
        asked = list({one.name: one for one in self._neighbours.values()}.values())
        told = await asyncio.gather(*(one.process() for one in asked), return_exceptions=True)
        running = {self._own.name: self._own, **{one.name: one for one in told if isinstance(one, Process)}}
        names = {module: far.name for module, far in self._neighbours.items()}
        found = {module: names.get(module, self._own.name) for module in self._modules}
        return [Placed.of(module, name, running.get(name)) for module, name in found.items()]


class Call(Struct, frozen=True):
    """Events on their way to a hearer in another process."""

    hearer: str
    events: tuple[tuple[UUID, str, str], ...]
    """Id, kind and body of each."""


class Peer:
    """Another process of the installation, found at its Unix socket, or at its URL on another machine."""

    def __init__(self, at: PeerHost, tokens: Tokens) -> None:
        """Raises `ConfigError` where the certificates of a site cannot be used."""
        self.name = at.process
        self.at = at
        self.base = at.url or f"http://{at.process}"
        self._trust = at.trust()
        self._tokens = tokens
        self._token = ("", 0.0)
        self._session: Any = None
        self._wires: PeerClient | None = None

    @property
    def is_far(self) -> bool:
        """Whether it is on another machine, where its inner door asks every request for a token."""
        return self.at.socket is None

    @property
    def session(self) -> Any:
        """The library's client for WebSockets, and for all else on another machine; made in the loop that uses it."""
        if self._session is None:
            from aitbc.server.cluster.tls_client import new_session  # noqa: PLC0415 - see there

            self._session = new_session(self.at, self._trust)
        return self._session

    async def exchange(self, method: str, target: bytes, head: Head, content: Content = None) -> PeerResponse:
        """A request there, and the head of its answer. Raises `OSError` when none comes, and what `content` raises."""
        if self._wires is None:
            self._wires = self._wired()
        return await self._wires.ask(method, target, head, content)

    def _wired(self) -> PeerClient:
        if self.at.socket is not None:
            return UnixClient(self.at.socket)
        from aitbc.server.cluster.tls_client import TlsClient  # noqa: PLC0415 - see there

        return TlsClient(self.base, self.session)

    def pass_of(self, host: bytes | None) -> list[tuple[bytes, bytes]]:
        """What a caller's request carries to another machine, beside its own headers; nothing within this one."""
        if not self.is_far:
            return []
        found = [(SERVICE.encode(), self._fresh_token().encode())]
        return found if host is None else [*found, (HOST.encode(), host)]

    def _fresh_token(self) -> str:
        token, until = self._token
        if until <= (moment := now().timestamp()):
            token = self._tokens.make(self.name)
            self._token = (token, moment + TOKEN_KEPT_SECONDS)
        return token

    async def close(self) -> None:
        """Close the pooled connections."""
        if self._wires is not None:
            await self._wires.close()
        if self._session is not None:
            await self._session.close()

    async def answers(self) -> bool:
        """Whether somebody serves there."""
        if self.at.socket is None:
            return await self.is_alive()
        with suppress(OSError):
            _, writer = await asyncio.open_unix_connection(str(self.at.socket))
            writer.close()
            return True
        return False

    async def is_alive(self) -> bool:
        """Whether it answers a request: one that hangs holds its socket open, and serves nobody."""
        try:
            status, _, _ = await self._get(b"/healthz")
        except OSError:
            return False
        return status == 200

    async def readiness(self) -> str | None:
        """None when the process says that it is ready, else what it says."""
        try:
            status, headers, body = await self._get(b"/readyz")
        except OSError:
            return "Its process does not answer."
        if status == 200:
            return None
        if is_refused(status, headers):
            return REFUSED
        return f"It is not ready: {body.decode(errors='replace')[:200]}"

    async def _get(self, path: bytes) -> tuple[int, Head, bytes]:
        """A request that no caller made. Raises `OSError`."""
        head = self.pass_of(b"localhost") if self.is_far else [(b"host", b"localhost")]
        async with asyncio.timeout(CONNECT_SECONDS):
            return await self._whole("GET", path, head)

    async def _whole(
        self, method: str, target: bytes, head: Head, content: bytes | None = None
    ) -> tuple[int, Head, bytes]:
        """Status, headers and whole body of an answer. Raises `OSError`."""
        answer = await self.exchange(method, target, head, content)
        try:
            body = answer.whole
            if body is None:
                body = b"".join([piece async for piece in answer.pieces()])
            return answer.status, answer.headers, body
        finally:
            answer.close()

    async def ask(self, path: str, body: bytes) -> tuple[int, bytes]:
        """One inner call. Raises `Unavailable` when no answer came, whatever may have happened."""
        head = [
            (b"host", self.name.encode()),
            (b"authorization", f"{CHALLENGE} {self._fresh_token()}".encode()),
            (b"content-type", b"application/json"),
        ]
        if self.is_far:  # the library names the host of the URL, which a load balancer on the way may read
            del head[0]
        if (request := current_request_id()) is not None:
            head.append((b"x-request-id", request.encode()))
        try:
            async with asyncio.timeout(CALL_SECONDS):
                status, headers, told = await self._whole("POST", path.encode(), head, body)
        except OSError:
            raise Unavailable(f"{self.name} does not answer; try again shortly.") from None
        if is_refused(status, headers):
            log.error("service_token_refused", process=self.name, meaning=REFUSED)
            raise Unavailable(f"{self.name} does not let us in; its operator must look.")
        kind = dict(headers).get(b"content-type", b"")
        if self.is_far and kind.partition(b";")[0].strip() != b"application/json":  # a load balancer's own words
            raise Unavailable(f"{self.name} does not answer; try again shortly.")
        return status, told

    async def process(self) -> Process:
        """What runs there. Raises `Unavailable`."""
        status, body = await self.ask(f"/internal/{SELF}", b"")
        if status != 200:
            raise Unavailable(f"{self.name} does not say what it is; try again shortly.")
        return msgspec.json.decode(body, type=Process)

    def transport_to(self, module: str) -> Transport:
        """The road to the face of a module there."""

        async def road(operation: str, arguments: bytes) -> tuple[int, bytes]:
            return await self.ask(f"/internal/{module}/{operation}", arguments)

        return road


class RemoteHandler:
    """A handler of a module in another process, for the relay of this one."""

    def __init__(self, peer: Peer, module: str, name: str) -> None:
        self._neighbour = peer
        self._module = module
        self.name = name

    async def receive(self, events: Sequence[tuple[UUID, Event]]) -> None:
        """Deliver events there; when this returns, they are handled and committed."""
        encoded = tuple((id_, event.kind, msgspec.json.encode(event).decode()) for id_, event in events)
        body = msgspec.json.encode(Call(self.name, encoded))
        status, answer = await self._neighbour.ask(f"/internal/{self._module}/{HEAR}", body)
        if status != 200:
            refusal = msgspec.json.decode(answer, type=Refusal)
            raise AppError.registry.get(refusal.code, AppError)(refusal.message, **refusal.details)


def is_refused(status: int, head: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether this is an inner door's refusal of our token, and nothing that was said to a caller."""
    return status == TokenRefused.status and (b"www-authenticate", CHALLENGE.encode()) in head


def peers(elsewhere: Mapping[str, PeerHost], tokens: Tokens) -> dict[str, Peer]:
    """For each module of another process the neighbour that serves it; modules of one process share theirs."""
    found = {at.process: Peer(at, tokens) for at in elsewhere.values()}
    return {module: found[at.process] for module, at in elsewhere.items()}


def refusal_of(error: Any) -> bytes:
    """An error on its way back."""
    return msgspec.json.encode(Refusal(error.code, error.message, error.details))
