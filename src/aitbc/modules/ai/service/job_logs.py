"""The logs of jobs: lines from miners, kept once and read by the jobs' owners."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from msgspec import Struct
from sqlalchemy import func, select, tuple_

from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import LeaseLost, LogLine
from aitbc.modules.ai.batched.tails import BATCH_MAX, READ_LINES, Piece, Tail, read_tails
from aitbc.modules.ai.models.life import show_sign
from aitbc.modules.ai.models.miner_text import clean
from aitbc.modules.ai.models.tables import LogRow
from aitbc.modules.ai.service.jobs import Jobs
from aitbc.modules.ai.service.rows import lock_lease
from aitbc.modules.ai.service.waiters import WatchedJobs

LINE_LENGTH_MAX = 4096
LINES_MAX = 10_000
"""How many log lines an attempt may leave; the last says that there were more."""
YEARS = (1970, 9999)
"""A miner's time before the first or in the last of these is none."""


class JobLogLine(Struct, frozen=True, kw_only=True):
    """One line of a job's log."""

    attempt: int
    """The number of the attempt that wrote it. For example `1`."""
    sequence: int
    """Its number within the attempt, from 1. For example `1`."""
    at: datetime
    """When the miner wrote it."""
    text: str
    """The line. For example `loading the model`."""


class JobLogs:
    """Appends to logs and reads them."""

    def __init__(self, db: Database, jobs: Jobs, watched: WatchedJobs) -> None:
        self._db = db
        self._jobs = jobs
        self._watched = watched
        self._tails: Batcher[Tail, list[Piece]] = Batcher(partial(read_tails, db, READ_LINES), batch_max=BATCH_MAX)

    @retrying
    async def append(self, miner: str, attempt: str, token: int, lines: Sequence[LogLine]) -> int:
        """Keep log lines; answers the highest sequence that is kept. Raises `LeaseLost`."""
        async with self._db.unit_of_work() as uow:
            job, row = await lock_lease(uow, attempt)
            if row.ended is not None or (row.miner, row.token) != (miner, token):
                raise LeaseLost
            show_sign(job, row, at=now())
            kept = select(func.coalesce(func.max(LogRow.sequence), 0))
            kept = kept.where(LogRow.job == job.id, LogRow.token == row.token)
            highest = int((await uow.session.execute(kept)).scalar_one())
            for line in sorted(lines, key=lambda line: line.sequence):
                if highest < line.sequence <= LINES_MAX:
                    highest = line.sequence
                    last = line.sequence == LINES_MAX
                    body = f"(no more than {LINES_MAX} lines are kept)" if last else clean(line.text, LINE_LENGTH_MAX)
                    uow.add(
                        LogRow(job=job.id, token=row.token, sequence=line.sequence, at=_storable(line.at), text=body)
                    )
        self._watched.notify([job.id])
        if highest >= LINES_MAX:  # the miner need not send the rest again
            return max([highest, *(line.sequence for line in lines)])
        return highest

    async def page(
        self, who: Principal, job: str, *, after: tuple[int, int] | None, limit: int
    ) -> Sequence[JobLogLine]:
        """Log lines in order, those after (attempt, sequence). Raises `JobNotFound`."""
        await self._jobs.find(who, job)
        query = (
            select(LogRow)
            .where(LogRow.job == job, tuple_(LogRow.token, LogRow.sequence) > (after or (0, 0)))
            .order_by(LogRow.token, LogRow.sequence)
            .limit(limit)
        )
        async with self._db.reading() as session:
            return [
                JobLogLine(attempt=row.token, sequence=row.sequence, at=row.at, text=row.text)
                for row in await session.scalars(query)
            ]

    async def after(self, job: str, token: int, sequence: int) -> Sequence[JobLogLine]:
        """The lines of one attempt after a sequence, of a job that the caller is known to own; up to `PIECES_MAX`."""
        pieces = await self._tails.do(Tail(job, token, sequence))
        return [JobLogLine(attempt=token, sequence=piece.sequence, at=piece.at, text=piece.text) for piece in pieces]


def _storable(at: datetime) -> datetime:
    """A time that a miner wrote, or now where its clock is no clock: the last moment of 9999 is stored as infinity."""
    return at if YEARS[0] <= at.year < YEARS[1] else now()
