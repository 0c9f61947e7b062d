"""Steps that are jobs, in the name of the account that pays the run."""

from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.errors import AppError, Unavailable
from aitbc.kernel.primitives.templates import text_of_output
from aitbc.modules.ai.api import AiApi, Job, SubmitFor
from aitbc.modules.hermes.models.plans import fill
from aitbc.modules.hermes.models.shapes import AgentJobStep
from aitbc.modules.hermes.models.tables import RunRow, StepRow
from aitbc.modules.hermes.service.outcomes import Broken, Done, Going, Halted, Outcome, pause, refused
from aitbc.modules.hermes.service.views import asked_of, encoded, plan_of

OVER = ("succeeded", "failed", "canceled", "expired")
QUEUE_SECONDS_MAX = 604_800
OUTPUT_LENGTH_MAX = 1024 * 1024


class JobSteps:
    """Submits jobs, and looks what became of them."""

    def __init__(self, ai: AiApi) -> None:
        self._ai = ai

    async def do(self, run: RunRow, step: StepRow, outputs: dict[str, str]) -> Outcome:
        """Submit the job, once; then look whether it has ended."""
        try:
            if step.reference is None:
                return Going(reference=(await self._submit(run, step, outputs)).id, seconds=pause(step))
            job = await self._ai.job_of(run.account, step.reference)
        except AppError as error:
            return refused(error)
        if job.state not in OVER:
            return Going(seconds=pause(step))
        if job.state != "succeeded":
            return Broken(reason=f"job_{job.state}")
        return Done(spent_units=_price(job), output=_output(step, text_of_output(job.output)))

    async def _submit(self, run: RunRow, step: StepRow, outputs: dict[str, str]) -> Job:
        plan, asked = plan_of(step), asked_of(run)
        assert isinstance(plan, AgentJobStep)
        seconds = int((run.deadline_at - run.created_at).total_seconds())
        return await self._ai.submit_for(
            SubmitFor(
                account=run.account,
                key=run.key,
                kind=plan.kind,
                input=fill(plan.input, asked.text, asked.data, outputs),
                max_price=plan.max_price,
                queue_seconds=min(max(seconds, 1), QUEUE_SECONDS_MAX),
                request_key=f"hermes:{run.id}:{step.number}",
            )
        )

    async def stop(self, run: RunRow, step: StepRow) -> Halted | Going:
        """Cancel the job; one that was quicker is paid."""
        if step.reference is None:
            return Halted(spent_units=0)
        try:
            job = await self._ai.cancel_for(run.account, run.key, step.reference)
        except Unavailable:
            return Going()
        except AppError:
            return Halted(spent_units=0)
        return Halted(spent_units=_price(job))


def _output(step: StepRow, text: str) -> str:
    """What a job answered; of a very large answer, which job has it."""
    return text if len(text) <= OUTPUT_LENGTH_MAX else encoded({"job": step.reference})


def _price(job: Job) -> int:
    return money.parse(job.price, zero=True) if job.state == "succeeded" and job.price is not None else 0
