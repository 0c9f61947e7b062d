"""CORS: lets pages of the origins in `server.origins` call this server and read what it answers, errors too.

Neither layer is there when no origin is configured. A page sends its API key as any program does; there are no cookies,
so no credentials are allowed.
"""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from aitbc.kernel.http.scope import MUTATING

METHODS = b", ".join(sorted((b"GET", b"HEAD", *(method.encode() for method in MUTATING))))
REQUEST_HEADERS = b"Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Api-Key, X-Request-Id"
"""What a page may send beside what browsers always let it send."""
EXPOSED_HEADERS = (
    b"Allow, Content-Disposition, Deprecation, ETag, Idempotency-Replayed, Link, Location, Retry-After, Sunset, "
    b"WWW-Authenticate, X-Request-Id"
)
"""What a page may read beside what browsers always let it read."""
MAX_AGE_SECONDS = 600
"""How long a browser may remember a preflight."""
VARY = (b"vary", b"Origin")


class CrossOrigin:
    """The layer outside of the boundary: marks every answer to a page of these origins as one that it may read."""

    def __init__(self, app: ASGIApp, origins: frozenset[str]) -> None:
        self._app = app
        self._origins = lowered(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        added = [VARY]
        if (origin := page_of(scope, self._origins)) is not None:
            added += [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", EXPOSED_HEADERS)]

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, send_marked)


class Preflights:
    """The layer inside of the boundary: answers preflights of these origins, for every path and without a key."""

    def __init__(self, app: ASGIApp, origins: frozenset[str]) -> None:
        self._app = app
        self._origins = lowered(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != ScopeType.HTTP or scope["method"] != "OPTIONS" or page_of(scope, self._origins) is None:
            await self._app(scope, receive, send)
            return
        asked = dict(scope["headers"])
        if b"access-control-request-method" not in asked:
            await self._app(scope, receive, send)
            return
        headers = [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", REQUEST_HEADERS),
            (b"access-control-max-age", str(MAX_AGE_SECONDS).encode()),
        ]
        if asked.get(b"access-control-request-private-network") == b"true":  # a public page, and a server at home
            headers.append((b"access-control-allow-private-network", b"true"))
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def lowered(origins: frozenset[str]) -> frozenset[bytes]:
    """The origins as they are compared."""
    return frozenset(origin.lower().encode() for origin in origins)


def page_of(scope: Scope, origins: frozenset[bytes]) -> bytes | None:
    """The origin of the page that sends this, as it is spelled there; none for programs and for other pages."""
    for name, value in scope["headers"]:
        if name == b"origin":
            return value if value.lower() in origins else None
    return None
