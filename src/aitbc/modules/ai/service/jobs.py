"""Jobs as their owners see them: read, listed and waited for."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from functools import partial

from msgspec import Struct

from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.filters import Filters
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.modules.ai.api import Job, JobDetail, JobNotFound
from aitbc.modules.ai.batched.read import Found, read_jobs, read_last_miners, read_page
from aitbc.modules.ai.models.life import TERMINAL
from aitbc.modules.ai.models.views import job_view
from aitbc.modules.ai.service.ended_cache import EndedCache
from aitbc.modules.ai.service.wakeups import Wakeups

WAIT_SECONDS_MAX = 60.0


class OwnedJob(Struct, frozen=True, kw_only=True):
    """A job with those whom it concerns."""

    job: Job
    account: str
    """Who submitted it, and pays for it."""
    miner: str | None
    """Who took it last; none while nobody did."""


class JobFilter(Struct, frozen=True, kw_only=True):
    """Which jobs a list by offset is narrowed to."""

    states: tuple[str, ...] | None = None
    kind: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    offset: int = 0
    limit: int


class Jobs:
    """Reads jobs in batches, and those that have ended from a cache."""

    def __init__(self, db: Database, wakeups: Wakeups) -> None:
        self._db = db
        self._wakeups = wakeups
        self._ended = EndedCache()
        self._reads: Batcher[str, Found | None] = Batcher(partial(read_jobs, db), in_flight_max=2)

    async def read(self, job: str) -> Found | None:
        """A job and its attempts as they are now, by a well-formed id, whoever asks."""
        return await self._reads.do(job)

    async def find(self, who: Principal, job: str) -> Found:
        """A job and its attempts, if the caller may see them. Raises `JobNotFound`."""
        if not ids.is_id("job", job):
            raise JobNotFound
        found = self._ended.get(job)
        if found is None:
            found = await self._reads.do(job)
            if found is not None:
                self._ended.keep(found)
        if found is None or not who.owns(found[0].account):
            raise JobNotFound
        return found

    def forget(self, job: str) -> None:
        """A job's content was removed: read it anew, in other processes after a few seconds."""
        self._ended.drop(job)

    async def get(self, who: Principal, job: str) -> JobDetail:
        """One job with its input, output and attempts. Raises `JobNotFound`."""
        return self._ended.detail(await self.find(who, job))

    async def page(
        self, who: Principal, *, state: str | None, kind: str | None, after: str | None, limit: int
    ) -> Sequence[Job]:
        """The caller's jobs from the newest on, up to `limit`, those before `after`; an operator sees everybody's."""
        wanted = Filters()
        if not who.is_admin:
            wanted.add("account = {}", ids.decode("acct", who.account))
        if state is not None:
            wanted.add("state = {}", state)
        if kind is not None:
            wanted.add("kind = {}", kind)
        if after is not None:
            wanted.add("id < {}", ids.decode("job", after))
        return [job_view(job) for job in await read_page(self._db, wanted, limit)]

    async def owned(self, who: Principal, job: str) -> OwnedJob:
        """One job with everything, and with those whom it concerns. Raises `JobNotFound`."""
        found = await self.find(who, job)
        value, attempts = found
        miner = attempts[-1].miner if attempts else None
        return OwnedJob(job=self._ended.detail(found), account=value.account, miner=miner)

    async def owned_page(self, who: Principal, wanted: JobFilter) -> Sequence[OwnedJob]:
        """The caller's jobs from the newest on, everybody's for an operator, with those whom they concern."""
        found = Filters()
        if not who.is_admin:
            found.add("account = {}", ids.decode("acct", who.account))
        if wanted.states is not None:
            found.add("state = ANY({}::text[])", wanted.states)
        if wanted.kind is not None:
            found.add("kind = {}", wanted.kind)
        if wanted.since is not None:
            found.add("id >= {} AND created_at >= {}", ids.lowest_uuid(wanted.since), wanted.since)
        if wanted.until is not None:
            found.add("created_at <= {}", wanted.until)
        jobs = await read_page(self._db, found, wanted.limit, wanted.offset)
        miners = await read_last_miners(self._db, [job.id for job in jobs if job.token])
        return [OwnedJob(job=job_view(job), account=job.account, miner=miners.get(job.id)) for job in jobs]

    @property
    def is_draining(self) -> bool:
        """Whether this process is about to stop: nobody waits for a job any more."""
        return self._wakeups.draining.is_set()

    async def wait(self, who: Principal, job: str, seconds: float) -> JobDetail:
        """The job once it has ended, or as it is when the time is up. Raises `JobNotFound`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + min(seconds, WAIT_SECONDS_MAX)
        watched = self._wakeups.watched
        while True:
            changed = watched.watch(job)
            try:
                found = await self.find(who, job)
                left = until - loop.time()
                if found[0].state in TERMINAL or left <= 0 or self._wakeups.draining.is_set():
                    return self._ended.detail(found)
                await asyncio.wait([changed], timeout=left)
            finally:
                watched.unwatch(job, changed)
