"""The life of a run and of its steps, as pure functions of their rows."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from aitbc.modules.hermes.models.tables import RunRow, StepRow


class RunState(StrEnum):
    """Where a run is. The names are those of A2A."""

    SUBMITTED = "submitted"
    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    REJECTED = "rejected"


class StepState(StrEnum):
    """Where a step is."""

    PENDING = "pending"
    WORKING = "working"
    WAITING = "waiting"
    """For a person."""
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


MOVES: Mapping[RunState, frozenset[RunState]] = {
    RunState.SUBMITTED: frozenset({RunState.WORKING, RunState.FAILED, RunState.CANCELED, RunState.REJECTED}),
    RunState.WORKING: frozenset(
        {RunState.INPUT_REQUIRED, RunState.COMPLETED, RunState.FAILED, RunState.CANCELED, RunState.REJECTED}
    ),
    RunState.INPUT_REQUIRED: frozenset({RunState.WORKING, RunState.FAILED, RunState.CANCELED}),
    RunState.COMPLETED: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELED: frozenset(),
    RunState.REJECTED: frozenset(),
}
"""The states that may follow each."""
OVER = frozenset(state for state, after in MOVES.items() if not after)
STEP_OVER = frozenset({StepState.DONE, StepState.FAILED, StepState.SKIPPED})


class Move(StrEnum):
    """What is to be done next about a run."""

    NOTHING = "nothing"
    HOLD = "hold"
    """Set its price aside."""
    BEGIN = "begin"
    """Reserve what the next step may cost, and begin it."""
    DO = "do"
    """Have the step done that has begun: ask whoever does it, or look how far that is."""
    PAY = "pay"
    """All steps are done: pay the agent's owner."""
    WIND_DOWN = "wind_down"
    """It is to end otherwise: stop what is under way, and give the money back."""
    EXPIRE = "expire"
    """Its deadline has passed: it is to end."""


def next_move(run: RunRow, steps: Sequence[StepRow], at: datetime) -> Move:
    """What is to be done next, from the rows alone."""
    if run.state in OVER:
        return Move.NOTHING
    if run.verdict is not None:
        return Move.WIND_DOWN
    if at >= run.deadline_at:
        return Move.EXPIRE
    if run.payment == "due":
        return Move.HOLD
    step = current(steps)
    if step is None:
        return Move.PAY
    return Move.BEGIN if step.state == StepState.PENDING else Move.DO


def current(steps: Sequence[StepRow]) -> StepRow | None:
    """The first step that is not over; none when all are."""
    return next((step for step in steps if step.state not in STEP_OVER), None)


def move_run(run: RunRow, to: RunState, at: datetime) -> None:
    """Take a run to another state; the table of moves has the step, or this is a bug."""
    assert to in MOVES[RunState(run.state)], f"a run that is {run.state} cannot become {to}"
    run.state = to
    if to in OVER:
        run.ended_at = at


def end_step(run: RunRow, step: StepRow, to: StepState, spent_units: int, at: datetime) -> None:
    """End a step: what it spent is counted, the rest of its reservation is free again."""
    assert to in STEP_OVER and step.state not in STEP_OVER
    assert 0 <= spent_units <= step.reserved_units
    run.reserved_units -= step.reserved_units
    run.spent_units += spent_units
    step.reserved_units, step.spent_units = 0, spent_units
    step.state, step.ended_at = to, at


def left_units(run: RunRow) -> int:
    """What of the budget is neither spent nor set aside."""
    return run.budget_units - run.spent_units - run.reserved_units


def answer_of(steps: Sequence[StepRow]) -> str:
    """The answer of a run whose steps are done: that of the agent's endpoint, or the text of the last step with any."""
    order = sorted(steps, key=lambda step: (step.does == "call", step.number), reverse=True)
    return next((step.output for step in order if step.does != "approve" and step.output is not None), "")
