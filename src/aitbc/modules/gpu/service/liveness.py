"""Liveness: miners that fall silent are offline, unless it was this server that did not hear."""

from datetime import timedelta

from sqlalchemy import select

from aitbc.kernel.primitives.clock import elapsed, now
from aitbc.modules.gpu.models.life import ALIVE, silence
from aitbc.modules.gpu.models.tables import MinerRow
from aitbc.modules.gpu.service.desk import Desk

WATCH_SECONDS = 5.0
FROZEN_SECONDS = 2 * WATCH_SECONDS
"""A round that comes so much later than the one before means that this process, or its database, stood still."""
PAGE = 500


class Liveness(Desk):
    """Who is still there."""

    _watched_at: float | None = None
    _grace_until = 0.0

    async def watch(self) -> None:
        """Note as offline the miners that have been silent for too long."""
        if not self._in_grace():
            await self.end_silent()
        self._watched_at = elapsed()  # only after a round that worked: a database that is away hears nobody either

    def _in_grace(self) -> bool:
        """Whether silence may be our own: just started, just become leader, or stood still a moment ago."""
        moment = elapsed()
        late = self._watched_at is None or moment - self._watched_at > FROZEN_SECONDS
        if late or self.loop_lag.recent_pause(WATCH_SECONDS) > WATCH_SECONDS:
            self._grace_until = moment + self.settings.grace_seconds
        return moment < self._grace_until

    async def end_silent(self) -> int:
        """Mark the silent miners, page after page; answers how many."""
        ended = 0
        while True:
            found = await self._end_some()
            ended += found
            if found < PAGE:
                return ended

    async def _end_some(self) -> int:
        at = now()
        edge = at - timedelta(seconds=self.settings.offline_seconds)
        silent = (
            select(MinerRow)
            .where(MinerRow.status.in_([status.value for status in ALIVE]), MinerRow.seen_at < edge)
            .order_by(MinerRow.id)
            .limit(PAGE)
            .with_for_update(key_share=True, skip_locked=True)  # one that is locked is being heard right now
        )
        async with self.db.unit_of_work() as uow:
            rows = list(await uow.session.scalars(silent))
            for row in rows:
                before = row.status
                if silence(row):
                    await self.tell(uow, row, before, at)
        return len(rows)
