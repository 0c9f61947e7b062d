"""Monitors as people declare and read them; what is built in or declared in a file is changed there."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from msgspec import Struct, structs
from sqlalchemy import func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.platform import Egress
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, NotDone, TooMany
from aitbc.kernel.primitives.ids import is_id, new_id
from aitbc.modules.monitoring.api import Monitor, MonitorNotFound
from aitbc.modules.monitoring.models.declarations import API, WantedMonitor, address_of, refuse
from aitbc.modules.monitoring.models.standing import UNKNOWN
from aitbc.modules.monitoring.models.tables import MonitorRow
from aitbc.modules.monitoring.service.monitor_rows import Standings

MONITORS_MAX = 1000
"""How many monitors there may be."""


class MonitorExists(Conflict):
    """There is a monitor of this name already."""

    code = "monitor_exists"


class DeclaredElsewhere(Conflict):
    """This is built in, or declared in the file of declarations; change it there."""

    code = "declared_elsewhere"


class TooManyMonitors(TooMany):
    """There are as many monitors as there may be; remove one first."""

    code = "too_many_monitors"


class PushRefused(MonitorNotFound):
    """There is no push monitor with this token."""

    code = "push_refused"


class CreatedMonitor(Monitor, frozen=True, kw_only=True):
    """A new monitor; of a push monitor with its token, which is never shown again."""

    push_token: str | None = None
    """What comes with each push; null for other kinds. For example `3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAA`."""


class Pushed(Struct, frozen=True, kw_only=True):
    """A push was heard."""

    monitor: str
    """The monitor. For example `backup-job`."""
    works: bool
    """What it said. For example `true`."""


class Monitors:
    """Declares, lists and removes monitors."""

    def __init__(self, db: Database, egress: Egress | None) -> None:
        self._db = db
        self._egress = egress

    async def create(self, who: Principal, wanted: WantedMonitor, once: IdempotencyKey) -> CreatedMonitor:
        """Declare a monitor. Raises `MonitorExists`, `TooManyMonitors`, `UnusableDeclaration`, `DestinationRefused`."""
        self.check(wanted)
        async with self._db.unit_of_work() as uow:
            if (stored := await uow.replay(once, CreatedMonitor)) is not None:
                return stored
            existing = MonitorRow.removed_at.is_(None)
            if await uow.session.scalar(select(MonitorRow.id).where(existing, MonitorRow.name == wanted.name)):
                raise MonitorExists
            if (await uow.session.scalar(select(func.count()).where(existing)) or 0) >= MONITORS_MAX:
                raise TooManyMonitors
            token = secrets.token_urlsafe(24) if wanted.kind == "push" else None
            row = monitor_row(wanted, API, created_by=who.account)
            row.push_digest = None if token is None else _digest(token)
            uow.add(row)
            await uow.session.flush()
            await uow.audit(who.account, who.key, "monitor.create", row.name, after=structs.asdict(wanted))
            view = (await Standings.load(uow.session)).view(row)
            return await uow.answer(once, CreatedMonitor(**structs.asdict(view), push_token=token))

    def check(self, wanted: WantedMonitor) -> None:
        """Check what a monitor looks at. Raises `UnusableDeclaration`, `DestinationRefused`."""
        if wanted.kind in ("http", "tcp") and self._egress is None:
            raise NotDone("This process sends nothing outside.")
        if wanted.kind == "http" and self._egress is not None:
            self._egress.check(wanted.target)
        elif wanted.kind == "tcp" and self._egress is not None:
            self._egress.check_address(*address_of(wanted.target))
        elif wanted.kind == "push" and wanted.target:
            refuse("/target", "A push monitor looks nowhere; leave it out.")
        if wanted.name in wanted.parents:
            refuse("/parents", "It cannot depend on itself.")
        if wanted.timeout_seconds > wanted.interval_seconds:
            refuse("/timeout_seconds", "It must not be longer than interval_seconds.")

    async def list_all(self) -> Sequence[Monitor]:
        """Every monitor as it stands, by name."""
        async with self._db.reading() as session:
            return (await Standings.load(session)).views()

    async def get(self, monitor: str) -> Monitor:
        """One monitor, by its id or name. Raises `MonitorNotFound`."""
        async with self._db.reading() as session:
            standings = await Standings.load(session)
            return standings.view(find_row(standings, monitor))

    async def remove(self, who: Principal, monitor: str) -> Monitor:
        """Remove a monitor that was declared over the API. Raises `MonitorNotFound`, `DeclaredElsewhere`."""
        async with self._db.unit_of_work() as uow:
            standings = await Standings.load(uow.session)
            row = await _locked(uow, find_row(standings, monitor))
            if row.origin != API:
                raise DeclaredElsewhere
            view = standings.view(row)
            row.removed_at = now()
            await uow.audit(
                who.account, who.key, "monitor.remove", row.name, before={"kind": row.kind, "target": row.target}
            )
            return view

    async def push(self, token: str, *, works: bool, reason: str) -> Pushed:
        """Hear from what a push monitor watches. Raises `PushRefused` for a token that nobody has."""
        digest = _digest(token)
        async with self._db.unit_of_work() as uow:
            mine = (MonitorRow.push_digest == digest, MonitorRow.removed_at.is_(None))
            row = (await uow.session.scalars(select(MonitorRow).where(*mine).with_for_update())).one_or_none()
            if row is None or row.push_digest is None or not hmac.compare_digest(row.push_digest, digest):
                raise PushRefused
            row.pushed_at, row.pushed_works, row.pushed_reason = now(), works, reason[:200]
            row.due_at = now()
            return Pushed(monitor=row.name, works=works)


async def _locked(uow: UnitOfWork, row: MonitorRow) -> MonitorRow:
    return await uow.find(MonitorRow, row.id, lock=True, missing=MonitorNotFound)


def find_row(standings: Standings, monitor: str) -> MonitorRow:
    """The row of a monitor, by its id or name. Raises `MonitorNotFound`."""
    if is_id("mon", monitor):
        found = next((row for row in standings.rows if row.id == monitor), None)
    else:
        found = standings.by_name().get(monitor)
    if found is None:
        raise MonitorNotFound
    return found


def monitor_row(wanted: WantedMonitor, origin: str, *, created_by: str | None = None) -> MonitorRow:
    """The row of a monitor that nobody has looked at yet."""
    at = now()
    row = MonitorRow(id=new_id("mon"), origin=origin, created_by=created_by, created_at=at, due_at=at)
    row.state, row.state_since, row.candidate, row.streak, row.reason = UNKNOWN, at, None, 0, ""
    apply_wanted(row, wanted)
    return row


def apply_wanted(row: MonitorRow, wanted: WantedMonitor) -> None:
    """Make a row what is declared; how it stands stays."""
    row.name, row.kind, row.target = wanted.name, wanted.kind, wanted.target
    row.interval_seconds, row.timeout_seconds = wanted.interval_seconds, wanted.timeout_seconds
    row.slow_seconds, row.fall, row.rise = wanted.slow_seconds, wanted.fall, wanted.rise
    row.parents, row.is_public = list(wanted.parents), wanted.public


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
