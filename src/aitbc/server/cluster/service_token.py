"""Service tokens: how one process of an installation authenticates itself to another.

A token names its sender and its receiver, lasts a minute, and is signed with a key that is derived from the
installation's secret, which all processes have. It is refused by any process but the one that it names.
"""

import base64
import hashlib
import hmac
from typing import Any

import msgspec
from msgspec import Struct

from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Unauthenticated

TOKEN_SECONDS = 60
AUTH_SCHEME = "Service"
"""The authentication scheme of the internal API: it distinguishes its 401 from one about the caller's key."""


class TokenRefused(Unauthenticated):
    """This service token is not for this process, or not any more."""

    code = "service_token_refused"

    def __init__(self, message: str | None = None, **details: Any) -> None:
        super().__init__(message, headers={"WWW-Authenticate": AUTH_SCHEME}, **details)


class Claims(Struct, frozen=True):
    """The claims of a service token."""

    sender: str
    receiver: str
    expires: int
    """In seconds since 1970."""


class Tokens:
    """Issues and verifies the service tokens of one process."""

    def __init__(self, secret: bytes, process: str) -> None:
        self._key = hmac.digest(secret, b"service tokens", hashlib.sha256)
        self._process = process

    def issue(self, receiver: str) -> str:
        """A token for a call of this process on another."""
        claims = Claims(self._process, receiver, int(now().timestamp()) + TOKEN_SECONDS)
        body = base64.urlsafe_b64encode(msgspec.json.encode(claims))
        return f"{body.decode()}.{self._signature(body)}"

    def sender(self, token: str) -> str:
        """Verify a token, and return its sender.

        Raises `TokenRefused` for one that is not for this process, or expired.
        """
        body, _, mark = token.partition(".")
        if not body.isascii() or not hmac.compare_digest(mark.encode(), self._signature(body.encode()).encode()):
            raise TokenRefused
        claims = msgspec.json.decode(base64.urlsafe_b64decode(body), type=Claims)
        if claims.receiver != self._process or claims.expires <= now().timestamp():
            raise TokenRefused
        return claims.sender

    def _signature(self, body: bytes) -> str:
        return hmac.new(self._key, body, hashlib.sha256).hexdigest()
