"""Answers to jobs that are verified: kept until there are enough of them, then the verdict pays those that agree."""

import asyncio
import random
from collections.abc import Callable, Sequence
from uuid import UUID

from sqlalchemy import select, text

from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.retry import retry
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Unavailable
from aitbc.modules.ai.api import Outcome
from aitbc.modules.ai.batched.answers import Answered, Answering, answer_many, conclude_unchecked
from aitbc.modules.ai.batched.verdicts import Concluded
from aitbc.modules.ai.models.checks.tiers import QUORUM_MAX, SAMPLED
from aitbc.modules.ai.models.job_spans import belonging_to
from aitbc.modules.ai.models.life import Ended
from aitbc.modules.ai.models.tables import DeliveryRow, JobRow
from aitbc.modules.ai.models.values import Delivered, JobValue
from aitbc.modules.ai.service.attempts import Attempts
from aitbc.modules.ai.service.checks.evaluations import Agreement
from aitbc.modules.ai.service.judgement import Judgement
from aitbc.modules.ai.service.payments import Payments
from aitbc.modules.ai.service.verification import Given

PAGE = 100

# Sampled jobs that nobody came to check in time.
UNCHECKED = (
    select(JobRow.id)
    .where(JobRow.state == text("'queued'"), JobRow.verification == SAMPLED, JobRow.trusted_only)
    .order_by(JobRow.expires_at, JobRow.id)
    .limit(PAGE)
)

# Answers to jobs that ended otherwise: they are not paid, by nobody's fault.
FORGET_UNJUDGED = """
WITH over AS (
    DELETE FROM ai.deliveries d USING ai.jobs j
    WHERE j.id = d.job AND j.state NOT IN ('queued', 'leased', 'running') RETURNING d.attempt)
UPDATE ai.attempts a SET ended = 'canceled', reason = 'unverified' FROM over WHERE a.id = over.attempt"""


class CheckedAnswers:
    """Takes answers, and carries verdicts out."""

    def __init__(self, db: Database, attempts: Attempts, judgement: Judgement, payments: Payments) -> None:
        self._db = db
        self._attempts = attempts
        self._judgement = judgement
        self._payments = payments
        self.chance: Callable[[], float] = random.SystemRandom().random
        """Draws the sampled jobs that are checked, once their answers are there."""
        self._paid: list[UUID] = []
        """Events of answers that were paid at once: the next batch of answers marks them as delivered."""
        self._batches: Batcher[Answering, Answered] = Batcher(self._answer_many)

    async def _answer_many(self, batch: Sequence[Answering]) -> list[Answered | AppError]:
        return await retry(lambda: answer_many(self._db, batch, self.chance, self._paid))

    async def take(self, job: JobValue, delivered: Delivered) -> Outcome:
        """Keep a judged answer; the last that is wanted brings the verdict and pays. Repeating it answers the same.

        Raises `LeaseLost`, `Unavailable`.
        """
        taken = await self._take(job, delivered)
        earned = await self._after(taken)
        price = delivered.price_units if taken.attempt.ended == Ended.SUCCEEDED else None
        return self._outcome(taken, price, earned.get(delivered.attempt))

    async def _take(self, job: JobValue, delivered: Delivered) -> Answered:
        """Compare an answer with those that are there, outside of the transaction, until no other came meanwhile."""
        given = Given(delivered.attempt, delivered.output, delivered.miner)
        compared: set[str] = set()
        agreement = Agreement([])
        for _ in range(QUORUM_MAX):
            earlier = [one for one in await self._earlier(job.id, given) if one.attempt not in compared]
            if earlier:
                found = await self._judgement.agreeing(job, given, earlier)
                agreement = Agreement([*agreement.attempts, *found.attempts], found.is_unclear, found.measured)
                compared.update(one.attempt for one in earlier)
            taken = await self._batches.do(Answering(delivered, frozenset(compared), *agreement))
            if not taken.is_behind:
                return taken
        raise Unavailable("Too many answers come at once; deliver the result again.")

    async def _earlier(self, job: str, given: Given) -> list[Given]:
        async with self._db.reading() as session:
            wanted = select(DeliveryRow.attempt, DeliveryRow.output, DeliveryRow.miner).where(DeliveryRow.job == job)
            rows = await session.execute(wanted)
            return [Given(row.attempt, row.output, row.miner) for row in rows if row.attempt != given.attempt]

    async def _after(self, taken: Answered) -> dict[str, str | None]:
        """What follows the commit; answers what the attempts earned."""
        if not taken.is_new:
            return {}
        self._attempts.free_devices(taken.attempt)
        if taken.concluded is None:
            await self._attempts.after_end(taken.job)
            return {}
        return await self._after_verdict(taken.concluded)

    async def _after_verdict(self, concluded: Concluded) -> dict[str, str | None]:
        if concluded.accepted is None:
            await self._attempts.after_end(concluded.job)
            return {}
        for attempt in concluded.attempts:
            self._attempts.after_verdict(attempt)
        paid = zip(concluded.payments, concluded.events, strict=True)
        with belonging_to(concluded.job.request_id, concluded.job.id):
            earned = await asyncio.gather(
                *(self._payments.pay_or_postpone(event, event_id, self._paid) for event, event_id in paid),
                *(self._payments.void_hold(hold, "verification did not need it") for hold in concluded.freed),
            )
        self._attempts.after_success(concluded.accepted)
        return {event.attempt: one for event, one in zip(concluded.payments, earned, strict=False)}

    def _outcome(self, taken: Answered, price_units: int | None, earned: str | None) -> Outcome:
        job, attempt = taken.job, taken.attempt
        event = next(
            (e for e in (taken.concluded.payments if taken.concluded else ()) if e.attempt == attempt.id), None
        )
        receipt = None if event is None else event.hold.replace("hold_", "rcpt_")
        price = None if price_units is None else money.render(price_units)
        waits = attempt.ended == Ended.DELIVERED
        return Outcome(job=job.id, state=job.state, receipt=receipt, price=price, earned=earned, verifying=waits)

    async def end_waits(self) -> None:
        """Take the answers to sampled jobs that nobody came to check, and forget those to jobs that ended otherwise."""
        async with self._db.reading() as session:
            due = list(await session.scalars(UNCHECKED.where(JobRow.expires_at <= now())))
        if due:
            for concluded in await retry(lambda: conclude_unchecked(self._db, due)):
                await self._after_verdict(concluded)
        async with self._db.raw(writes=True) as connection:
            await connection.execute(FORGET_UNJUDGED)
