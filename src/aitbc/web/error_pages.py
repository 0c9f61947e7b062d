"""Shows people a page where the API answers programs with a problem document."""

from typing import Any
from urllib.parse import quote

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from aitbc.kernel.http.problems import PROBLEM_TYPE
from aitbc.kernel.http.scope import header_values
from aitbc.kernel.identity.sessions import SIGN_IN_PATH
from aitbc.web.rendering import render
from aitbc.web.visit import PAGE_HEADERS

NOT_OURS = frozenset(
    {"api", "docs", "openapi.json", "healthz", "readyz", "version", "metrics", "health", "services", ".well-known"}
    | {"gpu", "marketplace", "trading", "governance", "ai", "monitoring", "hermes", "plugin", "coordinator"}
)
"""First segments of paths that programs call: their errors stay problem documents, whoever asks."""


class ErrorPages:
    """ASGI middleware above the boundary: turns the problem of a page into a page, and of who is signed out into
    the way to the sign-in. What streams ends with the plain problem."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != ScopeType.HTTP or not is_for_people(scope):
            await self._app(scope, receive, send)
            return
        held: Any = None
        body = bytearray()

        async def shown(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and _is_problem(message):
                held = message
                return
            if held is None:
                await send(message)
                return
            body.extend(message.get("body", b""))  # type: ignore[arg-type]
            if not message.get("more_body", False):
                await _show(scope, send, held, bytes(body))

        await self._app(scope, receive, shown)


def is_for_people(scope: Any) -> bool:
    """Whether a browser asks for something to be looked at, at a path that no program calls."""
    first = scope["path"][1:].partition("/")[0]
    return first not in NOT_OURS and any("text/html" in accepted for accepted in header_values(scope, b"accept"))


def _is_problem(message: Any) -> bool:
    return any(name == b"content-type" and value == PROBLEM_TYPE.encode() for name, value in message["headers"])


async def _show(scope: Any, send: Any, start: Any, body: bytes) -> None:
    """The page of a problem; for who is signed out, the way to the sign-in and back."""
    problem: dict[str, Any] = msgspec.json.decode(body) if body else {}
    status = start["status"]
    kept = [pair for pair in start["headers"] if pair[0] not in (b"content-type", b"content-length", b"cache-control")]
    headers = [(name.encode(), value.encode()) for name, value in PAGE_HEADERS.items()]
    kept = [pair for pair in kept if pair[0] not in dict(headers)] + headers
    if problem.get("code") == "signed_out":
        status, content = 303, b""
        back = (
            "" if scope["method"] not in ("GET", "HEAD") or scope["path"] == "/" else f"?next={quote(_target(scope))}"
        )
        kept = [pair for pair in kept if pair[0] != b"www-authenticate"]
        kept.append((b"location", f"{SIGN_IN_PATH}{back}".encode()))
    else:
        content = render("error.html", {"problem": problem, "status": status, "path": scope["path"]})
    kept += [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(content)).encode())]
    await send({**start, "status": status, "headers": kept})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})


def _target(scope: Any) -> str:
    query = scope.get("query_string", b"").decode("latin-1")
    path: str = scope["path"]
    return f"{path}?{query}" if query else path
