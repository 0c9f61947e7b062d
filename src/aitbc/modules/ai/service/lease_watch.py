"""The watch over leases: a miner waits for the end of what it works on, so that canceled work stops at once."""

import asyncio
from collections.abc import Mapping, Sequence

from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids
from aitbc.modules.ai.batched.read import LeaseSeen, read_leases_seen
from aitbc.modules.ai.service.dispatch import WAIT_SECONDS_MAX, sleep_until_woken
from aitbc.modules.ai.service.wakeups import Wakeups


class LeaseWatch:
    """Lets miners wait for the ends of their leases."""

    def __init__(self, db: Database, wakeups: Wakeups) -> None:
        self._wakeups = wakeups
        self._reads: Batcher[Sequence[str], Mapping[str, LeaseSeen]] = Batcher(
            lambda batch: read_leases_seen(db, batch)
        )

    async def until_over(self, miner: str, attempts: Sequence[str], wait_seconds: float) -> Sequence[str]:
        """Those of a miner's leases that are over or that are to stop; waits for the first, and answers none in time.

        One that the miner never had is over.
        """
        with self._wakeups.presence.waiting(miner):
            return await self._until_over(miner, attempts, wait_seconds)

    async def _until_over(self, miner: str, attempts: Sequence[str], wait_seconds: float) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        until = loop.time() + min(max(wait_seconds, 0.0), WAIT_SECONDS_MAX)
        known = [attempt for attempt in attempts if ids.is_id("att", attempt)]
        jobs: dict[str, str] = {}
        while True:
            # Taken before reading, so that an end which is committed in between still wakes; the first read finds out
            # which jobs to watch.
            woken = self._wakeups.leases.watch(jobs) if jobs else None
            try:
                seen = await self._reads.do(known)
                over = [one for one in attempts if one not in seen or seen[one].is_over or seen[one].miner != miner]
                if over or loop.time() >= until or self._wakeups.draining.is_set():
                    return over
                jobs = {attempt: seen[attempt].job for attempt in attempts}
                if woken is not None:
                    await sleep_until_woken(woken, until - loop.time())
            finally:
                if woken is not None:
                    self._wakeups.leases.unwatch(woken)
