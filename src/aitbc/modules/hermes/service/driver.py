"""Drives runs on, one move after the other. Any process may drive any run at any time, and may die at any point.

A move is: read the rows; have something done that can be repeated; write what came of it, if the rows still are as they
were read. Nothing else is kept anywhere, so a run goes on from its rows wherever it was left.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta

import structlog
from sqlalchemy import select, update

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.hermes.models.life import (
    OVER,
    STEP_OVER,
    Move,
    RunState,
    StepState,
    current,
    end_step,
    left_units,
    move_run,
    next_move,
)
from aitbc.modules.hermes.models.plans import cost_of
from aitbc.modules.hermes.models.tables import RunRow, StepRow
from aitbc.modules.hermes.service.ends import Ends
from aitbc.modules.hermes.service.outcomes import Asks, Broken, Done, Going, Halted, Outcome, Worker
from aitbc.modules.hermes.service.pushes import tell_of
from aitbc.modules.hermes.service.rows import steps_of
from aitbc.modules.hermes.service.views import plan_of

MOVES_MAX = 1000
"""After so many moves at a time a run waits for the next round, so that others get their turn."""
PAGE = 100
AT_ONCE = 4
"""How many runs a round drives at the same time."""
AWAY_SECONDS = 5.0
STUCK_SECONDS = 60.0

log = structlog.get_logger("aitbc.hermes")


def storable(text: str | None) -> str | None:
    """A text without the one character that PostgreSQL cannot keep."""
    return None if text is None else text.replace("\x00", "\ufffd")


class Driver:
    """Drives runs on."""

    def __init__(self, db: Database, workers: Mapping[str, Worker], ends: Ends) -> None:
        self._db = db
        self._workers = workers
        self._ends = ends

    async def drive_due(self) -> None:
        """Drive on every run whose time it is."""
        if not await self._db.is_any("hermes.runs WHERE ended_at IS NULL AND due_at <= $1", now()):
            return
        due = select(RunRow.id).where(RunRow.ended_at.is_(None), RunRow.due_at <= now()).order_by(RunRow.due_at)
        async with self._db.reading() as session:
            runs = (await session.scalars(due.limit(PAGE))).all()
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(run: str) -> None:
            async with turn:
                try:
                    await self.drive(run)
                except Exception as fault:  # noqa: BLE001 - one run that cannot be driven must not keep the others
                    log.error("agent_run_stuck", run=run, reason=repr(fault))
                    await self._postpone(run, STUCK_SECONDS)

        await asyncio.gather(*map(one, runs))

    async def drive(self, run: str) -> None:
        """Drive a run on until it waits for somebody, and the runs above and below it that this concerns.

        Whatever goes wrong is for the next round: a run is never lost.
        """
        todo, moves = [run], 0
        while todo and moves < MOVES_MAX:
            one = todo.pop()
            try:
                more = await self._move(one)
            except AppError as error:
                log.warning("agent_run_postponed", run=one, reason=error.message)
                await self._postpone(one, AWAY_SECONDS)
                continue
            todo += [other for other in more if other not in todo]
            moves += 1

    async def _move(self, run: str) -> Sequence[str]:
        """One move; answers the runs that are to be driven on now, itself among them where it does not wait."""
        async with self._db.reading() as session:
            row = await session.get_one(RunRow, run)
            steps = await steps_of(session, run)
        match next_move(row, steps, now()):
            case Move.NOTHING:
                return ()
            case Move.HOLD:
                await self._ends.hold(row)
            case Move.EXPIRE:
                await self._ends.condemn(run, RunState.FAILED, "deadline_passed")
            case Move.BEGIN:
                await self._begin(run)
            case Move.DO:
                return await self._do(row, steps)
            case Move.PAY:
                return await self._ends.complete(row)
            case Move.WIND_DOWN:
                return await self._wind_down(row, steps)
        return (run,)

    @retrying
    async def _begin(self, run: str) -> None:
        async with self._db.unit_of_work() as uow:
            row = await uow.session.get_one(RunRow, run, with_for_update={"key_share": True})
            steps = await steps_of(uow.session, run)
            if next_move(row, steps, now()) is not Move.BEGIN:
                return
            step = current(steps)
            assert step is not None
            cost = cost_of(plan_of(step))
            if cost > left_units(row):
                row.verdict, row.reason = RunState.FAILED, "budget_exhausted"
                return
            row.reserved_units += cost
            step.reserved_units = cost
            step.state, step.started_at = StepState.WORKING, now()
            if row.state != RunState.WORKING:
                move_run(row, RunState.WORKING, now())
                await tell_of(uow, row, steps)

    async def _do(self, run: RunRow, steps: Sequence[StepRow]) -> Sequence[str]:
        step = current(steps)
        assert step is not None
        outputs = {one.name: one.output or "" for one in steps if one.state == StepState.DONE}
        outcome = await self._workers[step.does].do(run, step, outputs)
        await self._note(run.id, step, outcome)
        if isinstance(outcome, Going):
            return () if outcome.drives is None else (outcome.drives,)
        return () if isinstance(outcome, Asks) else (run.id,)

    @retrying
    async def _note(self, run: str, seen: StepRow, outcome: Outcome) -> None:
        """Write what came of a step, unless somebody was quicker."""
        async with self._db.unit_of_work() as uow:
            row = await uow.session.get_one(RunRow, run, with_for_update={"key_share": True})
            step = await uow.session.get_one(StepRow, (run, seen.number))
            if row.state in OVER or (step.state, step.reference, step.remote) != (
                seen.state,
                seen.reference,
                seen.remote,
            ):
                return
            at, before = now(), row.state
            match outcome:
                case Going():
                    step.reference = outcome.reference or step.reference
                    step.remote = outcome.remote or step.remote
                    step.looks += 1
                    row.due_at = min(at + timedelta(seconds=outcome.seconds), row.deadline_at)
                case Asks():
                    step.state, step.due_at = StepState.WAITING, outcome.until
                    row.due_at = outcome.until
                    move_run(row, RunState.INPUT_REQUIRED, at)
                case Done():
                    end_step(row, step, StepState.DONE, min(outcome.spent_units, step.reserved_units), at)
                    step.output = storable(outcome.output)
                case Broken():
                    end_step(row, step, StepState.FAILED, min(outcome.spent_units, step.reserved_units), at)
                    step.error = outcome.reason
                    if row.verdict is None:
                        row.verdict, row.reason = RunState.FAILED, outcome.reason
            if row.state == RunState.INPUT_REQUIRED and step.state in STEP_OVER:
                move_run(row, RunState.WORKING, at)
            if row.state != before:
                await tell_of(uow, row, await steps_of(uow.session, run))

    async def _wind_down(self, run: RunRow, steps: Sequence[StepRow]) -> Sequence[str]:
        """Stop what is under way; when nothing is, end the run."""
        for step in steps:
            if step.state in STEP_OVER:
                continue
            halted: Halted | Going = Halted(spent_units=0)
            if step.state != StepState.PENDING:
                halted = await self._workers[step.does].stop(run, step)
            if isinstance(halted, Going):
                await self._postpone(run.id, halted.seconds)
                return () if halted.drives is None else (halted.drives,)
            await self._skip(run.id, step, halted.spent_units)
        return await self._ends.end(run)

    @retrying
    async def _skip(self, run: str, seen: StepRow, spent_units: int) -> None:
        async with self._db.unit_of_work() as uow:
            row = await uow.session.get_one(RunRow, run, with_for_update={"key_share": True})
            step = await uow.session.get_one(StepRow, (run, seen.number))
            if row.state not in OVER and (step.state, step.reference) == (seen.state, seen.reference):
                end_step(row, step, StepState.SKIPPED, min(spent_units, step.reserved_units), now())

    @retrying
    async def _postpone(self, run: str, seconds: float) -> None:
        later = update(RunRow).where(RunRow.id == run, RunRow.ended_at.is_(None))
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(later.values(due_at=now() + timedelta(seconds=seconds)))
