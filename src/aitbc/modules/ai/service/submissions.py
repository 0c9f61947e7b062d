"""Submitting jobs: planned, paid for by a hold, and only then written to the queue."""

from msgspec import structs

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, FieldError, Invalid, OutcomeUnknown
from aitbc.modules.ai.api import Job
from aitbc.modules.ai.models.job_spans import trace_submission
from aitbc.modules.ai.models.kinds.chat_input import BYTES_PER_TOKEN_MAX
from aitbc.modules.ai.models.queue import AgreedAsk
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.ai.models.values import JobValue
from aitbc.modules.ai.service.job_queue import JobQueue
from aitbc.modules.ai.service.live_bookings import LiveBookings
from aitbc.modules.ai.service.payments import Payments
from aitbc.modules.ai.service.planner import Plan, Planner, job_of
from aitbc.modules.trading.api import BudgetExceeded, InsufficientFunds

TOKENS_WORTHWHILE = 16
"""An answer that a budget would cut shorter than this is not begun."""


class MaxPriceTooLow(Invalid):
    """The maximum price does not cover the most that this job can cost."""

    code = "max_price_too_low"


class Submissions:
    """Takes jobs from clients."""

    def __init__(self, queue: JobQueue, planner: Planner, payments: Payments, bookings: LiveBookings) -> None:
        self._queue = queue
        self._planner = planner
        self._payments = payments
        self._bookings = bookings

    async def submitted(self, once: IdempotencyKey) -> Job | None:
        """The job that was submitted with this key before. Raises `IdempotencyKeyReused`."""
        return await self._queue.stored_answer(once)

    async def submit_off_peak(self, who: Principal, command: SubmitJob, once: IdempotencyKey) -> Job:
        """Submit a job that can wait, at the lower price of such work, for the most that it can cost then."""
        plan = await self._planner.plan(who, command, is_off_peak=True)
        limit_units = await self._planner.limit_units(plan)
        limited = structs.replace(command, max_price=money.render(limit_units))
        return await self.submit(who, limited, once, is_off_peak=True)

    async def submit(
        self,
        who: Principal,
        command: SubmitJob,
        once: IdempotencyKey,
        *,
        is_off_peak: bool = False,
        only_miner: str | None = None,
        agreed: AgreedAsk | None = None,
    ) -> Job:
        """Hold the money, then write the job, which miners may take from then on; only one where one is named, and at
        the price of a unit that was agreed on where one was.

        Raises `UnknownKind`, `InvalidInput`, `UnknownModel`, `MaxPriceTooLow`, `ArtifactNotFound`, `InsufficientFunds`,
        `BudgetExceeded`, `IdempotencyKeyReused`, `TooManyOpenJobs`, `BookingNotFound`, `BookingNotOpen`,
        `SubmissionRefused`, `VerificationNotOffered`. A crash between the two leaves a hold without a job, whose money
        `Payments.reconcile` returns.
        """
        earlier = await self._earlier(who, command, once)
        if earlier is not None:
            return earlier
        plan = await self._planner.plan(who, command, is_off_peak=is_off_peak)
        if only_miner is not None:
            plan = structs.replace(plan, needs=structs.replace(plan.needs, miner=only_miner, agreed=agreed))
        return await self._submit(who, command, once, plan)

    async def _earlier(self, who: Principal, command: SubmitJob, once: IdempotencyKey) -> Job | None:
        """The job that was submitted with this key before; else whether one may be submitted now is checked."""
        earlier = await self._queue.stored_answer(once)
        if earlier is not None:
            return earlier
        self._planner.require_open()
        if self._queue.is_crowded(who.account):
            await self._queue.require_room(who.account)
        if command.requirements.booking is not None:
            await self._bookings.require(who, command.requirements.booking)
        return None

    async def _submit(self, who: Principal, command: SubmitJob, once: IdempotencyKey, plan: Plan) -> Job:
        """Submit what was planned."""
        await self._planner.require_allowed(who, plan)
        if not await self._planner.is_covered(plan):
            raise _too_low(plan)
        job = job_of(who, command, plan)
        if command.prefer is not None:
            job.preferred = " ".join(await self._planner.kept_for(plan, command.prefer))
        try:
            await self._payments.hold(job, key=who.key, model=plan.needs.model)
        except InsufficientFunds:
            earlier = await self._queue.stored_answer(once)  # a twin of this request may have taken the money
            if earlier is not None:
                return earlier
            raise
        return await self._write(job, once)

    async def submit_quoted(
        self, who: Principal, command: SubmitJob, once: IdempotencyKey, *, shortens: bool = False
    ) -> Job:
        """Submit a job for the most that it can cost, whatever the command offers. Raises as `submit`.

        With `shortens` a chat whose longest answer a budget does not cover is allowed as many tokens as it does cover:
        its answer ends there as at any other limit of tokens.
        """
        earlier = await self._earlier(who, command, once)
        if earlier is not None:
            return earlier
        plan = await self._planner.plan(who, command)
        limit_units = await self._planner.limit_units(plan)
        try:
            return await self._submit(who, command, once, structs.replace(plan, max_price_units=limit_units))
        except BudgetExceeded as refusal:
            tokens = _tokens_covered(plan, limit_units, refusal) if shortens else 0
            if tokens < TOKENS_WORTHWHILE:
                raise
        shorter = structs.replace(command, input=command.input | {"max_tokens": tokens})
        return await self.submit_quoted(who, shorter, once)

    async def _write(self, job: JobValue, once: IdempotencyKey) -> Job:
        try:
            answer = await self._queue.add(job, once)
            if answer.id == job.id:  # else it is the answer of before
                trace_submission(job, now())
        except OutcomeUnknown:
            raise  # the job may exist: `Payments.reconcile` looks after the hold
        except AppError:
            await self._payments.void(job, "the job was not written")
            raise
        if answer.id != job.id:
            await self._payments.void(job, "the request was a repeated one")
        return answer


def _tokens_covered(plan: Plan, limit_units: int, refusal: BudgetExceeded) -> int:
    """How many tokens of an answer what remains of a budget covers, at the price per unit that was to be held."""
    expects = plan.measure.expects
    if "max_tokens" not in expects or not plan.measure.units_max:
        return 0
    unit_price = max(-(-limit_units // plan.measure.units_max), 1)
    units = money.parse(refusal.details["remaining"], zero=True) // unit_price - plan.measure.units
    choices = expects.get("choices", 1)
    return min(units // (BYTES_PER_TOKEN_MAX * choices), expects["max_tokens"] // choices)


def _too_low(plan: Plan) -> MaxPriceTooLow:
    most = money.render(plan.price_max_units)
    message = f"This job can cost up to {most}; max_price must be at least that."
    return MaxPriceTooLow(message, fields=(FieldError("/max_price", message),), price_max=most)
