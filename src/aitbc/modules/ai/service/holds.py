"""The deadlines of holds: prolonged while a job may still be paid, so that what is accepted is paid.

A result is accepted only while its hold lives for `DELIVERY_MARGIN` more (models/life.py); the event that pays for it
is delivered within that time, or the hold is prolonged again here.
"""

from datetime import timedelta
from uuid import UUID

import msgspec

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.events import JobSucceeded
from aitbc.modules.ai.models.life import DELIVERY_MARGIN, HOLD_MARGIN
from aitbc.modules.ai.models.views import holds_of
from aitbc.modules.ai.service.attempts import Attempts
from aitbc.modules.ai.service.payments import Payments

PAGE = 500
SETTLING = timedelta(seconds=60)
"""How long a payment may be under way before its hold is looked after."""

# The jobs that a miner works on and whose money is not held for long after; through the index of live attempts.
LEASED = """
SELECT a.job, a.run_until, j.copies FROM ai.attempts a JOIN ai.jobs j ON j.id = a.job
WHERE a.ended IS NULL AND j.hold_expires_at < greatest(a.run_until, $1) + $2"""

# Results whose payment is not known to be done, through the index of what is still to be published.
UNPAID = """
SELECT id, body FROM ai.outbox WHERE delivered_at IS NULL AND dead_at IS NULL
AND kind IN ('ai.job_succeeded', 'ai.answer_succeeded') AND created_at < $1 AND id > $2 ORDER BY id LIMIT $3"""
SHORT = "SELECT id FROM ai.jobs WHERE id = ANY($1::uuid[]) AND hold_expires_at < $2"


class Holds:
    """Prolongs the holds of jobs, well before they run out."""

    def __init__(self, db: Database, payments: Payments, attempts: Attempts) -> None:
        self._db = db
        self._payments = payments
        self._attempts = attempts

    async def prolong_leased(self) -> int:
        """Prolong the holds of the jobs that are worked on, and end those whose hold is gone.

        Returns how many live on.
        """
        at, prolonged = now(), 0
        async with self._db.raw() as connection:
            short = await connection.fetch(LEASED, at, DELIVERY_MARGIN)
        for first in range(0, len(short), PAGE):
            page = short[first : first + PAGE]
            jobs = {job: holds_of(job, row["copies"]) for row in page for job in (ids.encode("job", row["job"]),)}
            held = await self._payments.prolong(jobs, max(at, *(row["run_until"] for row in page)) + HOLD_MARGIN)
            await self._attempts.end_unheld([job for job in jobs if job not in held])
            prolonged += len(held)
        return prolonged

    async def prolong_unpaid(self) -> int:
        """Prolong the holds of results that wait for their payment; returns how many."""
        at, last, prolonged = now(), UUID(int=0), 0
        while True:
            async with self._db.raw() as connection:
                page = await connection.fetch(UNPAID, at - SETTLING, last, PAGE)
                events = [msgspec.json.decode(row["body"], type=JobSucceeded) for row in page]
                jobs = [ids.decode("job", event.job) for event in events]
                short = await connection.fetch(SHORT, jobs, at + DELIVERY_MARGIN / 2) if jobs else ()
            if short:
                late = {ids.encode("job", row["id"]) for row in short}
                waiting = {job: [event.hold for event in events if event.job == job] for job in late}
                prolonged += len(await self._payments.prolong(waiting, at + HOLD_MARGIN))
            if len(page) < PAGE:
                return prolonged
            last = page[-1]["id"]
