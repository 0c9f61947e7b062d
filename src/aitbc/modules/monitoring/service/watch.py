"""Looks at what is due, each look in a task of its own, so that one that hangs delays nobody."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import select

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc.modules.monitoring.models.declarations import BUILT_IN
from aitbc.modules.monitoring.models.standing import Look
from aitbc.modules.monitoring.models.tables import MonitorRow
from aitbc.modules.monitoring.service.probes import Probes
from aitbc.modules.monitoring.service.recording import Recorder

IN_FLIGHT_MAX = 200
"""How many looks go on at once, without those at the installation's own parts."""
SOON_SECONDS = 0.25
"""How long a tick waits for looks that it began; what takes longer is written down by a later one."""


class Watch:
    """Begins the looks that are due, and has what they found written down."""

    def __init__(self, db: Database, probes: Probes, recorder: Recorder) -> None:
        self._db = db
        self._probes = probes
        self._recorder = recorder
        self._in_flight: dict[str, asyncio.Task[Look]] = {}

    async def tick(self) -> None:
        """Begin what is due, and write down what has ended; a periodic task."""
        for row in await self._due():
            if row.id not in self._in_flight:
                self._in_flight[row.id] = asyncio.create_task(self._probes.look(row))
        if self._in_flight:
            await asyncio.wait(self._in_flight.values(), timeout=SOON_SECONDS)
        await self._record()

    async def finish(self) -> None:
        """Wait for every look that was begun, and write it down: each ends in its time limit."""
        if self._in_flight:
            await asyncio.wait(self._in_flight.values())
        await self._record()

    async def stop(self) -> None:
        """Give up what goes on."""
        await cancel_and_wait(list(self._in_flight.values()))
        self._in_flight.clear()

    async def _record(self) -> None:
        done = {monitor: task for monitor, task in self._in_flight.items() if task.done()}
        await self._recorder.record([(monitor, task.result()) for monitor, task in done.items()])
        for monitor in done:  # only now: what could not be written is written by the next tick
            del self._in_flight[monitor]

    async def _due(self) -> Sequence[MonitorRow]:
        """Take the monitors that are due, and put each off by its interval, so that nobody else takes it."""
        at = now()
        waiting = (MonitorRow.removed_at.is_(None), MonitorRow.due_at <= at)
        if not await self._db.is_any("monitoring.monitors WHERE removed_at IS NULL AND due_at <= $1", at):
            return []
        free = IN_FLIGHT_MAX - len(self._in_flight)
        async with self._db.unit_of_work() as uow:
            due = select(MonitorRow).where(*waiting)
            mine = due.order_by(MonitorRow.origin != BUILT_IN, MonitorRow.due_at, MonitorRow.id).limit(IN_FLIGHT_MAX)
            taken = []
            for row in await uow.session.scalars(mine.with_for_update(skip_locked=True)):
                if row.origin != BUILT_IN and free <= 0:
                    continue
                free -= row.origin != BUILT_IN
                row.due_at = at + timedelta(seconds=row.interval_seconds)
                taken.append(row)
            return taken
