"""What keys were refused for want of a scope, in the audit trail: the first time at once, and what follows within a minute as one row."""  # noqa: E501

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

ACTION = "access.refuse"
GATHERED_FOR = timedelta(minutes=1)
"""How long further refusals of one key and scope are counted before they are written."""
KNOWN_MAX = 10_000
"""So many pairs of key and scope are counted at once; those beyond are only in the log."""
WAITING_MAX = 1000
"""So many rows wait for a database that is away; the oldest give way."""
PAUSE_SECONDS = 1.0
CLOSE_SECONDS = 2.0

INSERT = """
INSERT INTO kernel.audit (at, account, key, action, object, details, request_id)
SELECT at, account, key, $7, object, details::jsonb, request_id
FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
    AS v(at, account, key, object, details, request_id)"""

log = structlog.get_logger("aitbc.denials")


class _Counted(Struct):
    """The refusals of one key and one scope since the first of them was written."""

    account: str
    since: datetime
    ends: datetime
    times: int = 0
    operation: str = ""
    at: datetime | None = None
    request_id: str | None = None


class Denials:
    """Takes note of refusals without keeping anybody waiting, and writes them down beside."""

    def __init__(self, database: Database) -> None:
        """The kernel's own database."""
        self._database = database
        self._counted: dict[tuple[str, str], _Counted] = {}
        self._waiting: deque[tuple[Any, ...]] = deque(maxlen=WAITING_MAX)
        self._wake = asyncio.Event()

    def note(self, who: Principal, permission: str, operation: str) -> None:
        """A key was refused: `operation` is the method and the path's template, so that nothing of the caller's is kept."""
        at, pair = now(), (who.key, permission)
        counted = self._counted.get(pair)
        if counted is not None and counted.ends > at:
            counted.times += 1
            counted.operation, counted.at, counted.request_id = operation, at, current_request_id()
            return
        if counted is None and len(self._counted) >= KNOWN_MAX:
            log.warning("denial_not_kept", key=who.key, permission=permission, operation=operation)
            return
        if counted is not None:
            self._close(pair, counted)
        self._counted[pair] = _Counted(who.account, at, at + GATHERED_FOR)
        details = {"operation": operation, "times": 1}
        self._add(at, who.account, who.key, permission, details, current_request_id())
        self._wake.set()

    def _close(self, pair: tuple[str, str], counted: _Counted) -> None:
        """A minute is over: what was counted in it becomes a row."""
        if counted.at is not None:
            details = {"operation": counted.operation, "times": counted.times, "since": counted.since.isoformat()}
            self._add(counted.at, counted.account, *pair, details, counted.request_id)

    def _add(
        self,
        at: datetime,
        account: str,
        key: str,
        permission: str,
        details: dict[str, Any],
        request: str | None,
    ) -> None:
        self._waiting.append((at, account, key, permission, msgspec.json.encode(details).decode(), request))

    async def run(self) -> None:
        """Write for ever; a database that is away is asked again, and nobody waits for it."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), PAUSE_SECONDS)
            self._wake.clear()
            try:
                await self.write()
            except AppError as error:
                log.warning("denials_wait", rows=len(self._waiting), reason=error.message)
                await asyncio.sleep(PAUSE_SECONDS)

    async def write(self, *, everything: bool = False) -> None:
        """Write what is due, or everything that was counted. Raises when the database is away, and keeps the rows."""
        at = now()
        for pair, counted in [pair for pair in self._counted.items() if everything or pair[1].ends <= at]:
            del self._counted[pair]
            self._close(pair, counted)
        if rows := list(self._waiting):
            async with self._database.raw() as connection:
                await connection.execute(INSERT, *map(list, zip(*rows, strict=True)), ACTION)
            for row in rows:
                with suppress(ValueError):  # it gave way meanwhile
                    self._waiting.remove(row)

    async def close(self) -> None:
        """Write what was counted until the end, if the database takes it now."""
        with suppress(AppError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.write(everything=True)
