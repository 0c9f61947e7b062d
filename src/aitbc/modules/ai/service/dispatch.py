"""Dispatch: miners ask for work and wait for it, keep their leases, and find them again."""

import asyncio
from collections.abc import Sequence

import msgspec

from aitbc.kernel.primitives import ids
from aitbc.modules.ai.api import Claim, InputFile, Lease, LeaseStatus, Pending, Renewal
from aitbc.modules.ai.batched.claim import lease_view
from aitbc.modules.ai.batched.read import DETAIL
from aitbc.modules.ai.batched.renew import Renewing
from aitbc.modules.ai.batched.rows import ATTEMPT_ALL, attempt_from, job_from
from aitbc.modules.ai.events import JobSucceeded
from aitbc.modules.ai.service.office import Office

SLOTS_MAX = 64
WAIT_SECONDS_MAX = 60.0

# A miner's live leases through the index of live attempts.
LIVE = f"SELECT {ATTEMPT_ALL} FROM ai.attempts WHERE miner = $1 AND ended IS NULL ORDER BY id"  # noqa: S608
JOBS = f"SELECT {DETAIL}, files, request_id FROM ai.jobs WHERE id = ANY($1::uuid[])"  # noqa: S608

LEASED = """
SELECT j.max_price_units FROM ai.attempts a JOIN ai.jobs j ON j.id = a.job WHERE a.miner = $1 AND a.ended IS NULL"""

# Results whose payment the outbox has not yet seen done, through the index of what is still to be told.
UNPAID = """
SELECT body FROM ai.outbox WHERE delivered_at IS NULL AND dead_at IS NULL
AND kind = 'ai.job_succeeded' AND strpos(body, $1) > 0"""


class Dispatch(Office):
    """Claims and renewals."""

    async def claim(self, claim: Claim) -> Sequence[Lease]:
        """Lease up to `slots` matching jobs; waits for one to appear, and answers nothing when none did in time."""
        assert 1 <= claim.slots <= SLOTS_MAX
        loop = asyncio.get_running_loop()
        until = loop.time() + min(max(claim.wait_seconds, 0.0), WAIT_SECONDS_MAX)
        while not self.draining.is_set():
            # Taken before looking, so that a job which is committed in between still wakes this miner.
            waiting = self.miners.enter(claim) if loop.time() < until else None
            try:
                leases = await self._claim_now(claim)
                if leases or waiting is None:
                    return leases
                if not await _sleep(waiting.future, until - loop.time()):
                    return ()
                waiting = None  # woken: the job is for this miner to ask for
            finally:
                if waiting is not None:
                    self.miners.leave(waiting)
        return ()

    async def _claim_now(self, claim: Claim) -> Sequence[Lease]:
        leases = await self.claims.do(claim)
        self.watched.tell(lease.job for lease in leases)
        return leases

    async def leases_of(self, miner: str) -> Sequence[Lease]:
        """The live leases of a miner: for one that lost an answer or was restarted."""
        if not ids.is_id("mnr", miner):
            return ()
        async with self.db.raw() as connection:
            attempts = [attempt_from(record) for record in await connection.fetch(LIVE, ids.decode("mnr", miner))]
            records = await connection.fetch(JOBS, [ids.decode("job", attempt.job) for attempt in attempts])
        jobs = {job.id: job for job in map(job_from, records)}
        leases = []
        for attempt in attempts:
            job = jobs[attempt.job]
            files = msgspec.json.decode(job.files, type=tuple[InputFile, ...]) if job.files else ()
            leases.append(lease_view(job, attempt, msgspec.json.decode(job.input or "null"), files))
        return leases

    async def pending_of(self, miner: str) -> Pending:
        """What is set aside for the jobs of a miner.

        A job that is leased has its hold open. Of a delivered one the event that pays for it may wait still, or only not
        be marked as done: the ledger knows which.
        """
        if not ids.is_id("mnr", miner):
            return Pending(miner=miner, jobs=0, held_units=0)
        async with self.db.raw() as connection:
            leased = await connection.fetch(LEASED, ids.decode("mnr", miner))
            told = await connection.fetch(UNPAID, miner)
        delivered = [msgspec.json.decode(row["body"], type=JobSucceeded) for row in told]
        holds = [event.hold for event in delivered if event.miner == miner]
        unpaid = await self.trading.still_held(holds) if holds else ()
        amounts = [row["max_price_units"] for row in leased] + [hold.amount_units for hold in unpaid]
        return Pending(miner=miner, jobs=len(amounts), held_units=sum(amounts))

    async def renew(self, miner: str, renewals: Sequence[Renewal]) -> Sequence[LeaseStatus]:
        """Extend leases; answers for each what became of it."""
        if not renewals:
            return ()
        renewed = await self.renewals.do(Renewing(miner, renewals))
        self.watched.tell(renewed.changed)
        return renewed.statuses


async def _sleep(future: "asyncio.Future[bool]", seconds: float) -> bool:
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
