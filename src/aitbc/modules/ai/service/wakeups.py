"""Wake-ups: who waits in this process for work or for news of a job, and how the news reaches them.

What this process commits wakes its own waiters at once. Other processes are notified, and notify this one; as a
notification may get lost, and a retry's backoff ends without one, the queue is also polled.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.events.bus import Bus
from aitbc.kernel.events.wakeup import Wakeup
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc.modules.ai.batched.claim import Dealer
from aitbc.modules.ai.batched.read import read_leases_over
from aitbc.modules.ai.models.checks.tiers import is_quorum
from aitbc.modules.ai.models.life import HELD, State, copies_wanted
from aitbc.modules.ai.models.queue import needs_of
from aitbc.modules.ai.models.values import JobValue
from aitbc.modules.ai.service.current_leases import CurrentLeases
from aitbc.modules.ai.service.miner_presence import MinerPresence
from aitbc.modules.ai.service.waiters import WaitingMiners, WatchedJobs, WatchedLeases

POLL_SECONDS = 1.0
"""How often the queue is polled while somebody waits."""

log = structlog.get_logger("aitbc.ai")


class Wakeups:
    """The waiters of this process, and the background tasks that wake them."""

    def __init__(self, db: Database, dealer: Dealer, draining: asyncio.Event, bus: Bus | None) -> None:
        self.miners = WaitingMiners(dealer.short_of_gpus)
        self.watched = WatchedJobs()
        self.leases = WatchedLeases()
        self.current = CurrentLeases()
        self.presence = MinerPresence(self.watched.wake_all)
        self._db = db
        self.draining = draining
        """Set when the process is about to stop: every wait ends."""
        self.on_job_ended: Callable[[str], None] = lambda job: None
        """Called with each job that has ended, once that is committed."""
        self._dealer = dealer
        self._processes = Wakeup(db, bus)
        self._tasks: list[asyncio.Task[None]] = []

    def announce(self, jobs: Sequence[JobValue]) -> None:
        """Jobs were committed as queued: wake miners here, and notify the other processes."""
        for job in jobs:
            for miner in job.preferred.split():
                self.miners.wake(miner)
        open_to_all = []
        for job in jobs:
            needs = needs_of(job.needs)
            if needs.miner is not None:
                self.miners.wake(needs.miner)
            elif is_quorum(job.verification):
                self.miners.offer_copies(needs, job.barred.split(), copies_wanted(job))
            elif not job.preferred:
                open_to_all.append((needs, job.id, job.account))
        self.miners.offer(open_to_all)
        # Of a quorum others are wanted, whoever takes it first.
        self._processes.notify(*("" if is_quorum(job.verification) else job.id for job in jobs))

    def note_taken(self, jobs: Sequence[str]) -> None:
        """These jobs were leased here: watchers look again, and no miner at another process need be woken."""
        self.watched.notify(jobs)
        self._processes.settle(jobs)

    def note_ended(self, job: JobValue) -> None:
        """A lease of this job was ended: wake its miner, and what watches the job. It may wait in another process."""
        self.watched.notify([job.id])
        if not self.leases.notify([job.id]) and job.token and job.state in (State.CANCELED, *HELD):
            self._processes.notify()

    async def start(self) -> None:
        """Start to poll, to listen, to notify and to watch for the end of the process."""
        self._tasks = [
            asyncio.create_task(_forever(self._poll)),
            asyncio.create_task(_forever(self._listen)),
            asyncio.create_task(_forever(self._processes.run_sender)),
            asyncio.create_task(self._end_waits()),
        ]

    async def stop(self) -> None:
        """End the background tasks."""
        await cancel_and_wait(self._tasks)
        self._tasks = []

    async def _poll(self) -> None:
        """Find jobs whose backoff is over, or that another process committed.

        Let everybody look again at watched jobs.
        """
        if len(self.miners):
            for needs, count in await self._dealer.waiting(len(self.miners)):
                if needs.miner is None:
                    self.miners.offer_count(needs, count)
                else:
                    self.miners.wake(needs.miner)
        if len(self.watched):
            self.watched.wake_all()
        if len(self.leases):
            waited = self.leases.attempts
            over = await read_leases_over(self._db, list(waited))
            self.leases.notify(waited[attempt] for attempt in over)

    async def _listen(self) -> None:
        """Poll whenever another process has committed something."""
        await self._processes.listen(self._poll)

    async def _end_waits(self) -> None:
        await self.draining.wait()
        self.miners.wake_all()
        self.watched.wake_all()
        self.leases.wake_all()


async def _forever(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except AppError as error:
            log.warning("background_paused", work=work.__name__, reason=error.message)
        except Exception:
            log.exception("background_failed", work=work.__name__)
        await asyncio.sleep(POLL_SECONDS)
