"""The payment of a job, by its own id: the hold's, whose UUID is the job's."""

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.errors import AppError, Conflict
from aitbc.modules.ai.api import JobNotFound
from aitbc.modules.ai.models.life import PaymentState, State, payment_state
from aitbc.modules.ai.service.jobs import Jobs, OwnedJob
from aitbc.modules.ai.service.payments import Payments
from aitbc.modules.ai.service.stops import Stops
from aitbc.modules.trading.api import HoldNotOpen


class JobNotReady(AppError):
    """The job has not ended yet; ask again later."""

    status, code, exit_code = 425, "job_not_ready", 6
    retryable = True


class NotRefundable(Conflict):
    """The job succeeded and was paid, so there is nothing to give back."""

    code = "not_refundable"


class AmountAboveHeld(Conflict):
    """More money is held for a job only while it waits, by who submitted it, and not for one that is verified."""

    code = "amount_above_held"


class JobPayments:
    """Payments, one for each job: held at its submission, and moved by what becomes of it."""

    def __init__(self, jobs: Jobs, stops: Stops, payments: Payments) -> None:
        self._jobs = jobs
        self._stops = stops
        self._payments = payments

    async def pay(self, who: Principal, job: str, amount_units: int) -> OwnedJob:
        """The job with at least so much held for it: a hold that is smaller is raised while the job waits.

        Raises `JobNotFound`, `AmountAboveHeld`, `InsufficientFunds`.
        """
        found = await self._jobs.owned(who, job)
        known = found.job.max_price if found.job.price is None else found.job.price
        if amount_units <= money.parse(known, zero=True):
            return found
        is_verified = found.job.verification is not None
        if found.job.state != State.QUEUED or found.account != who.account or is_verified:
            raise AmountAboveHeld(f"{known} AITBC are held for this job or were paid, and it waits no more.")
        try:
            await self._payments.raise_hold(job, found.account, amount_units)
        except HoldNotOpen:
            raise AmountAboveHeld from None
        return await self._jobs.owned(who, job)

    async def get(self, who: Principal, payment: str) -> OwnedJob:
        """The job that a payment is for. Raises `JobNotFound`."""
        if not ids.is_id("hold", payment):
            raise JobNotFound
        return await self._jobs.owned(who, ids.encode("job", ids.decode("hold", payment)))

    async def require_released(self, who: Principal, payment: str) -> None:
        """Nothing for a payment that an accepted result has made: nobody's word can make it.

        Raises `JobNotFound`, `JobNotReady`, `NotRefundable`.
        """
        match payment_state((await self.get(who, payment)).job.state):
            case PaymentState.HELD:
                raise JobNotReady
            case PaymentState.RETURNED:
                raise NotRefundable("The money went back when the job ended, so there is nothing to release.")

    async def refund(self, who: Principal, payment: str, once: IdempotencyKey) -> None:
        """Give the money of a job back: it is canceled if it has not ended. Repeating it is harmless.

        Raises `JobNotFound`, and `NotRefundable` once it was paid.
        """
        job = (await self.get(who, payment)).job
        match payment_state(job.state):
            case PaymentState.PAID:
                raise NotRefundable
            case PaymentState.HELD:
                await self._stops.cancel(who, job.id, once)
