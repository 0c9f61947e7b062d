"""The cookie of a session: for this server alone, unseen by scripts, and sent by no other page."""

from http.cookies import CookieError, SimpleCookie
from typing import Any

from aitbc.kernel.http.scope import header_values
from aitbc.kernel.identity.sessions import SESSION_LIFE

SAFE_PREFIX = "__Host-"
"""Browsers take a cookie of such a name over TLS only, for this host alone and for all of its paths."""


def cookie_name(scope: Any) -> str:
    """The name: over plain HTTP it has the port, since cookies of one host are shared by all its ports."""
    if scope["scheme"] == "https":
        return f"{SAFE_PREFIX}aitbc"
    port = (scope.get("server") or (None, None))[1]
    return f"aitbc_{port or 0}"


def session_of(scope: Any) -> str | None:
    """The token of the session that a request names; none without one."""
    name = cookie_name(scope)
    for header in header_values(scope, b"cookie"):
        try:
            cookies = SimpleCookie(header)
        except CookieError:
            continue
        if name in cookies:
            return cookies[name].value
    return None


def set_session(scope: Any, token: str) -> str:
    """The header that gives a browser its session."""
    return _cookie(scope, token, int(SESSION_LIFE.total_seconds()))


def clear_session(scope: Any) -> str:
    """The header that takes it away."""
    return _cookie(scope, "", 0)


def _cookie(scope: Any, value: str, seconds: int) -> str:
    secure = "; Secure" if scope["scheme"] == "https" else ""
    return f"{cookie_name(scope)}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
