"""Rows of runs and their steps: read, and made."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from aitbc.modules.hermes.models.life import StepState
from aitbc.modules.hermes.models.tables import StepRow
from aitbc.modules.hermes.service.views import encoded


async def steps_of(session: AsyncSession, run: str) -> Sequence[StepRow]:
    """The steps of a run, in order."""
    return (await session.scalars(select(StepRow).where(StepRow.run == run).order_by(StepRow.number))).all()


def new_step(run: str, number: int, name: str, does: str, plan: Any) -> StepRow:
    """A step that has not begun."""
    return StepRow(
        run=run,
        number=number,
        name=name,
        does=does,
        plan=encoded(plan),
        state=StepState.PENDING,
        reference=None,
        remote=None,
        reserved_units=0,
        spent_units=0,
        output=None,
        error="",
        answered_by=None,
        looks=0,
        due_at=None,
        started_at=None,
        ended_at=None,
    )
