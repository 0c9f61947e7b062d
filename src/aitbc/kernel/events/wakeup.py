"""Cross-process wake-ups, over the bus or PostgreSQL's NOTIFY: lossy by design, so every listener also polls."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.events.bus import Bus, BusMessage
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.kernel.primitives.tasks import is_set_within

DEBOUNCE_SECONDS = 0.02
"""How long notifications are collected before one NOTIFY is sent.

It holds a lock on the whole database while it commits.
"""
KEEPALIVE_SECONDS = 30.0
"""How often a listener that receives nothing checks whether its connection is still open."""


class Wakeup:
    """Wakes the other processes of one module. A wake-up carries no data and may get lost."""

    def __init__(self, database: Database, bus: Bus | None = None) -> None:
        self._database = database
        self._bus = bus
        self._sender_id = str(new_uuid())
        self._subject = f"news.{database.module}"
        self._channel = f"aitbc_{database.module}"
        self._to_send = asyncio.Event()
        self._news: set[str] = set()
        self._received = asyncio.Event()
        if bus is not None:
            bus.subscribe(self._subject, self._on_message)

    def notify(self, *news: str) -> None:
        """Wake the other processes soon, unless all that is new is settled before; call it after the commit."""
        self._news.update(news or ("",))
        self._to_send.set()

    def settle(self, news: Iterable[str]) -> None:
        """Nobody elsewhere need be woken for this any more: it was taken here."""
        self._news.difference_update(news)

    async def run_sender(self) -> None:
        """Send notifications until cancelled; those over the database are debounced, each in a statement of its own."""
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            if self._bus is not None and await self._bus.publish(self._subject, self._sender_id.encode()):
                self._news.clear()
                continue
            await asyncio.sleep(DEBOUNCE_SECONDS)
            self._to_send.clear()
            if not self._news:
                continue
            self._news.clear()
            async with self._database.raw() as connection:
                await connection.execute("SELECT pg_notify($1, $2)", self._channel, self._sender_id)

    async def listen(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call back at each wake-up from another process, until the database connection is closed.

        Bus and database are both listened to: another process may have lost the bus while this one has it.
        """
        async with self._database.listener() as connection:

            def on_notify(_connection: object, _pid: int, _channel: str, sender: object) -> None:
                if sender != self._sender_id:
                    self._received.set()

            await connection.add_listener(self._channel, on_notify)
            while not connection.is_closed():
                if await is_set_within(self._received, KEEPALIVE_SECONDS):
                    self._received.clear()
                    await callback()

    async def _on_message(self, message: BusMessage) -> None:
        if message.data.decode("ascii", "replace") != self._sender_id:
            self._received.set()
