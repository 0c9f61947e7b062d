"""Monitors as rows: what they show, and what of them is due, maintained or silenced."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from aitbc.kernel.primitives.clock import now
from aitbc.modules.monitoring.api import Monitor, Window
from aitbc.modules.monitoring.models.standing import DOWN, MAINTENANCE, is_stale, shown_state
from aitbc.modules.monitoring.models.tables import MonitorRow, WindowRow

PARENTS_DEEP_MAX = 10
"""How far a chain of dependencies is followed; one that leads back to itself ends there."""


class Standings:
    """All monitors at one moment: what each of them shows, and what silences it."""

    def __init__(self, rows: Sequence[MonitorRow], windows: Sequence[WindowRow], at: datetime) -> None:
        self.rows = rows
        self.at = at
        self._by_name = {row.name: row for row in rows}
        self._shown = {row.name: self._state_of(row, windows) for row in rows}

    @classmethod
    async def load(cls, session: AsyncSession) -> "Standings":
        """All that there is now."""
        at = now()
        rows = (await session.scalars(select(MonitorRow).where(MonitorRow.removed_at.is_(None)))).all()
        return cls(sorted(rows, key=lambda row: row.name), await active_windows(session, at), at)

    def _state_of(self, row: MonitorRow, windows: Sequence[WindowRow]) -> str:
        stale = is_stale(row.checked_at, row.interval_seconds, row.timeout_seconds, self.at)
        return shown_state(row.state, is_stale=stale, in_maintenance=is_maintained(row.name, windows))

    def state(self, name: str) -> str | None:
        """What a monitor shows; none for one that there is not."""
        return self._shown.get(name)

    def silenced_by(self, row: MonitorRow) -> str | None:
        """The nearest monitor that this one depends on and that is down or maintained; none where there is none."""
        seen, names = {row.name}, list(row.parents)
        for _ in range(PARENTS_DEEP_MAX):
            further: list[str] = []
            for name in names:
                if name in seen or name not in self._by_name:
                    continue
                seen.add(name)
                if self._shown[name] in (DOWN, MAINTENANCE):
                    return name
                further += self._by_name[name].parents
            if not further:
                return None
            names = further
        return None

    def view(self, row: MonitorRow) -> Monitor:
        """A monitor as everybody sees it."""
        return Monitor(
            id=row.id,
            name=row.name,
            kind=row.kind,
            target=row.target,
            origin=row.origin,
            state=self._shown[row.name],
            since=row.state_since,
            checked_at=row.checked_at,
            response_seconds=row.seconds,
            reason=row.reason,
            silenced_by=self.silenced_by(row),
            parents=list(row.parents),
            interval_seconds=row.interval_seconds,
            timeout_seconds=row.timeout_seconds,
            slow_seconds=row.slow_seconds,
            fall=row.fall,
            rise=row.rise,
            public=row.is_public,
            created_at=row.created_at,
        )

    def views(self) -> list[Monitor]:
        """All of them, by name."""
        return [self.view(row) for row in self.rows]

    def by_name(self) -> Mapping[str, MonitorRow]:
        """The rows by their names."""
        return self._by_name


async def active_windows(session: AsyncSession, at: datetime) -> Sequence[WindowRow]:
    """The maintenance that goes on at a moment."""
    goes_on = (WindowRow.canceled_at.is_(None), WindowRow.starts_at <= at, WindowRow.ends_at > at)
    return (await session.scalars(select(WindowRow).where(*goes_on))).all()


def is_maintained(name: str, windows: Sequence[WindowRow]) -> bool:
    """Whether one of these windows concerns a monitor."""
    return any(not window.monitors or name in window.monitors for window in windows)


def window_view(row: WindowRow, at: datetime) -> Window:
    """A maintenance window as everybody sees it."""
    if row.canceled_at is not None:
        state = "canceled"
    else:
        state = "planned" if at < row.starts_at else "active" if at < row.ends_at else "over"
    return Window(
        id=row.id,
        title=row.title,
        monitors=list(row.monitors),
        origin=row.origin,
        state=state,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
    )
