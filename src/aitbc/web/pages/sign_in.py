"""Sign in and out: a key or a one-time code is exchanged for the session of this browser."""

from typing import Any

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery

from aitbc.kernel.identity.sessions import Sessions
from aitbc.kernel.primitives.errors import AppError, Forbidden, Unauthenticated
from aitbc.web.attempts import Attempts
from aitbc.web.cookies import clear_session, session_of, set_session
from aitbc.web.forms import read_form
from aitbc.web.rendering import render
from aitbc.web.visit import READ, SEND, SignedOut, Visit, html, see

NEXT_LENGTH_MAX = 500
_attempts = Attempts()


class SignInPages(Controller):
    """The way in and out."""

    include_in_schema = False

    @get("/sign-in", opt=READ)
    async def sign_in(self, next: FromQuery[str | None] = None) -> Response[bytes]:  # noqa: A002
        """The form."""
        return _form(next or "/", None, 200)

    @post("/sign-in", opt=SEND)
    async def signed_in(
        self, request: Request[Any, Any, Any], browser_sessions: NamedDependency[Sessions]
    ) -> Response[bytes]:
        """Open a session, and go where the browser wanted to be."""
        form = await read_form(request)
        target = own_path(form.get("next"))
        try:
            token = await browser_sessions.begin(form.get("code"), request.headers.get("user-agent", ""))
        except (Unauthenticated, Forbidden) as refusal:
            answer = _attempts.failed((request.scope.get("client") or ("", 0))[0]) or refusal
            return _form(target, _words(answer), answer.status)
        return _with_cookie(see(target), set_session(request.scope, token))

    @post("/sign-out", opt=SEND)
    async def sign_out(
        self,
        request: Request[Any, Any, Any],
        visit: NamedDependency[Visit],
        browser_sessions: NamedDependency[Sessions],
    ) -> Response[bytes]:
        """End the session of this browser."""
        await visit.form()
        if (token := session_of(request.scope)) is not None:
            await browser_sessions.end_own(token)
        return _with_cookie(see("/sign-in"), clear_session(request.scope))

    @get("/session", opt=READ)
    async def session(self, visit: NamedDependency[Visit]) -> dict[str, str]:
        """Whether somebody is signed in: what a page asks when its stream ends. Raises `SignedOut`."""
        return {"account": visit.who.account}


def own_path(text: str) -> str:
    """A path of this server to go to; the first page for anything else."""
    is_path = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isascii() and text.isprintable()
    return text if is_path and len(text) <= NEXT_LENGTH_MAX and "\\" not in text else "/"


def _form(target: str, fault: str | None, status: int) -> Response[bytes]:
    return html(render("identity/sign_in.html", {"next": own_path(target), "fault": fault}), status)


def _words(refusal: AppError) -> str:
    if isinstance(refusal, (Unauthenticated, SignedOut)):
        return "This key or code opens nothing: it is mistyped, expired, revoked, or was used already."
    return refusal.message


def _with_cookie(answer: Response[bytes], cookie: str) -> Response[bytes]:
    answer.headers["set-cookie"] = cookie
    return answer
