"""Steps that wait for a person's word, until a deadline decides."""

from datetime import timedelta

from aitbc.kernel.primitives.clock import now
from aitbc.modules.hermes.models.life import StepState
from aitbc.modules.hermes.models.shapes import AgentApproveStep
from aitbc.modules.hermes.models.tables import RunRow, StepRow
from aitbc.modules.hermes.service.outcomes import Asks, Broken, Done, Going, Halted, Outcome
from aitbc.modules.hermes.service.views import plan_of

NOT_APPROVED = "not_approved"


class ApproveSteps:
    """Asks, and takes the default when nobody answered in time; an answer ends the step by itself."""

    async def do(self, run: RunRow, step: StepRow, outputs: dict[str, str]) -> Outcome:
        """Begin to wait, or look whether the time is up."""
        plan = plan_of(step)
        assert isinstance(plan, AgentApproveStep)
        if step.state != StepState.WAITING or step.due_at is None:
            return Asks(until=min(now() + timedelta(seconds=plan.within_seconds), run.deadline_at))
        left = (step.due_at - now()).total_seconds()
        if left > 0:
            return Going(seconds=left)
        if plan.otherwise == "approve":
            return Done(spent_units=0, output="approved by default")
        return Broken(reason=NOT_APPROVED)

    async def stop(self, run: RunRow, step: StepRow) -> Halted | Going:
        """Wait no longer."""
        return Halted(spent_units=0)
