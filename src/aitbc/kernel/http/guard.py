"""The doors of every module: who comes in, with which permission, and whether the command was done before."""

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
from aitbc.kernel.http.disconnect import DISCONNECT, Disconnect
from aitbc.kernel.http.scope import MUTATING, header_values
from aitbc.kernel.identity.accounts import Identity
from aitbc.kernel.identity.denials import Denials
from aitbc.kernel.identity.principal import PUBLIC, Principal
from aitbc.kernel.primitives.errors import Unauthenticated, Unavailable
from aitbc.kernel.telemetry.logs import principal_key

ADMISSION_SECONDS = 0.2
"""How often a stream looks whether its key still counts, beside the time for which a key is believed."""
_KEY_HEADERS = (b"authorization", b"x-api-key")
REPLAYED = (b"idempotency-replayed", b"true")
"""The header of an answer that is the stored one of an earlier request."""
Connection = ASGIConnection[Any, Any, Any, Any]


class Admission:
    """What let a caller in; a stream that outlives its first moment asks whether it still counts."""

    def __init__(self, identity: Identity, secret: str) -> None:
        self._identity = identity
        self._secret = secret

    async def is_valid(self) -> bool:
        """Whether the key is valid now."""
        try:
            await self._identity.authenticate(self._secret)
        except Unauthenticated:
            return False
        except Unavailable:
            return True  # nobody can tell; what the stream reads next will not come either
        return True

    async def while_valid(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same stream, cut within a second of the key's end."""
        pending = asyncio.ensure_future(anext(stream))
        try:
            while True:
                await asyncio.wait({pending}, timeout=ADMISSION_SECONDS)
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
    """Lets a request through to its handler, or refuses it: one instance guards the whole app."""

    def __init__(self, identity: Identity, denials: Denials | None = None) -> None:
        """`denials` takes note of keys that lack a scope."""
        self._identity = identity
        self._denials = denials
        self._in_flight: set[tuple[str, str]] = set()

    async def __call__(self, connection: Connection, handler: BaseRouteHandler) -> None:
        """Authenticate, authorise, and take note of the Idempotency-Key."""
        permission = handler.opt["permission"]
        if permission == PUBLIC:
            connection.scope["state"]["once"] = IdempotencyKey(account="")
            return
        principal = await self.admit(connection.scope, permission)
        connection.scope["state"]["admission"] = Admission(self._identity, _secret_of(connection.scope))
        await self.prepare(connection.scope, handler.opt, principal, _body_of(connection))

    async def admit(self, scope: Any, permission: str) -> Principal:
        """The caller, who holds this permission. Raises `Unauthenticated`, `Forbidden`."""
        principal = await self._identity.authenticate(_secret_of(scope))
        scope["state"]["principal"] = principal
        principal_key.set(principal.key)
        if not principal.may(permission):
            if self._denials is not None:
                self._denials.note(
                    principal, permission, f"{scope.get('method', 'GET')} {scope.get('path_template', '')}"
                )
            principal.require(permission)
        return principal

    async def prepare(
        self, scope: Any, opt: Mapping[str, Any], who: Principal, body: Callable[[], Awaitable[bytes]]
    ) -> None:
        """End a call that only waits with its client, and take note of the Idempotency-Key of one that changes something."""
        if opt.get("waits"):
            gone, task = scope.get(DISCONNECT), asyncio.current_task()
            if isinstance(gone, Disconnect) and task is not None:
                gone.cancel_task(task)
        if scope.get("method") in MUTATING:
            scope["state"]["once"] = await self._once(scope, opt.get("idempotency"), who, body)

    async def _once(
        self, scope: Any, idempotency: str | None, who: Principal, body: Callable[[], Awaitable[bytes]]
    ) -> IdempotencyKey:
        keys = header_values(scope, b"idempotency-key")
        if idempotency == "natural":  # repeating it is harmless by itself
            return IdempotencyKey(account=who.account)
        if not keys:
            if idempotency == "required":
                raise IdempotencyKeyRequired
            return IdempotencyKey(account=who.account)
        key = keys[0]
        if len(keys) > 1 or not 0 < len(key) <= KEY_LENGTH_MAX or not key.isascii() or not key.isprintable():
            raise IdempotencyKeyMalformed
        mark = (who.account, key)
        if mark in self._in_flight:
            raise IdempotencyKeyInFlight
        self._in_flight.add(mark)
        scope["state"]["leave"] = lambda: self._in_flight.discard(mark)
        content = f"{scope['method']} {scope['path']}\n".encode("utf-8", "surrogateescape") + await body()
        return IdempotencyKey(who.account, key, hashlib.sha256(content).digest())


def _body_of(connection: Connection) -> Callable[[], Awaitable[bytes]]:
    async def body() -> bytes:
        assert isinstance(connection, Request)
        return await connection.body()

    return body


class IdempotencyMiddleware:
    """Sees a request out that the framework answers: marks a replayed answer, and frees the Idempotency-Key."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, to its end."""
        if scope["type"] != ScopeType.HTTP or scope["method"] not in MUTATING:
            await self._app(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            once = scope["state"].get("once")
            if message["type"] == "http.response.start" and once is not None and once.replayed:
                message["headers"] = [*message["headers"], REPLAYED]
            await send(message)

        try:
            await self._app(scope, receive, marked)
        finally:
            release_idempotency_key(scope)


def release_idempotency_key(scope: Any) -> None:
    """Free the Idempotency-Key of a request that is over for the next one."""
    if leave := scope["state"].get("leave"):
        leave()


def _secret_of(scope: Any) -> str:
    return loopback_key_of(scope) or bearer(scope)


def loopback_key_of(scope: Any) -> str | None:
    """The key to use for a caller without one, or with an empty one, at a port that trusts this machine; none elsewhere."""
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
    """What handlers may ask for by name: `who` they serve, `once`, the Idempotency-Key, and the `admission` that bounds streams."""
    return {"who": Provide(_who), "once": Provide(_once), "admission": Provide(_admission)}
