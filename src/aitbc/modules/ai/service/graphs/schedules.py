"""Schedules: graphs that are begun again and again, each time once.

What is due is begun in the transaction that moves the schedule to its next time, under the lock of its row: so no
process that dies, and no two that look at once, begin it twice or leave it out.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import takewhile

import msgspec
import structlog
from msgspec import structs
from sqlalchemy import func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.platform import Platform
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Conflict, FieldError, Invalid, NotFound, TooMany
from aitbc.modules.ai.models.graphs.check import check
from aitbc.modules.ai.models.graphs.cron import NotDue, due_times, next_due, zone_of
from aitbc.modules.ai.models.graphs.schedules import SCHEDULED_AT, CreateSchedule, Schedule, ScheduleRow, graph_of
from aitbc.modules.ai.models.graphs.shapes import RunGraph
from aitbc.modules.ai.service.graphs.commands import TooManyGraphs
from aitbc.modules.ai.service.graphs.graphs import Graphs, add_graph
from aitbc.modules.ai.service.graphs.watch import GraphWatch

SCHEDULES_MAX = 100
MISSED_AFTER = timedelta(seconds=60)
"""A time counts as missed once it is so long ago."""
AT_ONCE = 20
"""So many times of one schedule are made up for in one transaction; the rest follows."""
PAGE = 100
LOOKED_BACK_DAYS = (1, 40, 400)
log = structlog.get_logger("aitbc.ai")


class ScheduleNotFound(NotFound):
    """There is no such schedule."""

    code = "schedule_not_found"


class ScheduleInvalid(Invalid):
    """This schedule cannot be kept as it is written; the fields say why."""

    code = "schedule_invalid"


class ScheduleEnded(Conflict):
    """This schedule was removed."""

    code = "schedule_ended"


class TooManySchedules(TooMany):
    """An account has at most 100 schedules."""

    code = "too_many_schedules"


class Schedules:
    """Makes schedules, shows and changes them, and begins what is due."""

    def __init__(self, db: Database, graphs: Graphs, watch: GraphWatch, platform: Platform) -> None:
        self._db = db
        self._graphs = graphs
        self._watch = watch
        self._platform = platform

    @retrying
    async def create(self, who: Principal, command: CreateSchedule, once: IdempotencyKey) -> Schedule:
        """Run something again and again from now on.

        Raises `ScheduleInvalid`, `TooManySchedules`, and what a graph raises that cannot be run.
        """
        spec = _spec_of(command)
        first = _first(command)
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, Schedule)) is not None:
                return earlier
            kept = select(func.count()).select_from(ScheduleRow)
            kept = kept.where(ScheduleRow.account == who.account, ScheduleRow.state != "ended")
            if (await uow.session.scalar(kept) or 0) >= SCHEDULES_MAX:
                raise TooManySchedules
            row = ScheduleRow(
                id=ids.new_id("sched"),
                account=who.account,
                key=who.key,
                name=command.name,
                cron=command.cron,
                time_zone=command.time_zone,
                missed=command.missed,
                state="active",
                spec=msgspec.json.encode(spec).decode(),
                next_at=first,
                last_at=None,
                last_graph=None,
                runs=0,
                problem="",
                created_at=now(),
            )
            uow.add(row)
            await uow.audit(who.account, who.key, "schedule.create", row.id)
            return await uow.answer(once, _view(row))

    async def get(self, who: Principal, schedule: str) -> Schedule:
        """One schedule. Raises `ScheduleNotFound`."""
        async with self._db.unit_of_work() as uow:
            return _view(await self._find(uow, who, schedule))

    async def page(self, who: Principal, *, after: str | None, limit: int) -> Sequence[Schedule]:
        """The caller's schedules from the newest on, but those that were removed; an operator sees everybody's."""
        wanted = select(ScheduleRow).where(ScheduleRow.state != "ended").order_by(ScheduleRow.id.desc()).limit(limit)
        if not who.is_admin:
            wanted = wanted.where(ScheduleRow.account == who.account)
        if after is not None:
            wanted = wanted.where(ScheduleRow.id < after)
        async with self._db.reading() as session:
            return [_view(row) for row in await session.scalars(wanted)]

    async def pause(self, who: Principal, schedule: str) -> Schedule:
        """Begin nothing until it is resumed. Again changes nothing. Raises `ScheduleNotFound`, `ScheduleEnded`."""
        return await self._move(who, schedule, "paused")

    async def resume(self, who: Principal, schedule: str) -> Schedule:
        """Go on with the times from now on. Again changes nothing. Raises `ScheduleNotFound`, `ScheduleEnded`."""
        return await self._move(who, schedule, "active")

    async def remove(self, who: Principal, schedule: str) -> Schedule:
        """Begin nothing any more; what runs goes on. Again changes nothing. Raises `ScheduleNotFound`."""
        return await self._move(who, schedule, "ended")

    @retrying
    async def _move(self, who: Principal, schedule: str, state: str) -> Schedule:
        async with self._db.unit_of_work() as uow:
            row = await self._find(uow, who, schedule, lock=True)
            if row.state == "ended" and state != "ended":
                raise ScheduleEnded
            if row.state != state:
                row.state = state
                row.next_at = next_due(row.cron, row.time_zone, now()) if state == "active" else None
                await uow.audit(who.account, who.key, f"schedule.{state}", schedule)
            return _view(row)

    async def _find(self, uow: UnitOfWork, who: Principal, schedule: str, *, lock: bool = False) -> ScheduleRow:
        row = await uow.find(ScheduleRow, schedule, lock=lock, missing=ScheduleNotFound)
        if not who.owns(row.account):
            raise ScheduleNotFound
        return row

    # What is due

    async def begin_due(self) -> None:
        """Begin what is due. One schedule that cannot be kept must not keep the others."""
        due = select(ScheduleRow).where(ScheduleRow.state == "active", ScheduleRow.next_at <= now())
        async with self._db.reading() as session:
            rows = (await session.scalars(due.order_by(ScheduleRow.next_at).limit(PAGE))).all()
        for row in rows:
            try:
                is_live = await self._is_live(row)
                for graph in await self._begin(row.id, is_live=is_live):
                    self._watch.wake(graph)
            except AppError as error:
                log.warning("schedule_postponed", schedule=row.id, reason=error.message)
            except Exception:
                log.exception("schedule_stuck", schedule=row.id)

    async def _is_live(self, row: ScheduleRow) -> bool:
        """Whether the key that made it may still submit jobs."""
        who = Principal(row.account, row.key, "live", frozenset())
        try:
            key = await self._platform.identity.key(who, row.key)
        except NotFound:
            return False
        is_over = key.revoked_at is not None and key.revoked_at <= now()
        return not is_over and key.expires_at > now()

    @retrying
    async def _begin(self, schedule: str, *, is_live: bool) -> list[str]:
        """Begin what a schedule owes, and move it to its next time; answers the graphs."""
        async with self._db.unit_of_work() as uow:
            row = await uow.find(ScheduleRow, schedule, lock=True)
            at = now()
            if row.state != "active" or row.next_at is None or row.next_at > at:
                return []
            if not is_live:
                row.state, row.next_at, row.problem = "ended", None, "key_revoked"
                return []
            owed, reached = _owed(row, at)
            begun: list[str] = []
            for time in owed:
                try:
                    begun.append(await self._begin_one(uow, row, time))
                except TooManyGraphs as refusal:
                    row.problem = refusal.code
                    if row.missed == "all":  # it is tried again
                        row.next_at = time
                        return begun
                    break
            row.next_at = next_due(row.cron, row.time_zone, reached)
            return begun

    async def _begin_one(self, uow: UnitOfWork, row: ScheduleRow, time: datetime) -> str:
        await self._graphs.require_room(uow, row.account)
        spec = msgspec.json.decode(row.spec, type=RunGraph)
        spec = structs.replace(spec, inputs={**spec.inputs, SCHEDULED_AT: time.isoformat()})
        who = Principal(row.account, row.key, "live", frozenset())
        graph, _ = await add_graph(uow, who, spec, schedule=row.id)
        await uow.session.flush()
        row.last_at, row.last_graph, row.runs, row.problem = time, graph.id, row.runs + 1, ""
        return graph.id


def _owed(row: ScheduleRow, at: datetime) -> tuple[Sequence[datetime], datetime]:
    """The times for which something is to be begun now, and up to which time all is seen to then."""
    assert row.next_at is not None
    following = due_times(row.cron, row.time_zone, row.next_at)
    if row.missed == "all":
        times = [row.next_at]
        times += [
            time for time, _ in zip(takewhile(lambda time: time <= at, following), range(AT_ONCE - 1), strict=False)
        ]
        return times, times[-1]
    last = _last_due(row, at) or row.next_at
    is_missed = at - last > MISSED_AFTER
    return () if is_missed and row.missed == "skip" else (last,), max(last, at)


def _last_due(row: ScheduleRow, at: datetime) -> datetime | None:
    """The last time up to now that came after the next one of the row; looked for in ever longer stretches."""
    assert row.next_at is not None
    for days in LOOKED_BACK_DAYS:
        since = max(row.next_at, at - timedelta(days=days))
        found = list(takewhile(lambda time: time <= at, due_times(row.cron, row.time_zone, since)))
        if found or since == row.next_at:
            return found[-1] if found else None
    return None


def _spec_of(command: CreateSchedule) -> RunGraph:
    """The graph that is to be run, checked. Raises `ScheduleInvalid` and what the graph's check raises."""
    if (command.graph is None) == (command.job is None):
        _refuse("/graph", "Give either a graph or a job.")
    if command.job is not None:
        spec = graph_of(command.job)
    else:
        assert command.graph is not None
        spec = command.graph
    spec = structs.replace(spec, inputs={**spec.inputs, SCHEDULED_AT: ""})
    try:
        check(spec)
    except AppError as error:
        where = "/job" if command.graph is None else "/graph"
        fields = tuple(FieldError(f"{where}{_of_job(field.pointer, where)}", field.message) for field in error.fields)
        raise type(error)(error.message, fields=fields) from None
    return spec


def _of_job(pointer: str, where: str) -> str:
    return pointer.removeprefix("/nodes/0") if where == "/job" else pointer


def _first(command: CreateSchedule) -> datetime:
    try:
        zone_of(command.time_zone)
    except NotDue as trouble:
        _refuse("/time_zone", str(trouble))
    try:
        return next_due(command.cron, command.time_zone, now())
    except NotDue as trouble:
        raise ScheduleInvalid(str(trouble), fields=(FieldError("/cron", str(trouble)),)) from None


def _refuse(pointer: str, message: str) -> None:
    raise ScheduleInvalid(message, fields=(FieldError(pointer, message),))


def _view(row: ScheduleRow) -> Schedule:
    fields = {name: getattr(row, name) for name in Schedule.__struct_fields__ if name != "graph"}
    return Schedule(**fields, graph=msgspec.json.decode(row.spec, type=RunGraph))
