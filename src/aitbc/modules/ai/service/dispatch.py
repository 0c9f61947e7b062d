"""Dispatch: miners claim jobs and wait for them, renew their leases, and find them again after a restart."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.retry import retry
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.api import Claim, Lease, LeaseStatus, Renewal
from aitbc.modules.ai.batched.claim import Dealer, lease_again
from aitbc.modules.ai.batched.read import DETAIL
from aitbc.modules.ai.batched.renew import Renewed, Renewing, renew_many
from aitbc.modules.ai.batched.rows import ATTEMPT_ALL, attempt_from, job_from
from aitbc.modules.ai.service.attempts import Attempts, HeldLease
from aitbc.modules.ai.service.wakeups import Wakeups

SLOTS_MAX = 64
WAIT_SECONDS_MAX = 60.0

# A miner's live leases through the index of live attempts.
LIVE = f"SELECT {ATTEMPT_ALL} FROM ai.attempts WHERE miner = $1 AND ended IS NULL ORDER BY id"  # noqa: S608
JOBS = f"SELECT {DETAIL}, files, request_id FROM ai.jobs WHERE id = ANY($1::uuid[])"  # noqa: S608


class Dispatch:
    """Leases jobs to miners, in batches."""

    def __init__(self, db: Database, dealer: Dealer, wakeups: Wakeups, attempts: Attempts) -> None:
        self._db = db
        self._wakeups = wakeups
        self._attempts = attempts
        dealer.on_wanted = wakeups.announce
        self.fill_checks: Callable[[Sequence[Lease]], Awaitable[Sequence[Lease]]] = _unchanged
        """Puts the answers into leases that are to evaluate some."""
        self._orphaned: list[tuple[str, Lease]] = []
        """Leases, each with its miner, that were made for a claim whose caller had disconnected."""
        self._claims: Batcher[Claim, Sequence[Lease]] = Batcher(
            lambda batch: retry(lambda: dealer.claim_many(batch)), on_abandoned=self._note_orphaned
        )
        self._renewals: Batcher[Renewing, Renewed] = Batcher(lambda batch: retry(lambda: renew_many(db, batch)))

    async def claim(self, claim: Claim) -> Sequence[Lease]:
        """Lease up to `slots` matching jobs; waits for one to appear, and answers nothing when none did in time."""
        assert 1 <= claim.slots <= SLOTS_MAX
        health = self._attempts.kind_health
        claim = health.narrowed(claim)
        leases: Sequence[Lease] = ()
        try:
            with self._wakeups.presence.waiting(claim.miner):
                leases = await self._claim(claim)
        finally:
            health.end_unused_probes(claim, leases)
        return leases

    async def _claim(self, claim: Claim) -> Sequence[Lease]:
        loop = asyncio.get_running_loop()
        until = loop.time() + min(max(claim.wait_seconds, 0.0), WAIT_SECONDS_MAX)
        was_woken = False
        while not self._wakeups.draining.is_set():
            # Taken before looking, so that a job which is committed in between still wakes this miner.
            waiting = self._wakeups.miners.enter(claim, behind=was_woken) if loop.time() < until else None
            try:
                leases = await self._claim_now(claim)
                if leases or waiting is None:
                    return leases
                if not await sleep_until_woken(waiting.future, until - loop.time()):
                    return ()
                waiting, was_woken = None, True  # woken: the job is for this miner to ask for
            finally:
                if waiting is not None:
                    self._wakeups.miners.leave(waiting)
        return ()

    async def _claim_now(self, claim: Claim) -> Sequence[Lease]:
        leases = await self._claims.do(claim)
        self._wakeups.current.note_made(claim.miner, leases)
        self._wakeups.note_taken([lease.job for lease in leases])
        return await self._with_checks(leases)

    async def _with_checks(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        """Leases with the answers that some of them are to evaluate."""
        if all(lease.check is None for lease in leases):
            return leases
        return await self.fill_checks(leases)

    async def leases_of(self, miner: str) -> Sequence[Lease]:
        """The live leases of a miner: for one that lost an answer or was restarted."""
        if not ids.is_id("mnr", miner):
            return ()
        async with self._db.raw() as connection:
            attempts = [attempt_from(record) for record in await connection.fetch(LIVE, ids.decode("mnr", miner))]
            records = await connection.fetch(JOBS, [ids.decode("job", attempt.job) for attempt in attempts])
        jobs = {job.id: job for job in map(job_from, records)}
        return await self._with_checks([lease_again(jobs[attempt.job], attempt) for attempt in attempts])

    async def renew(self, miner: str, renewals: Sequence[Renewal]) -> Sequence[LeaseStatus]:
        """Extend leases; answers for each what became of it."""
        self._wakeups.presence.note_heard(miner)
        if not renewals:
            return ()
        renewed = await self._renewals.do(Renewing(miner, renewals))
        self._wakeups.watched.notify(renewed.changed)
        return renewed.statuses

    def _note_orphaned(self, claim: Claim, leases: Sequence[Lease]) -> None:
        self._orphaned += [(claim.miner, lease) for lease in leases]

    async def return_orphaned_leases(self) -> None:
        """Release the leases that were made for callers who had disconnected."""
        while self._orphaned:
            miner, lease = self._orphaned.pop()
            with suppress(AppError):  # else it is lost by its clock
                await self._attempts.release(HeldLease(lease.attempt, miner, lease.token), "miner_left")


async def _unchanged(leases: Sequence[Lease]) -> Sequence[Lease]:
    return leases


async def sleep_until_woken(future: "asyncio.Future[bool]", seconds: float) -> bool:
    """Until the future is done or the time is up; whether it was woken. One timer, no task."""
    loop = asyncio.get_running_loop()
    timer = loop.call_later(max(seconds, 0.0), _finish, future)
    try:
        return await future
    finally:
        timer.cancel()


def _finish(future: "asyncio.Future[bool]") -> None:
    if not future.done():
        future.set_result(False)
