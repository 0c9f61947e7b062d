"""Cross-process wake-ups, over the bus or PostgreSQL's NOTIFY: lossy by design, so every listener also polls."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.events.bus import Bus, Said
from aitbc.kernel.primitives.ids import new_uuid

GATHER_SECONDS = 0.02
"""News by the database is gathered for so long: a NOTIFY holds a lock on the whole database while it commits."""
ALIVE_SECONDS = 30.0
"""How often a listener that hears nothing asks whether its connection still stands."""


class Wakeup:
    """Wakes the other processes of one module. A wake-up carries no data and may get lost."""

    def __init__(self, database: Database, bus: Bus | None = None) -> None:
        self._database = database
        self._bus = bus
        self._me = str(new_uuid())
        self._topic = f"news.{database.module}"
        self._channel = f"aitbc_{database.module}"
        self._told = asyncio.Event()
        self._heard = asyncio.Event()
        if bus is not None:
            bus.hear(self._topic, self._hear)

    def tell(self) -> None:
        """There is news, committed; the others are told soon."""
        self._told.set()

    async def send(self) -> None:
        """Tell the others, for ever: seldom, and in a statement of its own where the database is told."""
        while True:
            await self._told.wait()
            self._told.clear()
            if self._bus is not None and await self._bus.say(self._topic, self._me.encode()):
                continue
            await asyncio.sleep(GATHER_SECONDS)
            self._told.clear()
            async with self._database.raw() as connection:
                await connection.execute("SELECT pg_notify($1, $2)", self._channel, self._me)

    async def listen(self, look: Callable[[], Awaitable[None]]) -> None:
        """Look whenever another process has told something, until the connection to the database ends.

        Both ways are listened to: another process may have lost the bus while this one has it.
        """
        async with self._database.listener() as connection:

            def hear(_connection: object, _pid: int, _channel: str, sender: object) -> None:
                if sender != self._me:
                    self._heard.set()

            await connection.add_listener(self._channel, hear)
            while not connection.is_closed():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._heard.wait(), ALIVE_SECONDS)
                    self._heard.clear()
                    await look()

    async def _hear(self, message: Said) -> None:
        if message.data.decode("ascii", "replace") != self._me:
            self._heard.set()
