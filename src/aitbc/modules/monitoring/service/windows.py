"""Maintenance windows: planned, listed, and called off."""

from collections.abc import Sequence
from datetime import timedelta

from msgspec import to_builtins
from sqlalchemy import func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, NotFound, TooMany
from aitbc.kernel.primitives.ids import new_id
from aitbc.modules.monitoring.api import Window
from aitbc.modules.monitoring.models.declarations import API, WantedWindow, refuse
from aitbc.modules.monitoring.models.tables import WindowRow
from aitbc.modules.monitoring.service.monitor_rows import window_view
from aitbc.modules.monitoring.service.monitors import DeclaredElsewhere

LONGEST = timedelta(days=30)
WINDOWS_MAX = 1000
"""How many windows may be planned or active."""


class WindowNotFound(NotFound):
    """There is no such maintenance window."""

    code = "window_not_found"


class WindowOver(Conflict):
    """This maintenance is over, or was canceled."""

    code = "window_over"


class TooManyWindows(TooMany):
    """As much maintenance is planned as can be; cancel some first."""

    code = "too_many_windows"


class Windows:
    """Plans and cancels maintenance."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(self, who: Principal, wanted: WantedWindow, once: IdempotencyKey) -> Window:
        """Plan maintenance. Raises `UnusableDeclaration`, `TooManyWindows`."""
        check_window(wanted)
        async with self._db.unit_of_work() as uow:
            if (stored := await uow.replay(once, Window)) is not None:
                return stored
            if wanted.ends_at <= now():
                refuse("/ends_at", "It must lie in the future.")
            open_ones = (WindowRow.canceled_at.is_(None), WindowRow.ends_at > now())
            if (await uow.session.scalar(select(func.count()).where(*open_ones)) or 0) >= WINDOWS_MAX:
                raise TooManyWindows
            row = window_row(wanted, API, new_id("mwin"))
            row.created_by = who.account
            uow.add(row)
            await uow.audit(
                who.account, who.key, "maintenance.plan", row.id, after=to_builtins(window_view(row, now()))
            )
            return await uow.answer(once, window_view(row, now()))

    async def list_page(self, limit: int, before: str | None) -> Sequence[Window]:
        """Windows from the newest plan on; those made before the window `before`."""
        query = select(WindowRow).order_by(WindowRow.id.desc()).limit(limit)
        if before is not None:
            query = query.where(WindowRow.id < before)
        async with self._db.reading() as session:
            return [window_view(row, now()) for row in await session.scalars(query)]

    async def cancel(self, who: Principal, window: str) -> Window:
        """Call maintenance off, or end it now. Raises `WindowNotFound`, `WindowOver`, `DeclaredElsewhere`."""
        async with self._db.unit_of_work() as uow:
            row = await uow.find(WindowRow, window, lock=True, missing=WindowNotFound)
            if row.origin != API:
                raise DeclaredElsewhere
            before = window_view(row, now())
            if before.state == "canceled":
                return before
            if before.state == "over":
                raise WindowOver
            row.canceled_at = now()
            await uow.audit(
                who.account,
                who.key,
                "maintenance.cancel",
                row.id,
                before={"state": before.state},
                after={"state": "canceled"},
            )
            return window_view(row, now())


def check_window(wanted: WantedWindow) -> None:
    """Check the times of a window. Raises `UnusableDeclaration`."""
    if wanted.starts_at.tzinfo is None or wanted.ends_at.tzinfo is None:
        refuse("/starts_at", "Both times need an offset, as in 2030-01-31T12:00:00Z.")
    if wanted.ends_at <= wanted.starts_at:
        refuse("/ends_at", "It must lie after starts_at.")
    if wanted.ends_at - wanted.starts_at > LONGEST:
        refuse("/ends_at", f"It must lie within {LONGEST.days} days of starts_at.")


def window_row(wanted: WantedWindow, origin: str, id_: str) -> WindowRow:
    """The row of a new window."""
    return WindowRow(
        id=id_,
        title=wanted.title,
        monitors=list(wanted.monitors),
        origin=origin,
        starts_at=wanted.starts_at,
        ends_at=wanted.ends_at,
        created_at=now(),
    )
