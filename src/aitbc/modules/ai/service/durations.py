"""How long recent successful attempts took, by kind of work."""

from collections import defaultdict, deque
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import select

from aitbc.kernel.database.unit_of_work import Database
from aitbc.modules.ai.models.life import State
from aitbc.modules.ai.models.tables import AttemptRow, JobRow

KEPT = 100
"""How many durations of a kind are kept."""
READ_MAX = 500
"""After a start: among so many of the newest attempts the recent successes are looked for."""


class Durations:
    """Kept in memory as results are accepted; after a start read from the newest attempts.

    What an account's own miner did for it does not count: it could say what it likes.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))

    def record(self, kind: str, duration: timedelta) -> None:
        """An attempt succeeded."""
        self._seconds[kind].append(duration.total_seconds())

    async def recent(self, kind: str) -> Sequence[float]:
        """The seconds that recent successful attempts of a kind took, oldest first."""
        if not self._seconds[kind]:
            of_others = select(AttemptRow).join(JobRow, JobRow.id == AttemptRow.job)
            of_others = of_others.where(JobRow.account != AttemptRow.miner_account)
            newest = of_others.order_by(AttemptRow.id.desc()).limit(READ_MAX)
            async with self._db.reading() as session:
                rows = list(await session.scalars(newest))
            self._seconds[kind].extend(
                (row.ended_at - row.started_at).total_seconds()
                for row in reversed(rows)
                if row.kind == kind and row.ended == State.SUCCEEDED and row.ended_at is not None
            )
        return self._seconds[kind]

    async def typical_seconds(self, kind: str) -> float | None:
        """How long half of the recent jobs of a kind took at most; none while none is finished."""
        durations = sorted(await self.recent(kind))
        return durations[len(durations) // 2] if durations else None
