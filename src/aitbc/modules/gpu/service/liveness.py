"""Liveness: a miner whose heartbeats stop is offline, unless it was this server that stood still."""

from datetime import timedelta

from sqlalchemy import select, update

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import CLOCK_SKEW_MAX, elapsed, now
from aitbc.kernel.primitives.loop_lag import LoopLag
from aitbc.modules.gpu.models.life import ALIVE, silence
from aitbc.modules.gpu.models.tables import MinerRow
from aitbc.modules.gpu.service.miner_rows import publish_change
from aitbc.modules.gpu.service.settings import GpuSettings

WATCH_SECONDS = 5.0
FROZEN_SECONDS = 2 * WATCH_SECONDS
"""A round that comes so much later than the one before means that this process, or its database, stood still."""
CLOCK_CHECK_SECONDS = 30.0
PAGE = 500


class Liveness:
    """The watch over heartbeats that stopped coming."""

    def __init__(self, db: Database, loop_lag: LoopLag, settings: GpuSettings) -> None:
        self._db = db
        self._loop_lag = loop_lag
        self._settings = settings
        self._watched_at: float | None = None
        self._grace_until = 0.0
        self._clock_checked_at = float("-inf")

    async def watch(self) -> None:
        """Mark as offline the miners whose last heartbeat is too old."""
        await self._correct_heartbeats()
        if not self._in_grace():
            await self.mark_silent()
        self._watched_at = (
            elapsed()
        )  # only after a round that worked: a database that is away records no heartbeats either

    async def _correct_heartbeats(self) -> None:
        """A heartbeat that came while the clock was ahead came now, else its miner would not be missed for long."""
        if elapsed() - self._clock_checked_at < CLOCK_CHECK_SECONDS:
            return
        self._clock_checked_at, at = elapsed(), now()
        ahead = update(MinerRow).where(MinerRow.status.in_([status.value for status in ALIVE]))
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(ahead.where(MinerRow.seen_at > at + CLOCK_SKEW_MAX).values(seen_at=at))

    def _in_grace(self) -> bool:
        """Whether silence may be our own: just started, just become leader, or stood still a moment ago."""
        moment = elapsed()
        late = self._watched_at is None or moment - self._watched_at > FROZEN_SECONDS
        if late or self._loop_lag.recent_pause(WATCH_SECONDS) > WATCH_SECONDS:
            self._grace_until = moment + self._settings.grace_seconds
        return moment < self._grace_until

    async def mark_silent(self) -> int:
        """Mark the silent miners as offline, page after page; returns how many."""
        ended = 0
        while True:
            found = await self._mark_some()
            ended += found
            if found < PAGE:
                return ended

    async def _mark_some(self) -> int:
        at = now()
        edge = at - timedelta(seconds=self._settings.offline_seconds)
        silent = (
            select(MinerRow)
            .where(MinerRow.status.in_([status.value for status in ALIVE]), MinerRow.seen_at < edge)
            .order_by(MinerRow.id)
            .limit(PAGE)
            .with_for_update(key_share=True, skip_locked=True)  # one that is locked has a heartbeat right now
        )
        async with self._db.unit_of_work() as uow:
            rows = list(await uow.session.scalars(silent))
            for row in rows:
                before = row.status
                if silence(row):
                    await publish_change(uow, row, before, at)
        return len(rows)
