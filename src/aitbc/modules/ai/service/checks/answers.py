"""Answers to jobs that are verified: kept until there are enough of them, then the verdict pays those that agree."""

import random
from collections.abc import Callable

from msgspec import Struct
from sqlalchemy import select, text

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Unavailable
from aitbc.modules.ai.api import LeaseLost, Outcome
from aitbc.modules.ai.batched.complete import fill_attempt, is_held
from aitbc.modules.ai.models.checks.tiers import SAMPLED, is_quorum
from aitbc.modules.ai.models.checks.verdicts import Decision, decide
from aitbc.modules.ai.models.life import (
    Ended,
    State,
    ask_another,
    deliver,
    hold_outlasts_delivery,
    is_sampled_check,
)
from aitbc.modules.ai.models.tables import AskRow, AttemptRow, DeliveryRow, JobRow
from aitbc.modules.ai.models.values import Delivered, JobValue
from aitbc.modules.ai.service.attempts import Attempts
from aitbc.modules.ai.service.checks.verdict_rows import Concluded, answer_of, conclude, deliveries_of, is_to_check
from aitbc.modules.ai.service.judgement import Judgement
from aitbc.modules.ai.service.payments import Payments
from aitbc.modules.ai.service.rows import attempt_value, job_value, lock_lease
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


class _Taken(Struct):
    """An answer that was written."""

    job: JobRow
    attempt: AttemptRow
    is_new: bool
    concluded: Concluded | None = None


class CheckedAnswers:
    """Takes answers, and carries verdicts out."""

    def __init__(self, db: Database, attempts: Attempts, judgement: Judgement, payments: Payments) -> None:
        self._db = db
        self._attempts = attempts
        self._judgement = judgement
        self._payments = payments
        self.chance: Callable[[], float] = random.SystemRandom().random
        """Draws the sampled jobs that are checked, once their answers are there."""

    async def take(self, job: JobValue, delivered: Delivered) -> Outcome:
        """Keep a judged answer; the last that is wanted brings the verdict and pays. Repeating it answers the same.

        Raises `LeaseLost`, `Unavailable`.
        """
        given = Given(delivered.attempt, delivered.output)
        # While its lease lives no other answer to the job can come: what is compared now is what the verdict goes by.
        async with self._db.reading() as session:
            rows = await session.scalars(select(DeliveryRow).where(DeliveryRow.job == job.id))
            earlier = [Given(row.attempt, row.output) for row in rows if row.attempt != delivered.attempt]
        agreeing = await self._judgement.agreeing(job.kind, given, earlier) if earlier else []
        taken = await self._take(delivered, agreeing)
        earned = await self._after(taken)
        price = delivered.price_units if taken.attempt.ended == Ended.SUCCEEDED else None
        return self._outcome(taken, price, earned.get(delivered.attempt))

    @retrying
    async def _take(self, delivered: Delivered, agreeing: list[str]) -> _Taken:
        async with self._db.unit_of_work() as uow:
            job, attempt = await lock_lease(uow, delivered.attempt)
            if attempt.ended is not None and attempt.output_digest == delivered.output_digest:
                return _Taken(job, attempt, is_new=False)
            if not is_held(job_value(job), attempt_value(attempt), delivered):
                raise LeaseLost
            at = now()
            if not hold_outlasts_delivery(job, at):
                raise Unavailable("The money of this job must be held for longer first; deliver the result again.")
            deliver(attempt, at=at)
            fill_attempt(attempt, delivered)
            rows = await deliveries_of(uow, job.id)
            row = await _delivery(uow, job, attempt, delivered, agreeing)
            uow.session.add(row)
            await uow.session.flush()
            decision = await self._decide(uow, job, [*rows, row])
            taken = _Taken(job, attempt, is_new=True)
            if decision is None:
                job.barred = f"{job.barred} {attempt.miner_account}".strip()
                job.trusted_only = not is_quorum(job.verification)
                ask_another(job, at=at)
            else:
                taken.concluded = await conclude(uow, job, [*rows, row], decision)
        return taken

    async def _decide(self, uow: UnitOfWork, job: JobRow, rows: list[DeliveryRow]) -> Decision | None:
        drawn = job.verification == SAMPLED and len(rows) == 1
        is_drawn = drawn and await is_to_check(uow, job, rows[0].miner, self.chance)
        return decide(job.verification, [answer_of(row) for row in rows], is_drawn=is_drawn)

    async def _after(self, taken: _Taken) -> dict[str, str | None]:
        """What follows the commit; answers what the attempts earned."""
        if not taken.is_new:
            return {}
        self._attempts.free_devices(attempt_value(taken.attempt))
        return await self._after_verdict(job_value(taken.job), taken.concluded)

    async def _after_verdict(self, job: JobValue, concluded: Concluded | None) -> dict[str, str | None]:
        if concluded is None or concluded.accepted is None:
            await self._attempts.after_end(job)
            return {}
        for attempt in concluded.attempts:
            self._attempts.after_verdict(attempt_value(attempt))
        earned = {event.attempt: await self._payments.pay(event) for event in concluded.payments}
        for hold in concluded.freed:
            await self._payments.void_hold(hold, "verification did not need it")
        self._attempts.after_success(concluded.accepted)
        return earned

    def _outcome(self, taken: _Taken, price_units: int | None, earned: str | None) -> Outcome:
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
        for job in due:
            await self._take_unchecked(job)
        async with self._db.raw(writes=True) as connection:
            await connection.execute(FORGET_UNJUDGED)

    @retrying
    async def _take_unchecked(self, job: str) -> None:
        async with self._db.unit_of_work() as uow:
            row = await uow.find(JobRow, job, lock=True)
            if row.state != State.QUEUED or not is_sampled_check(row) or row.expires_at > now():
                return
            rows = await deliveries_of(uow, job)
            decision = decide(SAMPLED, [answer_of(one) for one in rows], is_drawn=False)
            assert decision is not None
            concluded = await conclude(uow, row, rows, decision)
        await self._after_verdict(job_value(row), concluded)


async def _delivery(
    uow: UnitOfWork, job: JobRow, attempt: AttemptRow, delivered: Delivered, agreeing: list[str]
) -> DeliveryRow:
    ask = await uow.session.get(AskRow, attempt.miner)
    return DeliveryRow(
        attempt=attempt.id,
        job=job.id,
        miner=attempt.miner,
        is_trusted=job.trusted_only or (ask is not None and ask.trusted),
        output=delivered.output,
        units=delivered.units,
        price_units=delivered.price_units,
        agrees_with=agreeing,
        delivered_at=now(),
    )
