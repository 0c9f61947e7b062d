"""Writes down what looks found: states with their hysteresis, changes, and rollups, in one transaction a batch."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.ids import new_id
from aitbc.modules.monitoring.events import MonitorChanged
from aitbc.modules.monitoring.models.rollups import COUNTED, rolled_up
from aitbc.modules.monitoring.models.standing import MAINTENANCE, Look, Standing
from aitbc.modules.monitoring.models.tables import ChangeRow, MonitorRow, RollupRow
from aitbc.modules.monitoring.service.monitor_rows import active_windows, is_maintained
from aitbc.modules.monitoring.service.retention import Retention

STEP = 5000
"""How many old rows one statement deletes at most."""


class Recorder:
    """Keeps what looks found."""

    def __init__(self, db: Database, retention: Retention) -> None:
        self._db = db
        self._retention = retention

    @retrying
    async def record(self, looks: Sequence[tuple[str, Look]]) -> None:
        """Write down looks at monitors, by their ids; those of monitors that are gone are dropped."""
        if not looks:
            return
        async with self._db.unit_of_work() as uow:
            wanted = select(MonitorRow).where(MonitorRow.id.in_(sorted({one for one, _ in looks})))
            live = wanted.where(MonitorRow.removed_at.is_(None)).order_by(MonitorRow.id).with_for_update()
            rows = {row.id: row for row in await uow.session.scalars(live)}
            windows = await active_windows(uow.session, now())
            counted = []
            for monitor, look in sorted(looks, key=lambda one: one[1].at):
                row = rows.get(monitor)
                if row is None:
                    continue
                seen = look.state(row.slow_seconds)
                shown = MAINTENANCE if is_maintained(row.name, windows) else seen
                counted.append((monitor, look.at, shown, look.seconds))
                _apply(uow, row, look, seen)
            if counted:
                await uow.session.execute(_added(rolled_up(counted)))

    async def purge(self) -> None:
        """Delete what is older than its retention, in bounded steps."""
        async with self._db.raw(writes=True) as connection:
            for table, column, where, kept in self._retention.purges():
                await connection.execute(
                    f"DELETE FROM monitoring.{table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM monitoring.{table} "  # noqa: S608
                    f"WHERE {where} AND {column} < $1::timestamptz LIMIT {STEP}))",
                    now() - kept,
                )


def _apply(uow: UnitOfWork, row: MonitorRow, look: Look, seen: str) -> None:
    """Bring a monitor's row to what a look found."""
    standing = Standing(state=row.state, since=row.state_since, candidate=row.candidate, streak=row.streak)
    after = standing.after(seen, look.at, fall=row.fall, rise=row.rise)
    row.checked_at, row.seconds, row.works, row.reason = look.at, look.seconds, look.works, look.reason
    if after.state != row.state:
        uow.add(
            ChangeRow(
                id=new_id("mchg"),
                monitor=row.id,
                name=row.name,
                at=look.at,
                before=row.state,
                after=after.state,
                reason=look.reason,
                is_public=row.is_public,
            )
        )
        uow.publish(
            MonitorChanged(
                monitor=row.id,
                name=row.name,
                before=row.state,
                after=after.state,
                reason=look.reason,
                changed_at=look.at,
            )
        )
    row.state, row.state_since, row.candidate, row.streak = after.state, after.since, after.candidate, after.streak


def _added(rows: Sequence[dict[str, Any]]) -> Any:
    """The statement that adds rollups to those that are there."""
    wanted = insert(RollupRow).values(list(rows))
    new = wanted.excluded
    added = {name: getattr(RollupRow, name) + new[name] for name in (*COUNTED, "measured", "seconds_sum")}
    longest = func.greatest(RollupRow.seconds_max, new.seconds_max)
    return wanted.on_conflict_do_update(
        index_elements=["monitor", "width", "start"], set_={**added, "seconds_max": longest}
    )
