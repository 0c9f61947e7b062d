"""Authentication, permission and idempotency checks for every route."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from litestar.connection import ASGIConnection, Request
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from aitbc.kernel.database.idempotency import (
    KEY_LENGTH_MAX,
    IdempotencyKey,
    IdempotencyKeyInFlight,
    IdempotencyKeyMalformed,
    IdempotencyKeyRequired,
)
from aitbc.kernel.http.disconnect import cancel_on_disconnect, disconnect_of
from aitbc.kernel.http.scope import MUTATING, header_values
from aitbc.kernel.identity.accounts import Identity
from aitbc.kernel.identity.denials import Denials
from aitbc.kernel.identity.principal import PUBLIC, Principal
from aitbc.kernel.primitives.errors import Unauthenticated, Unavailable
from aitbc.kernel.telemetry.logs import principal_key

REVALIDATE_SECONDS = 0.2
"""How often an open stream checks that its API key is still valid; the cache of keys may delay the answer further."""
_KEY_HEADERS = (b"authorization", b"x-api-key")
REPLAYED = (b"idempotency-replayed", b"true")
"""The response header of a stored answer that is sent again."""
Connection = ASGIConnection[Any, Any, Any, Any]


class Admission:
    """The API key that a request came in with; a long stream checks periodically that it is still valid."""

    def __init__(self, identity: Identity, secret: str) -> None:
        self._identity = identity
        self._secret = secret

    async def is_valid(self) -> bool:
        """Whether the key is valid now; true while that cannot be checked."""
        try:
            await self._identity.authenticate(self._secret)
        except Unauthenticated:
            return False
        except Unavailable:
            return True  # the database is away: the stream itself will get nothing more from it either
        return True

    async def while_valid(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same stream, ended within a second after the key was revoked or expired."""
        pending = asyncio.ensure_future(anext(stream))
        try:
            while True:
                await asyncio.wait({pending}, timeout=REVALIDATE_SECONDS)
                if not await self.is_valid():
                    return
                if pending.done():
                    try:
                        chunk = pending.result()
                    except StopAsyncIteration:
                        return
                    yield chunk
                    pending = asyncio.ensure_future(anext(stream))
        finally:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)


class Guard:
    """Authenticates each request and checks its permission; one instance guards the whole app."""

    def __init__(self, identity: Identity, denials: Denials | None = None) -> None:
        """`denials` records keys that lack a scope, in the audit trail."""
        self._identity = identity
        self._denials = denials
        self._in_flight: set[tuple[str, str]] = set()

    async def __call__(self, connection: Connection, handler: BaseRouteHandler) -> None:
        """Authenticate, authorise, and read the Idempotency-Key."""
        permission = handler.opt["permission"]
        if permission == PUBLIC:
            connection.scope["state"]["once"] = IdempotencyKey(account="")
            return
        principal = await self.admit(connection.scope, permission)
        connection.scope["state"]["admission"] = Admission(self._identity, _secret_of(connection.scope))
        await self.prepare(connection.scope, handler.opt, principal, _body_of(connection))

    async def admit(self, scope: Any, permission: str) -> Principal:
        """The caller of a request, checked to hold this permission. Raises `Unauthenticated`, `Forbidden`."""
        principal = await self._identity.authenticate(_secret_of(scope))
        scope["state"]["principal"] = principal
        principal_key.set(principal.key)
        if not principal.may(permission):
            if self._denials is not None:
                self._denials.record(
                    principal, permission, f"{scope.get('method', 'GET')} {scope.get('path_template', '')}"
                )
            principal.require(permission)
        return principal

    async def prepare(
        self, scope: Any, opt: Mapping[str, Any], who: Principal, body: Callable[[], Awaitable[bytes]]
    ) -> None:
        """Cancel a handler that only waits when its client disconnects; read a mutating request's Idempotency-Key."""
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
        pair = (who.account, key)
        if pair in self._in_flight:
            raise IdempotencyKeyInFlight
        self._in_flight.add(pair)
        scope["state"]["release"] = lambda: self._in_flight.discard(pair)
        content = f"{scope['method']} {scope['path']}\n".encode("utf-8", "surrogateescape") + await body()
        return IdempotencyKey(who.account, key, hashlib.sha256(content).digest())


def _body_of(connection: Connection) -> Callable[[], Awaitable[bytes]]:
    async def body() -> bytes:
        assert isinstance(connection, Request)
        return await connection.body()

    return body


class IdempotencyMiddleware:
    """Marks replayed answers and releases the Idempotency-Key, for requests that the framework dispatches."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request to its end."""
        if scope["type"] != ScopeType.HTTP or scope["method"] not in MUTATING:
            await self._app(scope, receive, send)
            return

        async def send_marked(message: Message) -> None:
            once = scope["state"].get("once")
            if message["type"] == "http.response.start" and once is not None and once.replayed:
                message["headers"] = [*message["headers"], REPLAYED]
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        finally:
            release_idempotency_key(scope)


def release_idempotency_key(scope: Any) -> None:
    """Release the Idempotency-Key of a request that has ended: until then a second one with it is refused."""
    if release := scope["state"].get("release"):
        release()


def _secret_of(scope: Any) -> str:
    return loopback_key_of(scope) or bearer(scope)


def loopback_key_of(scope: Any) -> str | None:
    """The API key used for a caller who sends none, on a port that trusts this machine; none elsewhere."""
    loopback_key = scope["state"].get("loopback_key")
    if loopback_key is None:
        return None
    keys = [value.strip() for name, value in scope["headers"] if name in _KEY_HEADERS]
    return str(loopback_key) if all(key in (b"", b"Bearer") for key in keys) else None


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


async def _admission(request: Request[Any, Any, Any]) -> Admission:
    admission: Admission = request.scope["state"]["admission"]
    return admission


def dependencies() -> dict[str, Provide]:
    """Handler parameters by name: `who`, the caller; `once`, the Idempotency-Key; `admission`, which bounds streams."""
    return {"who": Provide(_who), "once": Provide(_once), "admission": Provide(_admission)}
