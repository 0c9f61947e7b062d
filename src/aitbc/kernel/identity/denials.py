"""Audit of requests refused for a missing scope: the first at once, further ones within a minute as one row."""

import asyncio
from collections import deque
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.kernel.primitives.tasks import finish, is_set_within

ACTION = "access.refuse"
WINDOW = timedelta(minutes=1)
"""How long further denials of one key and scope are counted before they are written."""
WINDOWS_MAX = 10_000
"""How many pairs of key and scope are counted at a time; further ones are only logged."""
QUEUE_MAX = 1000
"""How many rows are queued while the database is unavailable; the oldest are dropped."""
RETRY_SECONDS = 1.0
CLOSE_SECONDS = 2.0

INSERT = """
INSERT INTO kernel.audit (at, account, key, action, object, details, request_id)
SELECT at, account, key, $7, object, details::jsonb, request_id
FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
    AS v(at, account, key, object, details, request_id)"""

log = structlog.get_logger("aitbc.denials")


class _Window(Struct):
    """The denials of one key and scope since the first of them was written."""

    account: str
    since: datetime
    ends: datetime
    times: int = 0
    operation: str = ""
    at: datetime | None = None
    request_id: str | None = None

    def is_over(self, at: datetime) -> bool:
        """Whether it has ended, or began while the clock was ahead."""
        return not at < self.ends <= at + WINDOW


class Denials:
    """Records denials without blocking the request; a background task writes them."""

    def __init__(self, database: Database) -> None:
        """`database` is the kernel's own."""
        self._database = database
        self._windows: dict[tuple[str, str], _Window] = {}
        self._queue: deque[tuple[Any, ...]] = deque(maxlen=QUEUE_MAX)
        self._wake = asyncio.Event()

    def record(self, who: Principal, permission: str, operation: str) -> None:
        """Record a denial; `operation` is the method and the path's template, so that no caller's input is stored."""
        at, pair = now(), (who.key, permission)
        window = self._windows.get(pair)
        if window is not None and not window.is_over(at):
            window.times += 1
            window.operation, window.at, window.request_id = operation, at, current_request_id()
            return
        if window is None and len(self._windows) >= WINDOWS_MAX:
            log.warning("denial_not_recorded", key=who.key, permission=permission, operation=operation)
            return
        if window is not None:
            self._close(pair, window)
        self._windows[pair] = _Window(who.account, at, at + WINDOW)
        details = {"operation": operation, "times": 1}
        self._add(at, who.account, who.key, permission, details, current_request_id())
        self._wake.set()

    def _close(self, pair: tuple[str, str], window: _Window) -> None:
        """End a window: what was counted in it becomes a row."""
        if window.at is not None:
            details = {"operation": window.operation, "times": window.times, "since": window.since.isoformat()}
            self._add(window.at, window.account, *pair, details, window.request_id)

    def _add(
        self,
        at: datetime,
        account: str,
        key: str,
        permission: str,
        details: dict[str, Any],
        request: str | None,
    ) -> None:
        self._queue.append((at, account, key, permission, msgspec.json.encode(details).decode(), request))

    async def run(self) -> None:
        """Write until cancelled; retry while the database is unavailable."""
        while True:
            await is_set_within(self._wake, RETRY_SECONDS)
            self._wake.clear()
            try:
                await finish(self.write())  # broken off, they would be written again though they are there
            except Exception as error:  # noqa: BLE001 - whatever it is, they are written when it is over
                reason = error.message if isinstance(error, AppError) else repr(error)
                log.warning("denials_delayed", rows=len(self._queue), reason=reason)
                await asyncio.sleep(RETRY_SECONDS)

    async def write(self, *, everything: bool = False) -> None:
        """Write the windows that have ended, or all. Raises when the database is unavailable, and keeps the rows."""
        at = now()
        for pair, window in [pair for pair in self._windows.items() if everything or pair[1].is_over(at)]:
            del self._windows[pair]
            self._close(pair, window)
        if rows := list(self._queue):
            async with self._database.raw(writes=True) as connection:
                await connection.execute(INSERT, *map(list, zip(*rows, strict=True)), ACTION)
            for row in rows:
                with suppress(ValueError):  # it was dropped meanwhile
                    self._queue.remove(row)

    async def close(self) -> None:
        """Write everything that is still counted, if the database is available."""
        with suppress(AppError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.write(everything=True)
