"""Studies as their owners create, see and change them."""

from collections import defaultdict
from collections.abc import Sequence
from typing import ClassVar

import msgspec
from sqlalchemy import func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Conflict, FieldError, Invalid, NotFound, TooMany
from aitbc.kernel.primitives.templates import TooDeep
from aitbc.modules.ai.models.graphs.places import PlaceUnknown
from aitbc.modules.ai.models.studies.shapes import CreateStudy, Study, StudyDetail, StudyState
from aitbc.modules.ai.models.studies.tables import StudyRow, TrialRow
from aitbc.modules.ai.models.studies.values import Trial, filled, unnamed, wrong_param
from aitbc.modules.ai.models.submit_job import RetryPolicy, SubmitJob
from aitbc.modules.ai.service.planner import Planner
from aitbc.modules.ai.service.studies.rows import Seen, detail_view, read_study, study_view, trial_of
from aitbc.modules.ai.service.studies.sampling import advise, importance, require_installed

_encoder = msgspec.json.Encoder(order="deterministic")


class StudyNotFound(NotFound):
    """There is no such study."""

    code = "study_not_found"


class StudyInvalid(Invalid):
    """The study contradicts itself, or its job could not be submitted; the message says how."""

    code: ClassVar[str] = "study_invalid"


class StudyStateConflict(Conflict):
    """The study is not in a state that allows this."""

    code = "study_state_conflict"


class TooManyStudies(TooMany):
    """This account has as many studies under way as it may have; some must end first."""

    code = "too_many_studies"


class Studies:
    """Creates studies, and shows, pauses and cancels them."""

    def __init__(self, db: Database, planner: Planner, open_max: int) -> None:
        self._db = db
        self._planner = planner
        self._open_max = open_max

    async def create(self, who: Principal, spec: CreateStudy, once: IdempotencyKey) -> Study:
        """Create a study, whose trials begin by themselves from now on.

        Raises `StudiesNotInstalled`, `StudyInvalid`, `InvalidAmount`, `TooManyStudies`, `IdempotencyKeyReused`, and
        what a job of it would be refused for.
        """
        require_installed()
        await self._check(who, spec)
        return await self._create(who, spec, once)

    async def _check(self, who: Principal, spec: CreateStudy) -> None:
        for name, param in spec.params.items():
            if (message := wrong_param(param)) is not None:
                raise _invalid(f"/params/{name}", message)
        try:
            if missing := unnamed(spec):
                raise _invalid("/input", f"The input does not name these parameters: {', '.join(sorted(missing))}.")
            first = (await advise(spec, [], 1, ())).params[0]
            value = filled(spec, first)
        except PlaceUnknown as unknown:
            raise _invalid("/input", f"There is no parameter at {unknown}.") from None
        except TooDeep:
            raise _invalid("/input", "The input is nested too deep.") from None
        if money.parse(spec.max_price) > money.parse(spec.budget):
            raise _invalid("/budget", "The budget covers no trial.")
        plan = await self._planner.plan(who, command_of(spec, value))
        if not await self._planner.is_covered(plan):
            most = money.render(plan.price_max_units)
            raise _invalid("/max_price", f"A trial can cost up to {most}; max_price must be at least that.")

    @retrying
    async def _create(self, who: Principal, spec: CreateStudy, once: IdempotencyKey) -> Study:
        async with self._db.unit_of_work() as uow:
            earlier = await uow.replay(once, Study)
            if earlier is not None:
                return earlier
            still_open = select(func.count()).select_from(StudyRow)
            still_open = still_open.where(StudyRow.account == who.account, StudyRow.ended_at.is_(None))
            if (await uow.session.scalar(still_open) or 0) >= self._open_max:
                raise TooManyStudies(open_studies_max=self._open_max)
            row = StudyRow(
                id=ids.new_id("study"),
                account=who.account,
                key=who.key,
                name=spec.name,
                state=StudyState.RUNNING.value,
                spec=_encoder.encode(spec).decode(),
                trial_units=money.parse(spec.max_price),
                budget_units=money.parse(spec.budget),
                reserved_units=0,
                spent_units=0,
                version=0,
                created_at=now(),
                ended_at=None,
            )
            uow.add(row)
            await uow.audit(who.account, who.key, "study.create", row.id)
            return await uow.answer(once, study_view(row, []))

    async def find(self, who: Principal, study: str) -> Seen:
        """A study as it is now, if the caller may see it. Raises `StudyNotFound`."""
        seen = await read_study(self._db, study) if ids.is_id("study", study) else None
        if seen is None or not who.owns(seen.row.account):
            raise StudyNotFound
        return seen

    async def get(self, who: Principal, study: str) -> StudyDetail:
        """A study with its trials, and what its parameters matter. Raises `StudyNotFound`."""
        seen = await self.find(who, study)
        return detail_view(seen, await importance(seen.spec, seen.trials))

    async def page(self, who: Principal, *, state: str | None, after: str | None, limit: int) -> Sequence[Study]:
        """The caller's studies from the newest on; an operator sees everybody's."""
        wanted = select(StudyRow).order_by(StudyRow.id.desc()).limit(limit)
        if not who.is_admin:
            wanted = wanted.where(StudyRow.account == who.account)
        if state is not None:
            wanted = wanted.where(StudyRow.state == state)
        if after is not None:
            wanted = wanted.where(StudyRow.id < after)
        async with self._db.reading() as session:
            rows = list(await session.scalars(wanted))
            trials: dict[str, list[Trial]] = defaultdict(list)
            of_all = select(TrialRow).where(TrialRow.study.in_([row.id for row in rows]))
            for one in await session.scalars(of_all.order_by(TrialRow.study, TrialRow.number)):
                trials[one.study].append(trial_of(one))
        return [study_view(row, trials[row.id]) for row in rows]

    async def pause(self, who: Principal, study: str) -> Study:
        """Begin no further trial; those under way go on. Again changes nothing. Raises `StudyStateConflict`."""
        return await self._move(who, study, StudyState.PAUSED, (StudyState.RUNNING,))

    async def resume(self, who: Principal, study: str) -> Study:
        """Go on with a paused study. Again changes nothing. Raises `StudyStateConflict`."""
        return await self._move(who, study, StudyState.RUNNING, (StudyState.PAUSED,))

    async def cancel(self, who: Principal, study: str) -> Study:
        """End a study: the jobs of its trials are canceled. Again changes nothing. Raises `StudyStateConflict`."""
        return await self._move(who, study, StudyState.CANCELING, (StudyState.RUNNING, StudyState.PAUSED))

    @retrying
    async def _move(self, who: Principal, study: str, to: StudyState, when: tuple[StudyState, ...]) -> Study:
        seen = await self.find(who, study)
        async with self._db.unit_of_work() as uow:
            row = await uow.find(StudyRow, study, lock=True)
            if row.state != to:
                if row.state not in when and not (to is StudyState.CANCELING and row.state == StudyState.CANCELED):
                    raise StudyStateConflict(f"The study is {row.state}.")
                if row.state in when:
                    row.state, row.version = to.value, row.version + 1
                    await uow.audit(who.account, who.key, f"study.{to.value}", study)
        return study_view(row, seen.trials)


def command_of(spec: CreateStudy, value: dict[str, object]) -> SubmitJob:
    """The job of a trial, with this input: tried once, for a trial that fails says something too."""
    return SubmitJob(
        kind=spec.kind,
        input=value,
        max_price=spec.max_price,
        requirements=spec.requirements,
        clocks=spec.clocks,
        retry=RetryPolicy(attempts_max=1),
    )


def _invalid(field: str, message: str) -> AppError:
    return StudyInvalid(message, fields=(FieldError(field, message),))
