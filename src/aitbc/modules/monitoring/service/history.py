"""What monitors were like: rollups, changes, the overview, and what a status page shows."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.modules.monitoring.api import (
    ComponentStatus,
    DayStatus,
    Monitor,
    MonitorPoint,
    Overview,
    StateChange,
    StatusSummary,
    Window,
)
from aitbc.modules.monitoring.models.rollups import WIDTHS, start_of, uptime
from aitbc.modules.monitoring.models.standing import (
    BADNESS,
    DEGRADED,
    DOWN,
    MAINTENANCE,
    STATES,
    UNKNOWN,
    UP,
    worst,
)
from aitbc.modules.monitoring.models.tables import AlertRow, ChangeRow, RollupRow, WindowRow
from aitbc.modules.monitoring.service.alert_rules import alert_view
from aitbc.modules.monitoring.service.monitor_rows import Standings, window_view
from aitbc.modules.monitoring.service.monitors import find_row
from aitbc.modules.monitoring.service.retention import Retention

DAY = 86_400
SHOWN_MAX = 100
INCIDENTS_MAX = 50


class MonitorHistory:
    """Reads what was written down."""

    def __init__(self, db: Database, retention: Retention) -> None:
        self._db = db
        self._retention = retention

    async def points(self, monitor: str, width: str) -> Sequence[MonitorPoint]:
        """The rollups of a monitor, oldest first. Raises `MonitorNotFound`."""
        seconds = WIDTHS[width]
        async with self._db.reading() as session:
            row = find_row(await Standings.load(session), monitor)
            kept = (RollupRow.width == seconds, RollupRow.start > now() - self._retention.of_width(seconds))
            found = select(RollupRow).where(RollupRow.monitor == row.id, *kept).order_by(RollupRow.start)
            return [_point(one) for one in await session.scalars(found)]

    async def changes(
        self, *, monitor: str | None, limit: int, before: str | None, public_only: bool = False
    ) -> Sequence[StateChange]:
        """Changes of states, newest first; those older than the change `before`."""
        query = select(ChangeRow).order_by(ChangeRow.id.desc()).limit(limit)
        if before is not None:
            query = query.where(ChangeRow.id < before)
        if public_only:
            query = query.where(ChangeRow.is_public)
        async with self._db.reading() as session:
            if monitor is not None:
                query = query.where(ChangeRow.monitor == find_row(await Standings.load(session), monitor).id)
            return [_change(row) for row in await session.scalars(query)]

    async def overview(self) -> Overview:
        """What is wrong now."""
        async with self._db.reading() as session:
            standings = await Standings.load(session)
            firing = select(AlertRow).where(AlertRow.cleared_at.is_(None)).order_by(AlertRow.id.desc()).limit(SHOWN_MAX)
            alerts = [alert_view(row) for row in await session.scalars(firing)]
        monitors = standings.views()
        heard = [monitor for monitor in monitors if monitor.silenced_by is None]
        wrong = [monitor for monitor in monitors if monitor.state not in (UP, MAINTENANCE)]
        wrong.sort(key=lambda monitor: (monitor.silenced_by is not None, -BADNESS[monitor.state], monitor.name))
        return Overview(
            state=worst([monitor.state for monitor in heard]),
            at=standings.at,
            counts={state: sum(monitor.state == state for monitor in monitors) for state in STATES},
            wrong=wrong[:SHOWN_MAX],
            alerts=alerts,
        )

    async def status(self, days: int, *, public_only: bool) -> StatusSummary:
        """What a status page shows of so many days, today included."""
        async with self._db.reading() as session:
            standings = await Standings.load(session)
            shown = [monitor for monitor in standings.views() if monitor.public or not public_only]
            components = await _components(session, shown, days)
            planned = select(WindowRow).where(WindowRow.canceled_at.is_(None), WindowRow.ends_at > standings.at)
            rows = await session.scalars(planned.order_by(WindowRow.starts_at).limit(SHOWN_MAX))
            windows = [window_view(row, standings.at) for row in rows]
        names = {monitor.name for monitor in shown}
        incidents = await self.changes(monitor=None, limit=INCIDENTS_MAX, before=None, public_only=public_only)
        return StatusSummary(
            state=worst([component.state for component in components]),
            at=standings.at,
            components=components,
            incidents=[one for one in incidents if one.monitor in names and one.before != UNKNOWN],
            maintenance=[_of_these(one, names) for one in windows if not one.monitors or names & set(one.monitors)],
        )


def _of_these(window: Window, names: set[str]) -> Window:
    """A window without the names of monitors that are not shown."""
    return Window(
        id=window.id,
        title=window.title,
        monitors=[name for name in window.monitors if name in names],
        origin=window.origin,
        state=window.state,
        starts_at=window.starts_at,
        ends_at=window.ends_at,
    )


async def _components(session: AsyncSession, monitors: Sequence[Monitor], days: int) -> list[ComponentStatus]:
    today = start_of(now(), DAY)
    first = today - timedelta(days=days - 1)
    wanted = (RollupRow.width == DAY, RollupRow.start >= first)
    query = select(RollupRow).where(RollupRow.monitor.in_([one.id for one in monitors]), *wanted)
    by_monitor: dict[str, dict[int, RollupRow]] = defaultdict(dict)
    for row in await session.scalars(query):
        by_monitor[row.monitor][(row.start - first).days] = row
    found = []
    for monitor in monitors:
        rows = by_monitor[monitor.id]
        totals = [sum(getattr(row, name) for row in rows.values()) for name in (UP, DEGRADED, DOWN)]
        found.append(
            ComponentStatus(
                name=monitor.name,
                state=monitor.state,
                since=monitor.since,
                uptime=uptime(*totals),
                days=[_day(first.date() + timedelta(days=day), rows.get(day)) for day in range(days)],
            )
        )
    return found


def _day(day: date, row: RollupRow | None) -> DayStatus:
    if row is None:
        return DayStatus(day=day, state=UNKNOWN, uptime=None)
    state = next((one for one in (DOWN, DEGRADED, UP, MAINTENANCE) if getattr(row, one)), UNKNOWN)
    return DayStatus(day=day, state=state, uptime=uptime(row.up, row.degraded, row.down))


def _point(row: RollupRow) -> MonitorPoint:
    return MonitorPoint(
        start=row.start,
        up=row.up,
        degraded=row.degraded,
        down=row.down,
        maintenance=row.maintenance,
        uptime=uptime(row.up, row.degraded, row.down),
        average_seconds=round(row.seconds_sum / row.measured, 6) if row.measured else None,
        longest_seconds=round(row.seconds_max, 6) if row.measured else None,
    )


def _change(row: ChangeRow) -> StateChange:
    return StateChange(id=row.id, monitor=row.name, at=row.at, before=row.before, after=row.after, reason=row.reason)
