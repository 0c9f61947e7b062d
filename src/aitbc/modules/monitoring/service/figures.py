"""Figures: the metrics of all processes, read at an interval, and the history of those that somebody asks about."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.outbox import Event
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives.clock import now
from aitbc.modules.monitoring.models.rollups import WIDTHS, start_of
from aitbc.modules.monitoring.models.tables import FigureRow
from aitbc.modules.monitoring.service.probes import Probes

DEFAULTS = (
    'aitbc_jobs{state="queued"}',
    'aitbc_jobs{state="running"}',
    'aitbc_miners{state="online"}',
    "aitbc_ledger_holds",
    "aitbc_ledger_unsealed",
    "aitbc_block_age_seconds",
    'aitbc_events{state="pending"}',
)
"""Figures whose history is always kept."""
EVENT_WINDOW = timedelta(minutes=5)
"""Over what time events are counted for a rule."""
_LARGEST = ("_seconds", "_ratio")
"""Figures whose name ends so are not added up: the largest of them counts."""
_LABEL = re.compile(r'([a-z_]+)="([^"\\]*)"')


def value_of(samples: Mapping[str, float], target: str) -> float | None:
    """The value of a figure: that of every sample with its labels, added up; none where nothing is known of it."""
    name, _, labels = target.partition("{")
    wanted = set(_LABEL.findall(labels))
    found = [
        value
        for sample, value in samples.items()
        if sample.partition("{")[0] == name and wanted <= set(_LABEL.findall(sample.partition("{")[2]))
    ]
    if not found:
        return 0.0 if any(sample.partition("{")[0] == name for sample in samples) else None
    return max(found) if name.endswith(_LARGEST) else sum(found)


def event_figure(kind: str) -> str:
    """Under which name the events of a kind are counted."""
    return f"event:{kind}"


class Figures:
    """Reads the figures of the installation, and keeps the history of some."""

    def __init__(self, db: Database, probes: Probes) -> None:
        self._db = db
        self._probes = probes

    async def read(self) -> Mapping[str, float]:
        """Every figure as it is now."""
        return await self._probes.installation.figures()

    async def keep(self, samples: Mapping[str, float], targets: Iterable[str]) -> None:
        """Add the values of some figures to their history."""
        values = {target: value_of(samples, target) for target in {*DEFAULTS, *targets}}
        known = {name: value for name, value in values.items() if value is not None}
        if known:
            async with self._db.unit_of_work() as uow:
                await _add(uow, known, now())

    async def count_events(self, uow: UnitOfWork, events: Sequence[Event]) -> None:
        """Count events by their kinds."""
        counts: dict[str, float] = {}
        for event in events:
            counts[event_figure(event.kind)] = counts.get(event_figure(event.kind), 0.0) + 1
        await _add(uow, counts, now(), summed=True)

    async def events_lately(self) -> Mapping[str, float]:
        """How many events of each kind came in the last minutes, by the name of the figure."""
        since = start_of(now() - EVENT_WINDOW, 60)
        query = select(FigureRow.name, func.sum(FigureRow.total)).where(
            FigureRow.width == 60, FigureRow.start >= since, FigureRow.name.startswith("event:")
        )
        async with self._db.reading() as session:
            return {name: float(total) for name, total in await session.execute(query.group_by(FigureRow.name))}

    async def hours(self, name: str, hours: int) -> Sequence[float | None]:
        """The averages of a figure in the last full hours, oldest first; none for an hour without a value."""
        end = start_of(now(), 3600)
        first = end - timedelta(hours=hours)
        query = select(FigureRow.start, FigureRow.total / FigureRow.count).where(
            FigureRow.name == name, FigureRow.width == 3600, FigureRow.start >= first, FigureRow.start < end
        )
        async with self._db.reading() as session:
            known = {start: float(value) for start, value in await session.execute(query)}
        values = [known.get(first + timedelta(hours=hour)) for hour in range(hours)]
        while values and values[0] is None:
            values.pop(0)
        return values


async def _add(uow: UnitOfWork, values: Mapping[str, float], at: datetime, *, summed: bool = False) -> None:
    """Add one value of each figure to its minute, hour and day, in the order of their keys."""
    rows = [
        {"name": name, "width": width, "start": start_of(at, width), "count": 1, "total": value}
        | {"low": value, "high": value, "last": value}
        for name, value in sorted(values.items())
        for width in sorted(WIDTHS.values())
    ]
    wanted = insert(FigureRow).values(rows)
    new = wanted.excluded
    await uow.session.execute(
        wanted.on_conflict_do_update(
            index_elements=["name", "width", "start"],
            set_={
                "count": FigureRow.count + (0 if summed else 1),
                "total": FigureRow.total + new.total,
                "low": func.least(FigureRow.low, new.low),
                "high": func.greatest(FigureRow.high, new.high),
                "last": new.last,
            },
        )
    )
