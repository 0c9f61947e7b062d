"""Submitting jobs: planned, paid for by a hold, and only then written to the queue."""

from msgspec import structs

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.errors import AppError, FieldError, Invalid, OutcomeUnknown
from aitbc.modules.ai.api import Job
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.ai.models.values import JobValue
from aitbc.modules.ai.service.job_queue import JobQueue
from aitbc.modules.ai.service.live_bookings import LiveBookings
from aitbc.modules.ai.service.payments import Payments
from aitbc.modules.ai.service.planner import Plan, Planner, job_of
from aitbc.modules.trading.api import InsufficientFunds


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

    async def submit(self, who: Principal, command: SubmitJob, once: IdempotencyKey) -> Job:
        """Hold the money, then write the job, which miners may take from then on.

        Raises `UnknownKind`, `InvalidInput`, `UnknownModel`, `MaxPriceTooLow`, `ArtifactNotFound`, `InsufficientFunds`,
        `IdempotencyKeyReused`, `TooManyOpenJobs`, `BookingNotFound`, `BookingNotOpen`. A crash between the two leaves a
        hold without a job, whose money `Payments.reconcile` returns.
        """
        earlier = await self._queue.stored_answer(once)
        if earlier is not None:
            return earlier
        self._planner.require_open()
        if self._queue.is_crowded(who.account):
            await self._queue.require_room(who.account)
        if command.requirements.booking is not None:
            await self._bookings.require(who, command.requirements.booking)
        plan = await self._planner.plan(who, command)
        if not await self._planner.is_covered(plan):
            raise _too_low(plan)
        job = job_of(who, command, plan)
        try:
            await self._payments.hold(job)
        except InsufficientFunds:
            earlier = await self._queue.stored_answer(once)  # a twin of this request may have taken the money
            if earlier is not None:
                return earlier
            raise
        return await self._write(job, once)

    async def submit_quoted(self, who: Principal, command: SubmitJob, once: IdempotencyKey) -> Job:
        """Submit a job for the most that it can cost, whatever the command offers. Raises as `submit`."""
        plan = await self._planner.plan(who, command)
        limit = money.render(await self._planner.limit_units(plan))
        return await self.submit(who, structs.replace(command, max_price=limit), once)

    async def _write(self, job: JobValue, once: IdempotencyKey) -> Job:
        try:
            answer = await self._queue.add(job, once)
        except OutcomeUnknown:
            raise  # the job may exist: `Payments.reconcile` looks after the hold
        except AppError:
            await self._payments.void(job.id, "the job was not written")
            raise
        if answer.id != job.id:
            await self._payments.void(job.id, "the request was a repeated one")
        return answer


def _too_low(plan: Plan) -> MaxPriceTooLow:
    most = money.render(plan.price_max_units)
    message = f"This job can cost up to {most}; max_price must be at least that."
    return MaxPriceTooLow(message, fields=(FieldError("/max_price", message),), price_max=most)
