"""What is told of a run when it comes to another state: an event, and a message to each client that asked for it."""

from collections.abc import Sequence

from sqlalchemy import select

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.primitives import ids
from aitbc.modules.hermes.events import AgentRunChanged
from aitbc.modules.hermes.models.a2a import status_update, task_of
from aitbc.modules.hermes.models.tables import PushRow, RunRow, StepRow
from aitbc.modules.hermes.service.messages import message_values, queue_pushes
from aitbc.modules.hermes.service.views import encoded, run_view


async def tell_of(uow: UnitOfWork, run: RunRow, steps: Sequence[StepRow]) -> None:
    """Publish where a run is."""
    uow.publish(
        AgentRunChanged(
            run=run.id,
            account=run.account,
            owner=run.owner,
            agent=run.agent,
            skill=run.skill,
            state=run.state,
            reason=run.reason,
            spent_units=run.spent_units,
        )
    )
    pushes = (await uow.session.scalars(select(PushRow).where(PushRow.run == run.id))).all()
    if pushes:
        view = run_view(run, steps)
        told = encoded({"task": task_of(view)} if run.ended_at is not None else status_update(view))
        await queue_pushes(
            uow,
            [
                message_values(
                    run,
                    ids.new_id("msg"),
                    f"push:{run.id}:{push.id}",
                    push.url,
                    told,
                    push.headers,
                )
                for push in pushes
            ],
        )
