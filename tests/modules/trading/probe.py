"""A way into the database that stops before each statement: to make it fail, or to let another go first."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.util import await_only

from aitbc.kernel.database.unit_of_work import Database

BLOCKED_AFTER_SECONDS = 0.02
"""Who does not come back from a statement for so long waits for the other's lock."""


class ProbedDatabase(Database):
    """A database that asks its probe before every statement, the beginnings and ends of transactions included."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.probe: Callable[[str], Awaitable[None]] | None = None
        database = self

        class ProbedConnection(asyncpg.Connection):
            async def execute(self, query: str, *args: Any, **options: Any) -> str:
                await database.step(query)
                return str(await super().execute(query, *args, **options))

            async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
                await database.step(query)
                return await super().fetch(query, *args, **options)

        self._arguments["connection_class"] = ProbedConnection
        event.listen(self.engine.sync_engine, "before_cursor_execute", self._before_statement)

    def _before_statement(self, _: Any, __: Any, statement: str, *___: Any) -> None:
        await_only(self.step(statement))

    async def step(self, statement: str) -> None:
        """Stop here for as long as the probe says."""
        if self.probe is not None:
            await self.probe(statement)


class Injected(Exception):
    """The failure of a statement, made on purpose."""


class FailAt:
    """Makes the Nth statement fail."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.seen: list[str] = []

    async def __call__(self, statement: str) -> None:
        """Count a statement, and fail if it is the one."""
        if statement.startswith(("ROLLBACK", "BEGIN ISOLATION")):
            return
        self.seen.append(statement)
        self.left -= 1
        if self.left == 0:
            raise Injected(statement)


class Gate:
    """Lets one actor go on statement by statement, as far as the test says."""

    def __init__(self) -> None:
        self._go = asyncio.Event()
        self._arrived = asyncio.Event()
        self._open = False

    async def __call__(self, _: str) -> None:
        """Wait for the next go."""
        if self._open:
            return
        self._arrived.set()
        await self._go.wait()
        self._go.clear()

    async def step(self, task: "asyncio.Task[Any]") -> bool:
        """Let the actor do one statement; answers whether it came to the next one or to its end, rather than being blocked."""
        if task.done():
            return False
        waiting = asyncio.create_task(self._arrived.wait())
        await asyncio.wait({waiting, task}, timeout=BLOCKED_AFTER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        arrived = self._arrived.is_set()
        waiting.cancel()
        if not arrived:
            return False
        self._arrived.clear()
        self._go.set()
        return True

    def open(self) -> None:
        """Let the actor run to its end."""
        self._open = True
        self._go.set()
