"""How far the miners have come in each kind's queue: the rank at which an empty lane begins."""

import asyncio

from sqlalchemy import func, select

from aitbc.kernel.database.unit_of_work import Database
from aitbc.modules.ai.models.tables import FlowRow


class ServedRanks:
    """By kind, the highest rank that miners have reached."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._ranks: dict[str, int] = {}
        self._reading = asyncio.Lock()
        """Held while a rank is read after a start: the first of many submissions reads it for all of them."""

    def __contains__(self, kind: str) -> bool:
        return kind in self._ranks

    def of(self, kind: str) -> int:
        """Where an empty lane of this kind begins."""
        return self._ranks.get(kind, 0)

    def note(self, kind: str, rank: int) -> None:
        """A miner took a job of this rank."""
        self._ranks[kind] = max(self._ranks.get(kind, 0), rank)

    async def read(self, kind: str) -> None:
        """After a start: new flows begin beside those that are furthest, not before everybody."""
        async with self._reading:
            if kind in self._ranks:
                return
            async with self._db.reading() as session:
                furthest = (await session.execute(select(func.max(FlowRow.tag)))).scalar_one()
            self.note(kind, furthest or 0)
