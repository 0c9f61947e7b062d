"""Authentication, permission and idempotency checks for every route."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from litestar.connection import ASGIConnection, Request
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from aitbc.kernel.crypto.api_key import is_foreign, masked
from aitbc.kernel.database.idempotency import (
    KEY_LENGTH_MAX,
    IdempotencyKey,
    IdempotencyKeyInFlight,
    IdempotencyKeyMalformed,
    IdempotencyKeyRequired,
)
from aitbc.kernel.http.admission import (
    ADMITTED,
    Admissions,
    Admitted,
    lasts,
    release_request,
    run_admitted,
    run_admitted_socket,
)
from aitbc.kernel.http.disconnect import cancel_on_disconnect, disconnect_of
from aitbc.kernel.http.scope import MUTATING, count_as_waiting, header_values
from aitbc.kernel.http.websocket import noting_refusal
from aitbc.kernel.identity.accounts import Identity
from aitbc.kernel.identity.denials import Denials
from aitbc.kernel.identity.principal import PUBLIC, Principal
from aitbc.kernel.primitives.errors import Unauthenticated
from aitbc.kernel.telemetry.logs import principal_key

_KEY_HEADERS = (b"authorization", b"x-api-key")
REPLAYED = (b"idempotency-replayed", b"true")
"""The response header of a stored answer that is sent again."""
FOREIGN_KEY_HEADER = b"x-foreign-api-key"
"""Where a key that is none of ours is kept on a port that trusts this machine: it counts as none there."""
Connection = ASGIConnection[Any, Any, Any, Any]


class Guard:
    """Authenticates each request and checks its permission; one instance guards the whole app."""

    def __init__(self, identity: Identity, denials: Denials | None = None) -> None:
        """`denials` records keys that lack a scope, in the audit trail."""
        self._identity = identity
        self._admissions = Admissions(identity)
        self._denials = denials
        self._in_flight: set[tuple[str, str]] = set()

    @property
    def lasting(self) -> int:
        """How many requests are open that end with their API key."""
        return self._admissions.count

    async def __call__(self, connection: Connection, handler: BaseRouteHandler) -> None:
        """Authenticate, authorise, and read the Idempotency-Key."""
        permission = handler.opt["permission"]
        if permission == PUBLIC:
            connection.scope["state"]["once"] = IdempotencyKey(account="")
            if lasts(handler.opt):
                count_as_waiting(connection.scope)
            return
        if connection.scope["type"] == ScopeType.WEBSOCKET:
            with noting_refusal(connection.scope):
                principal = await self.admit(connection.scope, permission, handler.opt.get("alternative"))
        else:
            principal = await self.admit(connection.scope, permission, handler.opt.get("alternative"))
        await self.prepare(connection.scope, handler.opt, principal, _body_of(connection))

    async def admit(self, scope: Any, permission: str, alternative: str | None = None) -> Principal:
        """The caller of a request, checked to hold this permission or the alternative one.

        Raises `Unauthenticated`, `Forbidden`.
        """
        principal = await self._identity.authenticate(_secret_of(scope))
        scope["state"]["principal"] = principal
        principal_key.set(principal.key)
        if not principal.may(permission) and (alternative is None or not principal.may(alternative)):
            if self._denials is not None:
                self._denials.record(
                    principal, permission, f"{scope.get('method', 'GET')} {scope.get('path_template', '')}"
                )
            principal.require(permission)
        return principal

    async def prepare(
        self, scope: Any, opt: Mapping[str, Any], who: Principal, body: Callable[[], Awaitable[bytes]]
    ) -> None:
        """Have what lasts end with its key, and what only waits with its client; read the Idempotency-Key of a request
        that changes something."""
        if lasts(opt):
            count_as_waiting(scope)
            held = opt["permission"] if who.may(opt["permission"]) else opt["alternative"]
            self._admissions.bind(scope, _secret_of(scope), held)
        if opt.get("waits"):
            cancel_on_disconnect(disconnect_of(scope))
        if scope.get("method") in MUTATING:
            scope["state"]["once"] = await self._idempotency_key(scope, opt.get("idempotency"), who, body)

    async def _idempotency_key(
        self, scope: Any, idempotency: str | None, who: Principal, body: Callable[[], Awaitable[bytes]]
    ) -> IdempotencyKey:
        keys = header_values(scope, b"idempotency-key")
        if idempotency == "natural":  # repeating the request has no further effect
            return IdempotencyKey(account=who.account)
        if not keys:
            if idempotency == "required":
                raise IdempotencyKeyRequired
            return IdempotencyKey(account=who.account)
        key = keys[0]
        if len(keys) > 1 or not 0 < len(key) <= KEY_LENGTH_MAX or not key.isascii() or not key.isprintable():
            raise IdempotencyKeyMalformed
        if masked(key) != key:
            key = f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
        pair = (who.account, key)
        if pair in self._in_flight:
            raise IdempotencyKeyInFlight
        self._in_flight.add(pair)
        release_before = scope["state"].get("release")

        def release() -> None:
            self._in_flight.discard(pair)
            if release_before is not None:
                release_before()

        scope["state"]["release"] = release
        content = f"{scope['method']} {scope['path']}\n".encode("utf-8", "surrogateescape") + await body()
        return IdempotencyKey(who.account, key, hashlib.sha256(content).digest())


def _body_of(connection: Connection) -> Callable[[], Awaitable[bytes]]:
    async def body() -> bytes:
        assert isinstance(connection, Request)
        return await connection.body()

    return body


class IdempotencyMiddleware:
    """Marks replayed answers, releases the Idempotency-Key, and ends what lasts with its API key, for requests that the
    framework dispatches."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request to its end."""
        if scope["type"] != ScopeType.HTTP:
            await self._run_other(scope, receive, send)
            return

        async def send_marked(message: Message) -> None:
            once = scope["state"].get("once")
            if message["type"] == "http.response.start" and once is not None and once.replayed:
                message["headers"] = [*message["headers"], REPLAYED]
            await send(message)

        try:
            await run_admitted(self._app, scope, receive, send_marked if scope["method"] in MUTATING else send)
        finally:
            release_request(scope)

    async def _run_other(self, scope: Any, receive: Receive, send: Send) -> None:
        """Run a WebSocket, or what is no connection at all."""
        if scope["type"] != ScopeType.WEBSOCKET:
            await self._app(scope, receive, send)
            return
        try:
            await run_admitted_socket(self._app, scope, receive, send)
        finally:
            release_request(scope)


def _secret_of(scope: Any) -> str:
    return loopback_key_of(scope) or bearer(scope)


def loopback_key_of(scope: Any) -> str | None:
    """The API key used for a caller who sends none of ours, on a port that trusts this machine; none elsewhere."""
    loopback_key = scope["state"].get("loopback_key")
    if loopback_key is None:
        return None
    return None if any(name in _KEY_HEADERS for name, _ in scope["headers"]) else str(loopback_key)


def without_foreign_keys(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of a request with keys that are none of ours under another name, where nobody asks them for access.

    They are kept, so that a client's own key is masked where it repeats it in its texts.
    """
    return [
        (FOREIGN_KEY_HEADER, key.encode("latin-1")) if key is not None and is_foreign(key) else (name, value)
        for name, value in headers
        for key in [_key_of(name, value)]
    ]


def _key_of(name: bytes, value: bytes) -> str | None:
    """The key in a header that carries one."""
    if name not in _KEY_HEADERS:
        return None
    text = value.decode("latin-1").strip()
    return text if name == b"x-api-key" or text[:6].lower() != "bearer" else text[6:].strip()


def bearer(scope: Any) -> str:
    """The API key of a request: one `Authorization: Bearer …` header or one `X-Api-Key`. Raises `Unauthenticated`."""
    found = [pair for pair in scope["headers"] if pair[0] in _KEY_HEADERS]
    if len(found) != 1:
        raise Unauthenticated
    name, value = found[0]
    text: str = value.decode("latin-1")
    if name == b"x-api-key":
        return text
    scheme, _, secret = text.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    return secret


async def _who(request: Request[Any, Any, Any]) -> Principal:
    principal = request.scope["state"].get("principal")
    if principal is None:
        raise Unauthenticated
    assert isinstance(principal, Principal)
    return principal


async def _once(request: Request[Any, Any, Any]) -> IdempotencyKey:
    once: IdempotencyKey = request.scope["state"]["once"]
    return once


async def _admission(request: Request[Any, Any, Any]) -> Admitted:
    admitted: Admitted = request.scope["state"][ADMITTED]
    return admitted


def dependencies() -> dict[str, Provide]:
    """Handler parameters by name: `who`, the caller; `once`, the Idempotency-Key; `admission`, of what lasts."""
    return {"who": Provide(_who), "once": Provide(_once), "admission": Provide(_admission)}
