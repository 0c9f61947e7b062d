"""Studies and trials between rows and values, and as everyone sees them."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct
from sqlalchemy import select

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import money
from aitbc.modules.ai.models.studies.shapes import CreateStudy, Study, StudyDetail, StudyTrial, TrialState
from aitbc.modules.ai.models.studies.tables import StudyRow, TrialRow
from aitbc.modules.ai.models.studies.values import Trial, best_of


class Seen(Struct):
    """A study as it was read."""

    row: StudyRow
    spec: CreateStudy
    rows: Sequence[TrialRow]
    trials: list[Trial]


async def read_study(db: Database, study: str) -> Seen | None:
    """A study with its trials; none where there is no such study."""
    async with db.reading() as session:
        row = await session.get(StudyRow, study)
        if row is None:
            return None
        wanted = select(TrialRow).where(TrialRow.study == study).order_by(TrialRow.number)
        rows = list(await session.scalars(wanted))
    return Seen(row, spec_of(row), rows, [trial_of(one) for one in rows])


def spec_of(row: StudyRow) -> CreateStudy:
    """A study as it was written."""
    return msgspec.json.decode(row.spec, type=CreateStudy)


def trial_of(row: TrialRow) -> Trial:
    """A trial as its row keeps it."""
    return Trial(
        number=row.number,
        state=row.state,
        params=msgspec.json.decode(row.params),
        value=row.value,
        reports=msgspec.json.decode(row.reports, type=list[tuple[int, float]]),
        job=row.job,
        spent_units=row.spent_units,
        message=row.message,
    )


def study_view(row: StudyRow, trials: Sequence[Trial]) -> Study:
    """A study without its trials."""
    spec = spec_of(row)
    best = best_of(spec, trials)
    states = [trial.state for trial in trials]
    return Study(
        id=row.id,
        name=row.name,
        state=row.state,
        direction=spec.objective.direction,
        trials=spec.trials,
        begun=len(trials),
        complete=states.count(TrialState.COMPLETE),
        pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAILED),
        best=None if best is None else best.number,
        best_value=None if best is None else best.value,
        budget=money.render(row.budget_units),
        reserved=money.render(row.reserved_units),
        spent=money.render(row.spent_units),
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def detail_view(seen: Seen, importance: dict[str, float] | None) -> StudyDetail:
    """A study with its trials."""
    brief = study_view(seen.row, seen.trials)
    results = tuple(
        StudyTrial(
            number=row.number,
            state=row.state,
            params=trial.params,
            value=trial.value,
            reports=tuple(trial.reports),
            job=trial.job,
            spent=money.render(trial.spent_units),
            message=trial.message,
            started_at=row.started_at,
            ended_at=row.ended_at,
        )
        for row, trial in zip(seen.rows, seen.trials, strict=True)
    )
    return StudyDetail(**msgspec.structs.asdict(brief), results=results, importance=importance)
