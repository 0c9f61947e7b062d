"""Admission: requests that last end with their API key, within a second of its revocation, expiry or narrowing.

A route declares it: `"waits": True`, or `"lasts": True` for what streams either way. While such requests are open, one
timer reads their keys again and cancels those whose key is not valid any more, or has lost the scope of the route.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from aitbc.kernel.http.websocket import REFUSAL, refuse
from aitbc.kernel.identity.accounts import Identity
from aitbc.kernel.primitives.errors import Unauthenticated, Unavailable

REVALIDATE_SECONDS = 0.2
"""How often the keys of open requests are read again; the cache of keys may delay the answer further."""
ADMITTED = "admitted"
"""The key of the `Admitted` in the state of a scope."""

log = structlog.get_logger("aitbc.admission")


class Admitted:
    """A request that lasts, and the task to cancel when its key ends."""

    __slots__ = ("_identity", "_permission", "_secret", "_task", "has_ended")

    def __init__(self, identity: Identity, secret: str, permission: str) -> None:
        self._identity = identity
        self._secret = secret
        self._permission = permission
        self.has_ended = False
        self._task = asyncio.current_task()

    async def is_valid(self, *, cached: bool = False) -> bool:
        """Whether the key is valid now, and may still do this; true while that cannot be checked."""
        try:
            return (await self._identity.authenticate(self._secret, cached=cached)).may(self._permission)
        except Unauthenticated:
            return False
        except Unavailable:
            return True  # the database is away: the request itself will get nothing more from it either

    def end(self) -> None:
        """Its key is not valid any more: cancel the request, once."""
        if not self.has_ended and self._task is not None:
            self.has_ended = True
            self._task.cancel()

    def caused_cancellation(self) -> bool:
        """Whether the running task was cancelled by the end of its key alone; that cancellation is then undone."""
        task = asyncio.current_task()
        return self.has_ended and task is not None and task is self._task and task.uncancel() == 0


class Admissions:
    """The open requests that last, by API key and permission."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._open: defaultdict[tuple[str, str], set[Admitted]] = defaultdict(set)
        self._timer: asyncio.TimerHandle | None = None
        self._check_task: asyncio.Task[None] | None = None
        self._is_subscribed = False

    @property
    def count(self) -> int:
        """How many requests are open."""
        return sum(map(len, self._open.values()))

    def bind(self, scope: Any, secret: str, permission: str) -> None:
        """End this request when the key stops being valid for the permission."""
        scope["state"][ADMITTED] = admitted = Admitted(self._identity, secret, permission)
        place = (secret, permission)
        self._open[place].add(admitted)
        release_before = scope["state"].get("release")

        def release() -> None:
            if release_before is not None:
                release_before()
            if place in self._open:
                self._open[place].discard(admitted)
                if not self._open[place]:
                    del self._open[place]

        scope["state"]["release"] = release
        if not self._is_subscribed:
            self._is_subscribed = True
            self._identity.on_revoked(self._check_soon)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(REVALIDATE_SECONDS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._open:
            self._check_soon()
            self._timer = asyncio.get_running_loop().call_later(REVALIDATE_SECONDS, self._tick)

    def _check_soon(self) -> None:
        """Check all open requests, unless a check is under way: the next tick follows soon."""
        if self._open and (self._check_task is None or self._check_task.done()):
            self._check_task = asyncio.create_task(self._check())

    async def _check(self) -> None:
        some = {place: next(iter(requests)) for place, requests in self._open.items()}
        valid = await asyncio.gather(*(admitted.is_valid(cached=True) for admitted in some.values()))
        for place, is_valid in zip(some, valid, strict=True):
            if not is_valid:
                for admitted in list(self._open.get(place, ())):
                    admitted.end()


def lasts(opt: Mapping[str, Any]) -> bool:
    """Whether a route declares that its requests wait or stream, and so end with their key."""
    return bool(opt.get("waits") or opt.get("lasts"))


def release_request(scope: Any) -> None:
    """Release what the guard noted of a request that has ended: its Idempotency-Key, and its binding to its API key."""
    if release := scope["state"].pop("release", None):
        release()


def raise_if_key_ended(scope: Any) -> None:
    """Raise `Unauthenticated` in a task that was cancelled because its key ended; do nothing in any other."""
    admitted = scope["state"].get(ADMITTED)
    if admitted is not None and admitted.caused_cancellation():
        log.info("request_ended_with_key", path=scope.get("path_template", ""))
        raise Unauthenticated from None


async def run_admitted(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run a request of the framework, and end it when its key does.

    Nothing was sent yet: 401. An answer without a stated length is ended where it is. Anything else is left incomplete,
    so that the server cuts the connection and nobody takes the part for the whole.
    """
    start: Any = None

    async def observed(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
        await send(message)

    try:
        await app(scope, receive, observed)
    except asyncio.CancelledError:
        try:
            raise_if_key_ended(scope)
        except Unauthenticated:
            if start is None:
                raise
            if not any(name.lower() == b"content-length" for name, _ in start["headers"]):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        raise


async def run_admitted_socket(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run a WebSocket of the framework, end it when its key does, and answer a refused handshake with its reason."""
    state: Any = scope.setdefault("state", {})
    is_open = False

    async def observed(message: Message) -> None:
        nonlocal is_open
        is_open = is_open or message["type"] == "websocket.accept"
        if message["type"] == "websocket.close" and not is_open and (refusal := state.get(REFUSAL)) is not None:
            await refuse(scope, send, refusal, state.get("request_id", ""))
            return
        await send(message)

    try:
        await app(scope, receive, observed)
    except asyncio.CancelledError:
        try:
            raise_if_key_ended(scope)
        except Unauthenticated as refusal:
            if not is_open:
                raise
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.code})
            return
        raise
