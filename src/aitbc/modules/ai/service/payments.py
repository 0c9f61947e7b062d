"""The money of jobs: held when they are submitted, paid when they succeed, returned when they end otherwise.

trading does each of these; it is called before or after a transaction, never within one. What could not be paid or
returned at once is done later: by the event that was committed with the end of the job, or by `reconcile`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import select

from aitbc.kernel.database.retry import retry
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.platform import DirectDelivery
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.api import Pending
from aitbc.modules.ai.batched.complete import Accepted, succeeded
from aitbc.modules.ai.events import JobSucceeded
from aitbc.modules.ai.models.life import HOLD_MARGIN, PROLONGED_EARLY, State, hold_outlasts_delivery
from aitbc.modules.ai.models.tables import JobRow
from aitbc.modules.ai.models.values import JobValue
from aitbc.modules.ai.models.views import hold_of, holds_of
from aitbc.modules.trading.api import FeeQuote, PlaceHold, RaiseHold, SettleHold, TradingApi

ORPHAN_AGE = timedelta(seconds=60)
"""How long a hold may be without an open job: the job may be about to be written, or its event to be handled."""
PAGE = 200

# The holds of a miner's live leases, and of its answers that wait for their verdict.
LEASED = """
SELECT j.max_price_units / j.copies AS held_units FROM ai.attempts a JOIN ai.jobs j ON j.id = a.job
WHERE a.miner = $1 AND a.ended IS NULL
UNION ALL
SELECT j.max_price_units / j.copies FROM ai.deliveries d JOIN ai.jobs j ON j.id = d.job WHERE d.miner = $1"""

# Results whose payment the outbox has not yet seen done, through the index of what is still to be published.
UNPAID = """
SELECT body FROM ai.outbox WHERE delivered_at IS NULL AND dead_at IS NULL
AND kind IN ('ai.job_succeeded', 'ai.answer_succeeded') AND strpos(body, $1) > 0"""

# In the order of jobs, as all locks are.
SAVE_PROLONGED = """
UPDATE ai.jobs SET hold_expires_at = greatest(hold_expires_at, $2)
WHERE id IN (SELECT id FROM ai.jobs WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE)"""

# Only what still waits: what is leased was leased for what it offered.
SAVE_RAISED = "UPDATE ai.jobs SET max_price_units = greatest(max_price_units, $2) WHERE id = $1 AND state = 'queued'"

log = structlog.get_logger("aitbc.ai")


class Payments:
    """Holds, payments and returns."""

    def __init__(self, db: Database, trading: TradingApi, webhooks: DirectDelivery | None) -> None:
        self._db = db
        self._trading = trading
        self._webhooks = webhooks
        self.paid: list[UUID] = []
        """Events of results that were paid at once: the next batch of results marks them as delivered."""

    async def hold(self, job: JobValue, *, key: str, model: str | None) -> None:
        """Hold the most that a job may cost, in a hold for each answer that may be paid; all of them or none.

        `key` and `model` are what budgets count by; what the platform submits by itself has no key. Raises
        `InsufficientFunds`, `BudgetExceeded`.
        """
        commands = [
            PlaceHold(
                hold=hold,
                payer=job.account,
                amount_units=job.max_price_units // job.copies,
                expires_at=job.hold_expires_at,
                reference=job.id,
                key=key if ids.is_id("key", key) else None,
                model=model,
            )
            for hold in holds_of(job.id, job.copies)
        ]
        if len(commands) == 1:
            await self._trading.hold(commands[0])
            return
        placed = await asyncio.gather(*map(self._trading.hold, commands), return_exceptions=True)
        refusals = [outcome for outcome in placed if isinstance(outcome, BaseException)]
        if refusals:
            await self.void(job, "not all that the job can cost could be held")
            raise refusals[0]

    async def raise_hold(self, job: str, payer: str, amount_units: int) -> None:
        """Hold more for a job that waits; one that is taken meanwhile costs what it offered, and the rest goes back.

        Raises `InsufficientFunds`, and `HoldNotOpen` for a job that has ended.
        """
        await self._trading.raise_hold(RaiseHold(hold=hold_of(job), payer=payer, amount_units=amount_units))
        async with self._db.raw(writes=True) as connection:
            await connection.execute(SAVE_RAISED, ids.decode("job", job), amount_units)

    async def is_held_for_delivery(self, job: JobValue) -> bool:
        """Whether a job's money is held until a result that is accepted now is paid; a short hold is prolonged.

        False where it has gone back to its payer. Raises `Unavailable` while trading cannot be asked.
        """
        at = now()
        if hold_outlasts_delivery(job, at + PROLONGED_EARLY):
            return True
        return bool(await self.prolong({job.id: holds_of(job.id, job.copies)}, at + HOLD_MARGIN))

    async def prolong(self, holds: Mapping[str, Sequence[str]], until: datetime) -> set[str]:
        """Hold money at least until then, by the jobs whose holds it lies in; returns those whose holds are all open.

        Trading moves the deadline first: no hold expires before what its job's row says.
        """
        held = set(await self._trading.prolong([hold for of_job in holds.values() for hold in of_job], until))
        kept = [job for job, of_job in holds.items() if held.issuperset(of_job)]
        if kept:
            await retry(lambda: self._save_prolonged(kept, until))
        return set(kept)

    async def _save_prolonged(self, jobs: Sequence[str], until: datetime) -> None:
        async with self._db.raw(writes=True) as connection:
            await connection.execute(SAVE_PROLONGED, [ids.decode("job", job) for job in jobs], until)

    async def void(self, job: JobValue, reason: str) -> None:
        """Return a job's money now if that is possible; else it is done later."""
        for hold in holds_of(job.id, job.copies):
            await self.void_hold(hold, reason)

    async def void_hold(self, hold: str, reason: str) -> None:
        """Return what is in one hold now if that is possible; else it is done later."""
        with suppress(AppError):
            await self._trading.void(hold, reason)

    async def pay(self, event: JobSucceeded) -> str | None:
        """Pay what an event says at once, and answer what its miner earned; none where the event pays later."""
        fields = {name: getattr(event, name) for name in event.__struct_fields__ if name != "job_kind"}
        try:
            settlement = await self._trading.settle(SettleHold(kind=event.job_kind, **fields))
        except AppError as error:
            log.warning("settlement_postponed", job=event.job, reason=error.message)
            return None
        return money.render(settlement.earned_units)

    async def settle(self, accepted: Accepted) -> str | None:
        """Pay for a result at once, and answer what its miner earned; none where the event pays later."""
        event = succeeded(accepted)
        return await (
            self.pay(event) if accepted.event is None else self.pay_or_postpone(event, accepted.event, self.paid)
        )

    async def pay_or_postpone(self, event: JobSucceeded, event_id: UUID, paid: list[UUID]) -> str | None:
        """Pay what an event of the outbox says at once, and note in `paid` that it need not go to trading any more.

        It still goes to those who subscribed to it by a webhook.
        """
        earned = await self.pay(event)
        if earned is not None:
            if self._webhooks is None:
                paid.append(event_id)
            else:
                self._webhooks.deliver(event_id, event, paid.append)
        return earned

    async def quote_fee(self, price_units: int) -> FeeQuote:
        """The fee that a job at this price would have now."""
        return await self._trading.quote_fee(price_units)

    async def pending_of(self, miner: str) -> Pending:
        """What is held for the jobs of a miner: those it works on, and those it delivered and was not yet paid for.

        A job that is leased has its hold open. Of a delivered one the event that pays for it may still wait, or only
        not be marked as done: trading knows which.
        """
        if not ids.is_id("mnr", miner):
            return Pending(miner=miner, jobs=0, held_units=0)
        async with self._db.raw() as connection:
            leased = await connection.fetch(LEASED, ids.decode("mnr", miner))
            unpaid = await connection.fetch(UNPAID, miner)
        delivered = [msgspec.json.decode(row["body"], type=JobSucceeded) for row in unpaid]
        holds = [event.hold for event in delivered if event.miner == miner]
        held = await self._trading.still_held(holds) if holds else ()
        amounts = [row["held_units"] for row in leased] + [hold.amount_units for hold in held]
        return Pending(miner=miner, jobs=len(amounts), held_units=sum(amounts))

    async def reconcile(self) -> int:
        """Return money that is held for a job which was never written, or which ended unpaid.

        Answers how many holds.
        """
        before, returned = now() - ORPHAN_AGE, 0
        after: tuple[datetime, str] | None = None
        while True:
            holds = await self._trading.open_holds(before, PAGE, after)
            of_jobs = {hold.id: hold.reference for hold in holds if ids.is_id("job", hold.reference)}
            unpaid = set(await self._without_payment(list(set(of_jobs.values()))))
            for hold in [hold for hold, job in of_jobs.items() if job in unpaid]:
                with suppress(AppError):
                    await self._trading.void(hold, "no open job belongs to it")
                    returned += 1
            if len(holds) < PAGE:
                return returned
            after = (holds[-1].placed_at, holds[-1].id)

    async def _without_payment(self, jobs: Sequence[str]) -> list[str]:
        """Those of the jobs that do not exist, or ended without success some time ago."""
        settled = now() - ORPHAN_AGE
        expecting: set[str] = set()
        known = select(JobRow.id, JobRow.state, JobRow.completed_at).where(JobRow.id.in_(jobs))
        async with self._db.reading() as session:
            for row in await session.execute(known):
                if row.completed_at is None or row.state == State.SUCCEEDED or row.completed_at > settled:
                    expecting.add(row.id)
        return [job for job in jobs if job not in expecting]
