"""What is built in or declared in a file becomes rows: the file is read again when it changes, without a restart."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import select

from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.platform import InstalledPart
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.ids import new_id
from aitbc.modules.monitoring.models.class_tables import ServiceClassRow
from aitbc.modules.monitoring.models.declaration_file import Declarations, read_declarations
from aitbc.modules.monitoring.models.declarations import (
    BUILT_IN,
    FILE,
    UnusableDeclaration,
    WantedMonitor,
    WantedObjective,
    WantedRule,
    WantedWindow,
    check_objective,
    check_rule,
)
from aitbc.modules.monitoring.models.service_classes import check_class
from aitbc.modules.monitoring.models.tables import MonitorRow, ObjectiveRow, RuleRow, WindowRow
from aitbc.modules.monitoring.service.alert_rules import apply_rule, rule_row
from aitbc.modules.monitoring.service.monitors import Monitors, apply_wanted, monitor_row
from aitbc.modules.monitoring.service.objectives import objective_row
from aitbc.modules.monitoring.service.probes import Probes
from aitbc.modules.monitoring.service.service_classes import sync_classes
from aitbc.modules.monitoring.service.settings import MonitoringSettings
from aitbc.modules.monitoring.service.windows import check_window, window_row

FILE_BYTES_MAX = 1 << 20
BUILT_IN_RULES = (
    WantedRule(name="parts-down", source="monitor", target="*", threshold=1.5, severity="critical", group="monitors"),
    WantedRule(name="ledger-drift", source="figure", target="aitbc_ledger_drift", threshold=0, severity="critical"),
    WantedRule(name="events-stuck", source="figure", target="aitbc_events_stuck", threshold=0, severity="critical"),
    WantedRule(name="events-dead", source="figure", target='aitbc_events{state="dead"}', threshold=0),
)
"""What everybody is told of who does not say otherwise."""

log = structlog.get_logger("aitbc.monitoring")


class Declared:
    """Keeps the rows of what is built in and of the file of declarations as they are declared."""

    def __init__(self, db: Database, monitors: Monitors, probes: Probes, settings: MonitoringSettings) -> None:
        self._db = db
        self._monitors = monitors
        self._probes = probes
        self._settings = settings
        self._seen: tuple[Any, ...] | None = None

    async def sync(self) -> bool:
        """Bring the rows up to date; whether something changed. A fault in the file leaves all as it is."""
        parts = tuple(self._probes.installation.parts())
        seen = (parts, _mark_of(self._settings.file))
        if seen == self._seen:
            return False
        declarations, fault = self._read()
        self._probes.declarations_fault = fault
        async with self._db.unit_of_work() as uow:
            await self._sync_built_in(uow, parts)
        if declarations is not None:
            try:
                async with self._db.unit_of_work() as uow:
                    await self._sync_file(uow, declarations)
            except UnusableDeclaration as error:
                self._probes.declarations_fault = f"The file of declarations is not used: {error}"
        self._seen = seen
        return True

    def _read(self) -> tuple[Declarations | None, str]:
        """What the file declares, or why it cannot be used."""
        if self._settings.file is None:
            return Declarations(), ""
        try:
            if self._settings.file.stat().st_size > FILE_BYTES_MAX:
                raise UnusableDeclaration(f"It has more than {FILE_BYTES_MAX} bytes.")
            found = read_declarations(self._settings.file.read_bytes())
            for monitor in found.monitors:
                _naming(monitor.name, partial(self._check, monitor))
            for objective in found.objectives:
                _naming(objective.name, partial(check_objective, objective))
            for rule in found.rules:
                _naming(rule.name, partial(check_rule, rule))
            for window in found.windows:
                _naming(window.title, partial(check_window, window))
            for one in found.service_classes:
                _naming(one.name, partial(check_class, one))
        except (OSError, AppError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            log.error("declarations_unusable", file=str(self._settings.file), reason=reason)
            return None, f"The file of declarations is not used: {reason}"
        return found, ""

    def _check(self, monitor: WantedMonitor) -> None:
        if monitor.kind == "push":
            raise UnusableDeclaration("A push monitor needs a token, which only the API makes.")
        self._monitors.check(monitor)

    async def _sync_built_in(self, uow: UnitOfWork, parts: Sequence[InstalledPart]) -> None:
        wanted = {f"{part.kind}/{part.name}": (part.kind, part.name) for part in parts}
        wanted |= {"miners": ("miners", ""), "declarations": ("declarations", "")}
        rows = await _rows(uow, MonitorRow, BUILT_IN)
        parents = _parents_of(wanted)
        for name, (kind, target) in sorted(wanted.items()):
            row = rows.get(name)
            if row is None:
                row = monitor_row(WantedMonitor(name=name, kind="push"), BUILT_IN)
                uow.add(row)
            row.kind, row.target, row.parents = kind, target, parents[name]
            row.interval_seconds, row.timeout_seconds = self._settings.interval_seconds, self._settings.timeout_seconds
            row.slow_seconds = self._settings.slow_seconds
            row.is_public = kind == "module"
        _remove(rows, wanted)
        rules = await _rows(uow, RuleRow, BUILT_IN)
        _apply_rules(uow, rules, BUILT_IN_RULES, BUILT_IN)

    async def _sync_file(self, uow: UnitOfWork, found: Declarations) -> None:
        for table, things in (
            *((MonitorRow, found.monitors), (RuleRow, found.rules), (ObjectiveRow, found.objectives)),
            (ServiceClassRow, found.service_classes),
        ):
            await _refuse_taken(uow, table, [thing.name for thing in things])
        monitors = await _rows(uow, MonitorRow, FILE)
        for monitor in found.monitors:
            if monitor.name in monitors:
                apply_wanted(monitors[monitor.name], monitor)
            else:
                uow.add(monitor_row(monitor, FILE))
        _remove(monitors, {one.name for one in found.monitors})
        _apply_rules(uow, await _rows(uow, RuleRow, FILE), found.rules, FILE)
        await _sync_objectives(uow, found.objectives)
        await _sync_windows(uow, found.windows)
        sync_classes(uow, await _rows(uow, ServiceClassRow, FILE), found.service_classes)


def _naming(name: str, check: Callable[[], object]) -> None:
    """Run a check; its error names what it is about."""
    try:
        check()
    except AppError as error:
        raise UnusableDeclaration(f"{name}: {error}") from None


def _mark_of(file: Path | None) -> tuple[int, int] | None:
    """What tells that a file changed."""
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


def _parents_of(wanted: Mapping[str, tuple[str, str]]) -> dict[str, list[str]]:
    """A module depends on its database, and a database on that of the kernel."""
    kernel = "database/kernel"
    parents: dict[str, list[str]] = {}
    for name, (kind, target) in wanted.items():
        above = {"module": f"database/{target}", "database": kernel, "miners": "module/gpu"}.get(kind)
        parents[name] = [above] if above is not None and above in wanted and above != name else []
    return parents


async def _rows(uow: UnitOfWork, table: Any, origin: str) -> dict[str, Any]:
    query = select(table).where(table.origin == origin, table.removed_at.is_(None)).order_by(table.id)
    return {row.name: row for row in await uow.session.scalars(query.with_for_update())}


async def _refuse_taken(uow: UnitOfWork, table: Any, names: Sequence[str]) -> None:
    """Raise `UnusableDeclaration` for a name that is declared elsewhere too."""
    taken = select(table.name).where(table.origin != FILE, table.removed_at.is_(None), table.name.in_(names))
    if (name := await uow.session.scalar(taken.limit(1))) is not None:
        raise UnusableDeclaration(f"{name} is built in, or was declared over the API.")


def _remove(rows: Mapping[str, Any], wanted: Any) -> None:
    for name, row in rows.items():
        if name not in wanted:
            row.removed_at = now()


def _apply_rules(uow: UnitOfWork, rows: Mapping[str, RuleRow], wanted: Sequence[WantedRule], origin: str) -> None:
    for rule in wanted:
        if rule.name in rows:
            apply_rule(rows[rule.name], rule)
        else:
            uow.add(rule_row(rule, origin))
    _remove(rows, {rule.name for rule in wanted})


async def _sync_objectives(uow: UnitOfWork, wanted: Sequence[WantedObjective]) -> None:
    rows = await _rows(uow, ObjectiveRow, FILE)
    for one in wanted:
        row = rows.get(one.name)
        if row is None:
            uow.add(objective_row(one, FILE))
        else:
            row.monitor, row.work, row.target = one.monitor, one.work, one.target
            row.window_days, row.counts_degraded = one.window_days, one.counts_degraded
    _remove(rows, {one.name for one in wanted})


async def _sync_windows(uow: UnitOfWork, wanted: Sequence[WantedWindow]) -> None:
    """A window is known by its title and times: one that is gone from the file is canceled."""
    live = select(WindowRow).where(WindowRow.origin == FILE, WindowRow.canceled_at.is_(None), WindowRow.ends_at > now())
    rows = {(row.title, row.starts_at, row.ends_at): row for row in await uow.session.scalars(live.with_for_update())}
    for one in wanted:
        row = rows.pop((one.title, one.starts_at, one.ends_at), None)
        if row is not None:
            row.monitors = list(one.monitors)
        elif one.ends_at > now():
            uow.add(window_row(one, FILE, new_id("mwin")))
    for row in rows.values():
        row.canceled_at = now()
