"""The driver of studies: a step is worked out from the rows, written where they are still so, and then carried out."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import structlog
from msgspec import Struct
from sqlalchemy import select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, TooMany, Unavailable
from aitbc.modules.ai.models.life import TERMINAL, IllegalMove, State
from aitbc.modules.ai.models.studies.shapes import OPEN, UNDER_WAY, StudyState, TrialState
from aitbc.modules.ai.models.studies.tables import StudyRow, TrialRow
from aitbc.modules.ai.models.studies.values import (
    FAILED_IN_ROW_MAX,
    Trial,
    failed_in_row,
    filled,
    reports_of,
    value_of,
)
from aitbc.modules.ai.models.tables import JobRow, LogRow
from aitbc.modules.ai.service.graphs.node_jobs import ANSWERS_KNOWN_FOR
from aitbc.modules.ai.service.stops import Stops
from aitbc.modules.ai.service.studies.rows import Seen, read_study, spec_of
from aitbc.modules.ai.service.studies.sampling import advise
from aitbc.modules.ai.service.studies.studies import command_of
from aitbc.modules.ai.service.submissions import Submissions

PAGE = 200
ROUNDS_MAX = 4
_encoder = msgspec.json.Encoder(order="deterministic")
log = structlog.get_logger("aitbc.ai")


class _Job(Struct):
    """What is known of a trial's job."""

    state: str
    reason: str
    price_units: int
    output: Any
    lines: list[str]


class _Step(Struct):
    """What a step changes."""

    trials: list[Trial]
    """Those that changed, and those that begin."""
    ended: bool = False
    state: str = ""
    """What the study comes to."""


class StudyDriver:
    """Drives studies on: trials begin, are stopped and end, within the budget."""

    def __init__(self, db: Database, submissions: Submissions, stops: Stops) -> None:
        self._db = db
        self._submissions = submissions
        self._stops = stops

    async def drive_open(self) -> None:
        """Drive on every study that has not ended. A periodic task of one process; safe to break off anywhere."""
        after = ""
        while after or await self._db.is_any("ai.studies WHERE ended_at IS NULL"):
            wanted = select(StudyRow.id).where(StudyRow.ended_at.is_(None)).order_by(StudyRow.id).limit(PAGE)
            async with self._db.reading() as session:
                found = list(await session.scalars(wanted.where(StudyRow.id > after) if after else wanted))
            for study in found:
                await self._drive_safely(study)
            if len(found) < PAGE:
                return
            after = found[-1]

    async def _drive_safely(self, study: str) -> None:
        try:
            await self.drive(study)
        except AppError as error:
            log.warning("study_postponed", study=study, reason=error.message)
        except Exception:
            log.exception("study_stuck", study=study)

    async def drive(self, study: str) -> None:
        """Drive a study on until it waits for the end of a job."""
        for _ in range(ROUNDS_MAX):
            seen = await read_study(self._db, study)
            if seen is None or seen.row.state not in OPEN:
                return
            step = await self._work_out(seen)
            has_changed = bool(step.trials) or step.state != seen.row.state
            if has_changed and not await self._write(seen, step):
                continue  # the study has moved on meanwhile
            carried = await self._carry_out(seen.row, study)
            if not has_changed and not carried:
                return

    async def _work_out(self, seen: Seen) -> _Step:
        """What is to change, by what the jobs came to; nothing is written."""
        jobs = await self._jobs(seen.trials)
        trials = [msgspec.structs.replace(one) for one in seen.trials]
        for trial in trials:
            job = jobs.get(trial.job or "")
            if job is not None and trial.state in UNDER_WAY:
                _note(seen, trial, job)
        state = StudyState(seen.row.state)
        if state is StudyState.CANCELING:
            _stop(trials)
        begun = await self._advised(seen, trials) if state is StudyState.RUNNING else []
        trials += begun
        changed = [one for one, before in zip(trials, seen.trials, strict=False) if one != before]
        step = _Step([*changed, *begun], state=state.value)
        if not any(one.state in UNDER_WAY for one in trials):
            step.state = _end_of(seen, state, trials)
            step.ended = step.state not in OPEN
        return step

    async def _jobs(self, trials: Iterable[Trial]) -> dict[str, _Job]:
        """The jobs of the trials under way, with what they report in their logs."""
        wanted = [one.job for one in trials if one.job is not None and one.state in UNDER_WAY]
        if not wanted:
            return {}
        told = select(LogRow.job, LogRow.text).where(LogRow.job.in_(wanted), LogRow.text.contains("aitbc.report"))
        found: dict[str, _Job] = {}
        async with self._db.reading() as session:
            for row in await session.scalars(select(JobRow).where(JobRow.id.in_(wanted))):
                output = msgspec.json.decode(row.output) if row.output and row.state == State.SUCCEEDED else None
                found[row.id] = _Job(row.state, row.reason, row.price_units or 0, output, [])
            for job, text in await session.execute(told.order_by(LogRow.job, LogRow.token, LogRow.sequence)):
                found[job].lines.append(text)
        return found

    async def _advised(self, seen: Seen, trials: list[Trial]) -> list[Trial]:
        """Stop the trials that do worse, and choose the parameters of those that can begin."""
        under_way = [one for one in trials if one.state in UNDER_WAY]
        if failed_in_row(trials) >= FAILED_IN_ROW_MAX:
            return []
        reported = [one.number for one in under_way if one.state == TrialState.RUNNING and one.reports]
        looked_at = reported if seen.spec.pruner.type != "none" else []
        row = seen.row
        spent = sum(one.spent_units for one in trials)
        affordable = (row.budget_units - spent) // row.trial_units - len(under_way)
        wanted = max(min(seen.spec.parallel - len(under_way), seen.spec.trials - len(trials), affordable), 0)
        if not wanted and not looked_at:
            return []
        advice = await advise(seen.spec, trials, wanted, looked_at)
        for number in advice.worse:
            trials[number].state = TrialState.STOPPING.value
        first = len(trials)
        return [
            Trial(number=first + index, state=TrialState.STARTING.value, params=params)
            for index, params in enumerate(advice.params)
        ]

    @retrying
    async def _write(self, seen: Seen, step: _Step) -> bool:
        """Write a step; false where the study has moved on since it was read."""
        at = now()
        async with self._db.unit_of_work() as uow:
            row = await uow.find(StudyRow, seen.row.id, lock=True)
            if row.version != seen.row.version:
                return False
            for trial in step.trials:
                known = await uow.session.get(TrialRow, (row.id, trial.number))
                if known is None:
                    known = TrialRow(study=row.id, number=trial.number, started_at=at, spent_units=0, job=None)
                    known.params = _encoder.encode(trial.params).decode()
                    uow.add(known)
                known.state, known.value, known.message = trial.state, trial.value, trial.message
                known.reports = _encoder.encode(trial.reports).decode()
                known.spent_units = trial.spent_units
                if trial.state not in UNDER_WAY and known.ended_at is None:
                    known.ended_at = at
            trials = {one.number: one for one in (*seen.trials, *step.trials)}
            row.spent_units = sum(one.spent_units for one in trials.values())
            row.reserved_units = row.trial_units * sum(one.state in UNDER_WAY for one in trials.values())
            row.version += 1
            row.state = step.state
            if step.ended:
                row.ended_at = at
        return True

    async def _carry_out(self, row: StudyRow, study: str) -> bool:
        """Submit the jobs of trials that begin, and cancel those that are to stop; whether anything came of it."""
        wanted = select(TrialRow).where(TrialRow.study == study, TrialRow.state.in_(["starting", "stopping"]))
        async with self._db.reading() as session:
            rows = list(await session.scalars(wanted.order_by(TrialRow.number)))
        who = Principal(row.account, row.key, "live", frozenset())
        done = False
        for trial in rows:
            if trial.job is None:
                done |= await self._submit(row, who, trial)
            elif trial.state == TrialState.STOPPING:
                done |= await self._cancel(who, trial.job)
        return done

    async def _submit(self, row: StudyRow, who: Principal, trial: TrialRow) -> bool:
        if now() - trial.started_at > ANSWERS_KNOWN_FOR:  # the same key might begin a second job
            return await self._note(trial, None, "Whether its job was submitted is not known any more.")
        spec = spec_of(row)
        command = command_of(spec, filled(spec, msgspec.json.decode(trial.params)))
        key = f"study:{row.id}:{trial.number}"
        once = IdempotencyKey(row.account, key, hashlib.sha256(_encoder.encode(command)).digest())
        try:
            job = (await self._submissions.submit(who, command, once)).id
        except (Unavailable, TooMany):
            return False  # it is tried again
        except AppError as refusal:
            return await self._note(trial, None, refusal.message)
        return await self._note(trial, job, "")

    @retrying
    async def _note(self, trial: TrialRow, job: str | None, message: str) -> bool:
        """Note the job of a trial that begins, or why there is none."""
        async with self._db.unit_of_work() as uow:
            study = await uow.find(StudyRow, trial.study, lock=True)
            row = await uow.session.get_one(TrialRow, (trial.study, trial.number))
            if row.job is not None or row.state not in (TrialState.STARTING, TrialState.STOPPING):
                return False
            study.version += 1
            if job is not None:
                row.job = job
                row.state = TrialState.RUNNING.value if row.state == TrialState.STARTING else row.state
            else:
                row.state, row.message, row.ended_at = TrialState.FAILED.value, message[:500], now()
                study.reserved_units -= study.trial_units
        return True

    async def _cancel(self, who: Principal, job: str) -> bool:
        try:
            await self._stops.cancel(who, job, IdempotencyKey.NONE)
        except IllegalMove:
            pass  # it was quicker
        except AppError as error:
            log.warning("trial_not_canceled", job=job, reason=error.message)
            return False
        return True


def _note(seen: Seen, trial: Trial, job: _Job) -> None:
    """What a trial's job says: what it reports while it goes on, and what it came to."""
    trial.reports = reports_of(job.lines)
    if job.state not in TERMINAL:
        return
    trial.spent_units = job.price_units if job.state == State.SUCCEEDED else 0
    if job.state == State.SUCCEEDED:
        value = value_of(seen.spec, job.output)
        trial.value = value
        trial.state = (TrialState.FAILED if value is None else TrialState.COMPLETE).value
        if value is None:
            trial.message = f"The output has no number at {seen.spec.objective.value}."
    elif trial.state == TrialState.STOPPING and job.state == State.CANCELED:
        is_pruned = seen.row.state != StudyState.CANCELING
        trial.state = (TrialState.PRUNED if is_pruned else TrialState.CANCELED).value
    else:
        trial.state, trial.message = TrialState.FAILED.value, f"Its job ended as {job.state}: {job.reason}."


def _stop(trials: Sequence[Trial]) -> None:
    """Let all that is under way stop; what has no job yet is submitted nowhere any more, unless it may be already."""
    for trial in trials:
        if trial.state in (TrialState.RUNNING, TrialState.STARTING):
            trial.state = TrialState.STOPPING.value


def _end_of(seen: Seen, state: StudyState, trials: Sequence[Trial]) -> str:
    """What a study comes to of which nothing is under way."""
    if state is StudyState.CANCELING:
        return StudyState.CANCELED.value
    if failed_in_row(trials) >= FAILED_IN_ROW_MAX:
        return StudyState.FAILED.value
    if len(trials) >= seen.spec.trials:
        return StudyState.COMPLETE.value
    left = seen.row.budget_units - sum(one.spent_units for one in trials)
    return (StudyState.EXHAUSTED if left < seen.row.trial_units else state).value
