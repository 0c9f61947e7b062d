"""A visit: one request for a page, with who looks, what the page asks of the API, and how it is answered."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.response import Stream

from aitbc.kernel.crypto.api_key import masked
from aitbc.kernel.http.scope import header_values
from aitbc.kernel.identity.principal import PUBLIC, Principal
from aitbc.kernel.identity.sessions import Sessions, form_token, is_form_token
from aitbc.kernel.primitives.errors import AppError, Forbidden, NotFound, Unauthenticated
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.web.api_client import Answer, ApiClient, Call, target_of
from aitbc.web.cookies import session_of
from aitbc.web.forms import FORM_BYTES_MAX, Form, read_form
from aitbc.web.navigation import menu_of
from aitbc.web.rendering import render

READ: dict[str, Any] = {"permission": PUBLIC}
"""The options of a page: the visit itself asks for a session, and the API for the rights of its key."""
SEND: dict[str, Any] = {"permission": PUBLIC, "idempotency": "natural", "raw_body_bytes": FORM_BYTES_MAX}
"""The options of what a form is sent to."""
FOLLOW: dict[str, Any] = {"permission": PUBLIC, "lasts": True}
"""The options of a stream."""
BY_ITSELF = b"x-by-itself"
"""The request header of what a page that lies open asks by itself."""
PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "same-origin",  # with none, browsers send the origin "null" with a form, which the boundary refuses
}

_PART = re.compile(r"[A-Za-z0-9_:.-]{1,100}")


class SignedOut(Unauthenticated):
    """Nobody is signed in in this browser, or the session has ended."""

    code = "signed_out"


class FormNotOurs(Forbidden):
    """This form was not made for this session; open the page again and send it from there."""

    code = "form_not_ours"


class Visit:
    """One request for a page by somebody who is signed in."""

    def __init__(
        self, request: Request[Any, Any, Any], api: ApiClient, sessions: Sessions, signed_in: tuple[Principal, str]
    ) -> None:
        """`signed_in` is who looks, and the token of the session."""
        self.request = request
        self.who, self._token = signed_in
        self.calls: list[Call] = []
        self._api = api
        self._sessions = sessions

    async def get(self, path: str, **query: Any) -> Any:
        """What the API answers; shown to people as a command. Raises its `AppError`."""
        target = target_of(path, query)
        self.calls.append(Call("GET", target))
        return (await self._api.call(self.request.scope, "GET", target, secret=self._token)).json()

    async def content(self, path: str) -> bytes:
        """What the API answers, byte for byte. Raises its `AppError`."""
        self.calls.append(Call("GET", path))
        return (await self._api.call(self.request.scope, "GET", path, secret=self._token)).body

    async def readiness(self) -> Any:
        """The readiness of the server; it says so itself where it is not ready, which is no error here."""
        self.calls.append(Call("GET", "/readyz"))
        answer = await self._api.call(self.request.scope, "GET", "/readyz", secret=self._token, refuse=False)
        return answer.json()

    async def maybe(self, path: str, *, scope: str, **query: Any) -> Any:
        """What the API answers; none where the key lacks this scope or there is no such thing."""
        if not self.who.may(scope):
            return None
        try:
            return await self.get(path, **query)
        except NotFound:
            return None

    async def ask_quietly(self, target: str) -> Any:
        """What the API answers to a question that is not the page's own. Raises its `AppError`."""
        return (await self._api.call(self.request.scope, "GET", target, secret=self._token)).json()

    async def send(self, path: str, body: Any = None, *, method: str = "POST", once: str | None = None) -> Any:
        """What the API answers to a command, under this Idempotency-Key or a new one. Raises its `AppError`."""
        content = b"" if body is None else msgspec.json.encode(body)
        self.calls.append(Call(method, path, content.decode() or None))
        key = (b"idempotency-key", (once or new_uuid().hex).encode())
        headers = (key,) if body is None else ((b"content-type", b"application/json"), key)
        answer = await self._api.call(
            self.request.scope, method, path, secret=self._token, body=content, headers=headers
        )
        return answer.json()

    async def upload(self, path: str, content: bytes) -> Any:
        """What the API answers to a file. Raises its `AppError`."""
        headers = ((b"content-type", b"application/octet-stream"),)
        answer = await self._api.call(
            self.request.scope, "POST", path, secret=self._token, body=content, headers=headers
        )
        return answer.json()

    async def stream(self, path: str, **headers: str) -> tuple[Answer, AsyncIterator[bytes]]:
        """An answer of the API that comes in pieces. Raises its `AppError`."""
        sent = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
        return await self._api.stream(self.request.scope, path, secret=self._token, headers=sent)

    async def is_signed_in(self) -> bool:
        """Whether the session still lasts: what streams asks now and then."""
        try:
            await self._sessions.resume(self._token, is_use=False)
        except Unauthenticated:
            return False
        except AppError:
            return True
        return True

    async def form(self) -> Form:
        """The form that was sent. Raises `FormNotOurs` unless a page of this session made it."""
        form = await read_form(self.request)
        if not is_form_token(self._token, form.get("csrf")):
            raise FormNotOurs
        return form

    def page(self, template: str, *, cli: Sequence[str] = (), status: int = 200, **values: Any) -> Response[bytes]:
        """A page; `cli` are the commands that do the same."""
        everything = {
            "who": self.who,
            "csrf": form_token(self._token),
            "menu": menu_of(self.who),
            "path": self.request.scope["path"],
            "origin": f"{self.request.scope['scheme']}://{self.request.headers['host']}",
            "cli": cli,
            "calls": [_shown(call) for call in self.calls],
            **values,
        }
        return html(render(template, everything), status)


class Guest:
    """One request for a page that may be open to everybody: of somebody who is signed in, or of nobody."""

    def __init__(self, request: Request[Any, Any, Any], api: ApiClient, visit: Visit | None) -> None:
        """`visit` is none where nobody is signed in."""
        self.visit = visit
        self._request = request
        self._api = api

    async def get(self, path: str, **query: Any) -> Any:
        """What the API answers to everybody. Raises its `AppError`."""
        target = target_of(path, query)
        return (await self._api.call(self._request.scope, "GET", target, secret="")).json()

    def page(
        self, template: str, *, cli: Sequence[str] = (), calls: Sequence[str] = (), **values: Any
    ) -> Response[bytes]:
        """A page that needs nobody; `calls` are the paths of the API that it asked."""
        origin = f"{self._request.scope['scheme']}://{self._request.headers['host']}"
        shown = [Call("GET", target) for target in calls]
        return html(render(template, {"origin": origin, "cli": cli, "calls": shown, "guest": self, **values}))


def part(text: str) -> str:
    """A part of a path that people type, where it may be an id. Raises `NotFound` for anything else."""
    if _PART.fullmatch(text) is None:
        raise NotFound
    return text


def _shown(call: Call) -> Call:
    """A call as it may be shown: without what looks like a key."""
    return Call(call.method, call.target, None if call.body is None else masked(call.body))


async def visit_of(request: Request[Any, Any, Any], api: ApiClient, sessions: Sessions) -> Visit:
    """The visit behind a request. Raises `SignedOut`."""
    token = session_of(request.scope)
    if token is None:
        raise SignedOut
    try:
        who = await sessions.resume(token, is_use=not header_values(request.scope, BY_ITSELF))
    except Unauthenticated:
        raise SignedOut from None
    return Visit(request, api, sessions, (who, token))


async def guest_of(request: Request[Any, Any, Any], api: ApiClient, sessions: Sessions) -> Guest:
    """The guest behind a request, who may be nobody."""
    try:
        visit = await visit_of(request, api, sessions)
    except SignedOut:
        visit = None
    return Guest(request, api, visit)


def html(content: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    """An answer that browsers show."""
    return Response(content, status_code=status, media_type="text/html", headers=PAGE_HEADERS | dict(headers or {}))


def see(path: str) -> Response[bytes]:
    """Go to another page after a form was taken."""
    return Response(b"", status_code=303, media_type="text/html", headers=PAGE_HEADERS | {"location": path})


def event_stream(pieces: AsyncIterator[bytes]) -> Stream:
    """Server-sent events."""
    return Stream(
        pieces, media_type="text/event-stream", headers={"cache-control": "no-store", "x-accel-buffering": "no"}
    )


def attachment(name: str) -> dict[str, str]:
    """The headers of a file that a browser saves."""
    return {"content-disposition": f'attachment; filename="{part(name)}"', "cache-control": "no-store"}


def faults_of(error: AppError) -> dict[str, str]:
    """What is wrong, by the field of a form that it belongs to."""
    return {fault.pointer.strip("/").replace("/", "."): fault.message for fault in error.fields}
