"""Results: what miners deliver, and what they fail at."""

from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.retry import retry
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.modules.ai.api import Failure, HoldExpired, LeaseLost, Outcome, Result, WrongDigest
from aitbc.modules.ai.batched.complete import Accepted, Completion, complete_many
from aitbc.modules.ai.models.delivery import OutputRefused, output_text, require_signature
from aitbc.modules.ai.models.job_spans import belonging_to, trace_attempt, trace_payment
from aitbc.modules.ai.models.life import Ended, Fault, Reason
from aitbc.modules.ai.models.miner_text import MESSAGE_LENGTH_MAX, clean, reason_word
from aitbc.modules.ai.models.values import AttemptValue, Delivered, JobValue
from aitbc.modules.ai.models.views import receipt_of
from aitbc.modules.ai.service.attempts import Attempts, Ending, HeldLease
from aitbc.modules.ai.service.checks.answers import CheckedAnswers
from aitbc.modules.ai.service.judgement import Judgement
from aitbc.modules.ai.service.payments import Payments


class Completions:
    """Accepts results in batches, and pays for them."""

    def __init__(self, db: Database, payments: Payments) -> None:
        self.payments = payments
        self._batches: Batcher[Completion, Accepted] = Batcher(
            lambda batch: retry(lambda: complete_many(db, batch, payments.paid))
        )

    async def accept(self, completion: Completion) -> tuple[Accepted, str | None]:
        """Accept a result, and answer what its miner earned; none where that is paid later."""
        accepted = await self._batches.do(completion)
        began_at = now()
        with belonging_to(completion.request_id, accepted.attempt.id):
            earned = await self.payments.settle(accepted)
        if not accepted.repeated:
            trace_attempt(completion.request_id, accepted.attempt)
            if earned is not None:
                trace_payment(completion.request_id, accepted.attempt, began_at, now())
        return accepted, earned


class Results:
    """Takes results, and notes failures."""

    def __init__(
        self, attempts: Attempts, verification: Judgement, completions: Completions, answers: CheckedAnswers
    ) -> None:
        self._attempts = attempts
        self._verification = verification
        self._completions = completions
        self._payments = completions.payments
        self._answers = answers

    async def complete(self, result: Result) -> Outcome:
        """Accept a result, pay for it and answer. Repeating it answers the same.

        Raises `LeaseLost`, `WrongSignature`, `WrongDigest`, `OutputTooLarge`, `StopAsked`, `HoldExpired`.
        """
        lease = HeldLease(result.attempt, result.miner, result.token)
        job, attempt = await self._attempts.find(lease)
        text = output_text(result)
        require_signature(result, job, attempt)
        if attempt.ended is None and not await self._payments.is_held_for_delivery(job):
            await self._attempts.end_unheld([job.id])
            job, attempt = await self._attempts.find(lease)  # another request may have delivered it meanwhile
        if attempt.reason == Reason.HOLD_EXPIRED:
            raise HoldExpired
        if attempt.ended is None:
            try:
                delivered = await self._verification.judge(result, text, job, attempt)
            except OutputRefused as refusal:
                message = clean(f"The output was refused: {refusal}", MESSAGE_LENGTH_MAX)
                return await self._attempts.end(lease, Ending(Ended.FAILED, Fault.MINER, "invalid_output", message))
        else:
            delivered = _repeated(result, text, job, attempt)
        if job.copies > 1:
            return await self._answers.take(job, delivered)
        completion = Completion(delivered, job.input_digest, job.request_id or current_request_id())
        accepted, earned = await self._completions.accept(completion)
        if not accepted.repeated:
            self._attempts.after_success(accepted)
        done = accepted.job
        assert done.price_units is not None
        price = money.render(done.price_units)
        return Outcome(job=done.id, state=done.state, receipt=receipt_of(done.id), price=price, earned=earned)

    async def fail(self, failure: Failure) -> Outcome:
        """Note a failed attempt; the job is tried again or ends. Raises `LeaseLost`."""
        lease = HeldLease(failure.attempt, failure.miner, failure.token)
        fault = Fault(failure.fault) if failure.fault in set(Fault) - {Fault.NONE} else Fault.UNKNOWN
        is_proven = False
        if fault is Fault.REQUESTER:
            job, attempt = await self._attempts.find(lease)
            is_proven = attempt.ended is None and await self._verification.is_impossible(job)
        reason = reason_word(failure.reason, "unnamed")
        message = clean(failure.message, MESSAGE_LENGTH_MAX)
        return await self._attempts.end(lease, Ending(Ended.FAILED, fault, reason, message, is_proven))


def _repeated(result: Result, text: str, job: JobValue, attempt: AttemptValue) -> Delivered:
    """A delivery for an attempt that has ended: right only if it is the very one that was accepted."""
    if attempt.output_digest is not None and attempt.output_digest != result.output_digest:
        raise LeaseLost("Another result was accepted for this attempt.")
    if attempt.ended == Ended.SUCCEEDED and job.copies == 1 and (job.units is None or job.price_units is None):
        raise WrongDigest
    return Delivered(
        job=job.id,
        attempt=attempt.id,
        miner=attempt.miner,
        token=attempt.token,
        output=text,
        output_digest=result.output_digest,
        units=job.units or 0,
        price_units=job.price_units or 0,
        usage="{}",
        note=None,
        miner_key=result.miner_key,
        signature=result.signature,
    )
