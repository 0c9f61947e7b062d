"""Tells plugins what happened: the events of which webhooks are told, behind what published them, and never twice anew.

What is to be told waits in memory and is told in order, one plugin after the other; a process that ends takes with it
what it had not told yet. Who must miss nothing has a webhook.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

import msgspec
import structlog

from aitbc.kernel.database.outbox import Event
from aitbc.kernel.hooks.hooks import Hooks
from aitbc.kernel.hooks.points import NOTIFY, SHOWN_BYTES_MAX, Happened
from aitbc.kernel.primitives import ids

WAITING_MAX = 10_000
END_SECONDS = 5.0
"""How long the end of a process waits for what is being told."""

log = structlog.get_logger("aitbc.hooks")


class PluginNotifier:
    """Tells the plugins of this process."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._waiting: deque[Happened] = deque()
        self._task: asyncio.Task[None] | None = None

    def tell(self, events: Sequence[tuple[UUID, Event]]) -> None:
        """Queue events to be told; where too many wait the newest are left out."""
        if not self._hooks.has(NOTIFY):
            return
        room = WAITING_MAX - len(self._waiting)
        if room < len(events):
            log.warning("plugins_not_told", count=len(events) - room)
        self._waiting.extend(happened(id_, event) for id_, event in events[: max(room, 0)])
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._waiting:
            await self._hooks.tell(NOTIFY, self._waiting.popleft())

    async def close(self) -> None:
        """Tell what waits, for a moment, and end."""
        if self._task is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await self._task


def happened(id_: UUID, event: Event) -> Happened:
    """An event, as plugins see it."""
    accounts = sorted({str(getattr(event, field)) for field in event.concerns})
    data = msgspec.json.encode(event.public())
    return Happened(
        at=(id_.int >> 80) // 1000,
        event=ids.encode("evt", id_),
        kind=event.kind,
        accounts=" ".join(accounts),
        data=data.decode() if len(data) <= SHOWN_BYTES_MAX else "",
    )
