"""Objectives (SLOs): what share is to be good, what is left of the error budget, and how fast it is used up."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct, structs
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, NotFound, TooMany
from aitbc.kernel.primitives.ids import is_id, new_id
from aitbc.modules.monitoring.api import OriginName
from aitbc.modules.monitoring.models.declarations import API, WantedObjective, check_objective
from aitbc.modules.monitoring.models.rollups import burn_rate
from aitbc.modules.monitoring.models.tables import FigureRow, MonitorRow, ObjectiveRow, RollupRow
from aitbc.modules.monitoring.service.monitors import DeclaredElsewhere

OBJECTIVES_MAX = 500
"""How many objectives there may be."""
FAST, SLOW = 14.4, 6.0
"""Burn rates that use up 2 % of 30 days' budget in an hour, and 5 % in six: what one is woken for."""


class ObjectiveNotFound(NotFound):
    """There is no such objective."""

    code = "objective_not_found"


class ObjectiveExists(Conflict):
    """There is an objective of this name already."""

    code = "objective_exists"


class TooManyObjectives(TooMany):
    """There are as many objectives as there may be; remove one first."""

    code = "too_many_objectives"


class BurnRates(Struct, frozen=True, kw_only=True):
    """How many times faster than allowed the error budget is used up; null where nobody looked."""

    five_minutes: float | None
    """In the last five minutes. For example `0.0`."""
    hour: float | None
    """In the last hour. For example `0.4`."""
    six_hours: float | None
    """In the last six hours. For example `0.2`."""
    three_days: float | None
    """In the last three days. For example `0.1`."""


class Objective(Struct, frozen=True, kw_only=True):
    """An objective, and how it is kept."""

    id: str
    """The objective. For example `slo_01k0000000000000000000000a`."""
    name: str
    """Its name, unique. For example `trading-99`."""
    monitor: str | None
    """The monitor, by its name; null where it is about a kind of work. For example `module/trading`."""
    work: str | None
    """The kind of work; null where it is about a monitor. For example `chat`."""
    target: float
    """The share of good looks that is aimed at. For example `0.99`."""
    window_days: int
    """Over how many days. For example `30`."""
    counts_degraded: bool
    """Whether degraded counts against it. For example `false`."""
    origin: OriginName
    """Where it was declared. For example `api`."""
    share: float | None
    """The share of good looks in the window; null where nobody looked. For example `0.9991`."""
    budget_left: float | None
    """What is left of the error budget, 1 for all of it, below 0 when it is overdrawn; null where nobody looked.
    For example `0.91`."""
    burn_rates: BurnRates
    """How fast it is used up."""
    is_burning: bool
    """Whether it is used up so fast that somebody should look: an hour at 14.4 times or six at 6 times what is allowed,
    and still so in the last five minutes. For example `false`."""


class Objectives:
    """Declares objectives, and tells how they are kept."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(self, who: Principal, wanted: WantedObjective, once: IdempotencyKey) -> Objective:
        """Declare an objective. Raises `ObjectiveExists`, `TooManyObjectives`, `UnusableDeclaration`."""
        check_objective(wanted)
        async with self._db.unit_of_work() as uow:
            if (stored := await uow.replay(once, Objective)) is not None:
                return stored
            existing = ObjectiveRow.removed_at.is_(None)
            if await uow.session.scalar(select(ObjectiveRow.id).where(existing, ObjectiveRow.name == wanted.name)):
                raise ObjectiveExists
            if (await uow.session.scalar(select(func.count()).where(existing)) or 0) >= OBJECTIVES_MAX:
                raise TooManyObjectives
            row = objective_row(wanted, API)
            row.created_by = who.account
            uow.add(row)
            await uow.session.flush()
            await uow.audit(who.account, who.key, "objective.create", row.name, after=structs.asdict(wanted))
            return await uow.answer(once, await _view(uow.session, row))

    async def list_all(self) -> Sequence[Objective]:
        """Every objective with how it is kept, by name."""
        query = select(ObjectiveRow).where(ObjectiveRow.removed_at.is_(None)).order_by(ObjectiveRow.name)
        async with self._db.reading() as session:
            return [await _view(session, row) for row in (await session.scalars(query)).all()]

    async def remove(self, who: Principal, objective: str) -> Objective:
        """Remove an objective that was declared over the API. Raises `ObjectiveNotFound`, `DeclaredElsewhere`."""
        mine = ObjectiveRow.id == objective if is_id("slo", objective) else ObjectiveRow.name == objective
        query = select(ObjectiveRow).where(mine, ObjectiveRow.removed_at.is_(None)).with_for_update()
        async with self._db.unit_of_work() as uow:
            row = (await uow.session.scalars(query)).one_or_none()
            if row is None:
                raise ObjectiveNotFound
            if row.origin != API:
                raise DeclaredElsewhere
            view = await _view(uow.session, row)
            row.removed_at = now()
            before = {"monitor": row.monitor, "work": row.work, "target": row.target}
            await uow.audit(who.account, who.key, "objective.remove", row.name, before=before)
            return view


def objective_row(wanted: WantedObjective, origin: str) -> ObjectiveRow:
    """The row of a new objective."""
    return ObjectiveRow(
        id=new_id("slo"),
        name=wanted.name,
        monitor=wanted.monitor,
        work=wanted.work,
        target=wanted.target,
        window_days=wanted.window_days,
        counts_degraded=wanted.counts_degraded,
        origin=origin,
        created_at=now(),
    )


async def _view(session: AsyncSession, row: ObjectiveRow) -> Objective:
    at = now()
    spans = {"five_minutes": (60, timedelta(minutes=5)), "hour": (60, timedelta(hours=1))}
    spans |= {"six_hours": (60, timedelta(hours=6)), "three_days": (3600, timedelta(days=3))}
    counts = {name: await _counts(session, row, width, at - span) for name, (width, span) in spans.items()}
    good, bad = await _counts(session, row, 86_400, at - timedelta(days=row.window_days))
    rates = BurnRates(**{name: burn_rate(*count, row.target) for name, count in counts.items()})
    spent = burn_rate(good, bad, row.target)
    return Objective(
        id=row.id,
        name=row.name,
        monitor=row.monitor,
        work=row.work,
        target=row.target,
        window_days=row.window_days,
        counts_degraded=row.counts_degraded,
        origin=row.origin,
        share=None if spent is None else round(good / (good + bad), 6),
        budget_left=None if spent is None else round(1 - spent, 4),
        burn_rates=rates,
        is_burning=_is_burning(rates),
    )


def work_figure(work: str, outcome: str) -> str:
    """The figure that counts how attempts at a kind of work ended lately."""
    return f'aitbc_attempts_lately{{kind="{work}",outcome="{outcome}"}}'


async def _counts(session: AsyncSession, row: ObjectiveRow, width: int, since: datetime) -> tuple[float, float]:
    """How much was good and bad since a time; looks while something was maintained count as neither.

    Attempts are read as often as figures are, each for five minutes: all count equally often, so that shares are right.
    """
    if row.work is not None:
        figures = [work_figure(row.work, outcome) for outcome in ("good", "bad")]
        query = select(FigureRow.name, func.sum(FigureRow.total)).where(
            FigureRow.name.in_(figures), FigureRow.width == width, FigureRow.start > since
        )
        found = {name: float(total) for name, total in await session.execute(query.group_by(FigureRow.name))}
        return found.get(figures[0], 0.0), found.get(figures[1], 0.0)
    named = select(MonitorRow.id).where(MonitorRow.name == row.monitor, MonitorRow.removed_at.is_(None))
    monitor = await session.scalar(named)
    sums = [total(column) for column in (RollupRow.up, RollupRow.degraded, RollupRow.down)]
    where = (RollupRow.monitor == monitor, RollupRow.width == width, RollupRow.start > since)
    up, degraded, down = (int(value) for value in (await session.execute(select(*sums).where(*where))).one())
    return (up, degraded + down) if row.counts_degraded else (up + degraded, down)


def _is_burning(rates: BurnRates) -> bool:
    lately, hour, six = rates.five_minutes or 0.0, rates.hour or 0.0, rates.six_hours or 0.0
    return (hour >= FAST and lately >= FAST) or (six >= SLOW and lately >= SLOW)
