"""Calls: what is sent and which type is answered; whether a failed one is repeated, and what it raises in the end."""

import os
import random
from collections.abc import Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

from aitbc.kernel.primitives.errors import (
    AppError,
    Conflict,
    FieldError,
    Forbidden,
    Invalid,
    Malformed,
    NotDone,
    NotFound,
    PaymentRequired,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
)

T = TypeVar("T")
ATTEMPTS_MAX = 4
PAUSE_SECONDS = 0.25
RETRY_AFTER_SECONDS_MAX = 60.0
ANSWER_SECONDS = 30.0
LOCAL = "http://127.0.0.1:8080"
_KINDS: tuple[type[AppError], ...] = (
    *(Malformed, Unauthenticated, PaymentRequired, Forbidden, NotFound, Conflict, TooLarge, Invalid, TooMany),
    *(NotDone, Unavailable),
)
_BY_STATUS = {kind.status: kind for kind in _KINDS}


class Call(Struct, Generic[T], frozen=True):
    """One operation of the API, ready to be sent."""

    method: str
    path: str
    answers: type[T]
    body: Any = None
    """Sent as JSON; none sends no body."""
    query: Mapping[str, Any] = {}
    once: bool = False
    """Whether it goes under an Idempotency-Key: then the same call, repeated, is done once."""

    @property
    def target(self) -> str:
        """Path and query."""
        given = {name: value for name, value in self.query.items() if value is not None}
        return f"{self.path}?{urlencode(given)}" if given else self.path

    def content(self) -> bytes | None:
        """The body as it is sent."""
        return None if self.body is None else msgspec.json.encode(self.body)

    def headers(self, key: str | None, *, once: str | None = None) -> dict[str, str]:
        """The headers of every attempt at it; `once` is the caller's Idempotency-Key, in the place of one made here."""
        headers = {"Accept": "application/json", "User-Agent": "aitbc-python"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        if self.body is not None:
            headers["Content-Type"] = "application/json"
        if self.once:
            headers["Idempotency-Key"] = once or os.urandom(16).hex()
        return headers

    def decoded(self, content: bytes) -> T:
        """The answer. Raises `Unavailable` for what no server of ours says."""
        try:
            return msgspec.json.decode(content, type=self.answers)
        except msgspec.MsgspecError:
            raise Unavailable("The answer is not that of an AITBC server.") from None


def segment(text: str) -> str:
    """A piece of a path out of anything; empty and dots are no id of anything."""
    return quote(text, safe="") if text.strip(".") else "-"


def address(url: str | None, key: str | None) -> tuple[str, str | None]:
    """Where to ask and with which key: as given, else by `AITBC_URL` and `AITBC_API_KEY`, else on this machine.

    Raises `Invalid`.
    """
    found = (url or os.environ.get("AITBC_URL") or LOCAL).rstrip("/")
    if not found.startswith(("http://", "https://")):
        raise Invalid(f"{found} is no URL that begins with http:// or https://.")
    return found, key or os.environ.get("AITBC_API_KEY")


def error_of(status: int, headers: Mapping[str, str], content: bytes) -> AppError:
    """The error of an answer, of the class that the server raised, or of the class of its status.

    `code` is the server's in either case.
    """
    try:
        said = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.MsgspecError:
        said = {}
    code, fields = str(said.get("code", "")), said.get("errors") or ()
    kind = AppError.registry.get(code) or _BY_STATUS.get(status, Unavailable if status >= 500 else AppError)
    error = kind.__new__(kind)
    pointed = tuple(FieldError(str(one.get("pointer", "")), str(one.get("message", ""))) for one in fields)
    details = said.get("details") or {}
    message = str(said.get("detail") or f"The server answered with HTTP {status} and no explanation.")
    lower = {name.lower(): value for name, value in headers.items()}
    after = {"Retry-After": lower["retry-after"]} if "retry-after" in lower else {}
    AppError.__init__(error, message, fields=pointed, headers=after, **details)
    if code:
        error.__dict__["code"] = code
    return error


def unreachable(url: str, error: Exception) -> Unavailable:
    """What a lost connection raises once no attempt is left."""
    return Unavailable(f"{url} cannot be reached: {str(error) or type(error).__name__}")


def pause_before(attempt: int, call: Call[Any], error: AppError) -> float | None:
    """How many seconds to wait before the next attempt; none where the call is not to be repeated.

    Reads, and commands under a key or harmless by nature, are repeated where a repetition may help.
    """
    may_help = error.status in (408, 429, 503) or error.code == "idempotency_key_in_flight"
    if attempt >= ATTEMPTS_MAX or not may_help or (call.method == "POST" and not call.once):
        return None
    try:
        asked = float(error.headers.get("Retry-After", 0))
    except ValueError:
        asked = 0.0
    if asked > RETRY_AFTER_SECONDS_MAX:
        return None
    return max(asked, PAUSE_SECONDS * 2.0 ** (attempt - 1) * (0.5 + random.random()))
