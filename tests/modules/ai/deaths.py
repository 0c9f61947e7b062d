"""A process that dies anywhere: between any two of the things that it does to the database or the ledger."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec

from aitbc.modules.ai.events import JobSucceeded
from aitbc.modules.trading.api import SettleHold
from tests.modules.ai.make import Market


class Killed(Exception):
    """The process is dead: nothing that it still tries has an effect."""


class Life:
    """A process that dies at a point: before or after one of the things that it does to the database or the ledger."""

    def __init__(self, points: int | None) -> None:
        self.left = points
        self.passed = 0

    def point(self) -> None:
        """One more such point."""
        self.passed += 1
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                raise Killed

    @contextmanager
    def of(self, market: Market) -> Iterator[None]:
        """While this lasts, what the market does passes points."""
        db, trading = market.ai.db, market.trading
        for name in ("raw", "raw_transaction", "unit_of_work", "reading"):
            setattr(db, name, self._opened(getattr(db, name)))
        for name in ("hold", "settle", "void"):
            setattr(trading, name, self._asked(getattr(trading, name)))
        try:
            yield
        finally:
            for name in ("raw", "raw_transaction", "unit_of_work", "reading"):
                delattr(db, name)
            for name in ("hold", "settle", "void"):
                delattr(trading, name)

    def _opened(self, real: Any) -> Any:
        @asynccontextmanager
        async def opened(**options: Any) -> AsyncIterator[Any]:
            self.point()
            async with real(**options) as session:
                yield session
            self.point()

        return opened

    def _asked(self, real: Any) -> Any:
        async def asked(*arguments: Any) -> Any:
            self.point()
            answer = await real(*arguments)
            self.point()
            return answer

        return asked


async def pay_by_event(market: Market) -> None:
    """What trading does with the events that pay for results, where the direct way did not."""
    for row in await market.sql("SELECT body FROM ai.outbox WHERE kind = 'ai.job_succeeded'"):
        event = msgspec.json.decode(row["body"], type=JobSucceeded)
        fields = {name: getattr(event, name) for name in event.__struct_fields__ if name != "job_kind"}
        await market.trading.settle(SettleHold(kind=event.job_kind, **fields))
