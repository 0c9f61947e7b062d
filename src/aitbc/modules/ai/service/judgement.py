"""Judgement: what verification lets pass, and then no plugin refuses."""

from collections.abc import Sequence

from aitbc.kernel.hooks.hooks import Hooks
from aitbc.kernel.hooks.points import JUDGE_RESULT, SHOWN_BYTES_MAX
from aitbc.kernel.hooks.points import Delivered as DeliveredResult
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import Result
from aitbc.modules.ai.models.delivery import OutputRefused
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.values import AttemptValue, Delivered, JobValue
from aitbc.modules.ai.service.checks.evaluations import Agreement, Evaluations
from aitbc.modules.ai.service.verification import Given, Verification


class Judgement:
    """Judges results."""

    def __init__(self, verification: Verification, evaluations: Evaluations, hooks: Hooks) -> None:
        self._verification = verification
        self._evaluations = evaluations
        self._hooks = hooks

    async def judge(self, result: Result, text: str, job: JobValue, attempt: AttemptValue) -> Delivered:
        """Verify an output, meter it and price it, and ask plugins. Raises `OutputRefused`."""
        delivered = await self._verification.judge(result, text, job, attempt)
        if not self._hooks.has(JUDGE_RESULT):
            return delivered
        size = len(text.encode())
        question = DeliveredResult(
            at=int(now().timestamp()),
            job=job.id,
            kind=job.kind,
            miner=attempt.miner,
            units=delivered.units,
            price_units=delivered.price_units,
            output=text if size <= SHOWN_BYTES_MAX else "",
            output_bytes=size,
        )
        refusal = await self._hooks.first(JUDGE_RESULT, question)
        if refusal is not None:
            raise OutputRefused(f"{refusal.plugin} refuses it: {refusal.answer.reason}")
        return delivered

    async def agreeing(self, job: JobValue, answer: Given, earlier: Sequence[Given]) -> Agreement:
        """Which of the earlier attempts' outputs agree with this one, by the rule of the kind."""
        if KINDS[job.kind].is_evaluated:
            assert len(earlier) == 1  # quorums of it are not offered
            return await self._evaluations.compare(job, answer, earlier[0])
        return Agreement(await self._verification.agreeing(job.kind, answer, earlier))

    async def is_impossible(self, job: JobValue) -> bool:
        """Whether the platform itself finds that nobody can do what is asked."""
        return await self._verification.is_impossible(job)
