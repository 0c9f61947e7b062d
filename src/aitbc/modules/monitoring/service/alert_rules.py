"""Alert rules as people declare and read them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Struct, structs
from sqlalchemy import func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, NotFound, TooMany
from aitbc.kernel.primitives.ids import is_id, new_id
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.modules.monitoring.api import Alert, OriginName
from aitbc.modules.monitoring.models.declarations import API, WantedRule, check_rule
from aitbc.modules.monitoring.models.tables import AlertRow, RuleRow
from aitbc.modules.monitoring.service.monitors import DeclaredElsewhere

RULES_MAX = 1000
"""How many rules there may be."""


class RuleNotFound(NotFound):
    """There is no such alert rule."""

    code = "alert_rule_not_found"


class RuleExists(Conflict):
    """There is an alert rule of this name already."""

    code = "alert_rule_exists"


class TooManyRules(TooMany):
    """There are as many alert rules as there may be; remove one first."""

    code = "too_many_alert_rules"


class AlertRule(Struct, frozen=True, kw_only=True):
    """When somebody is told."""

    id: str
    """The rule. For example `arul_01k0000000000000000000000a`."""
    name: str
    """Its name, unique. For example `site-down`."""
    source: Annotated[str, one_of(("monitor", "figure", "event", "objective"))]
    """What it looks at. For example `monitor`."""
    target: str
    """The monitor or `*`, the metric, or the type of event. For example `site`."""
    direction: Annotated[str, one_of(("above", "below"))]
    """On which side of `fire_at` values are bad. For example `above`."""
    fire_at: float
    """Beyond this a value is bad. For example `1.5`."""
    clear_at: float
    """From here on it is good again. For example `1.5`."""
    for_seconds: float
    """How many seconds it must be bad, or unknown, before the alert fires. For example `60.0`."""
    clear_seconds: float
    """How many seconds it must be good before the alert is cleared. For example `300.0`."""
    severity: Annotated[str, one_of(("info", "warning", "critical"))]
    """How bad that is. For example `warning`."""
    group: str
    """Alerts of one group that fire together are told together. For example `monitoring`."""
    mail: bool
    """Whether it is also told by e-mail. For example `true`."""
    origin: OriginName
    """Where it was declared. For example `api`."""
    created_at: datetime
    """When it was declared."""


class AlertRules:
    """Declares, lists and removes rules, and lists the alerts that they made."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(self, who: Principal, wanted: WantedRule, once: IdempotencyKey) -> AlertRule:
        """Declare a rule; it holds at once. Raises `RuleExists`, `TooManyRules`, `UnusableDeclaration`."""
        check_rule(wanted)
        async with self._db.unit_of_work() as uow:
            if (stored := await uow.replay(once, AlertRule)) is not None:
                return stored
            existing = RuleRow.removed_at.is_(None)
            if await uow.session.scalar(select(RuleRow.id).where(existing, RuleRow.name == wanted.name)):
                raise RuleExists
            if (await uow.session.scalar(select(func.count()).where(existing)) or 0) >= RULES_MAX:
                raise TooManyRules
            row = rule_row(wanted, API, account=who.account)
            uow.add(row)
            await uow.audit(who.account, who.key, "alert_rule.create", row.name, after=structs.asdict(wanted))
            return await uow.answer(once, rule_view(row))

    async def list_all(self) -> Sequence[AlertRule]:
        """Every rule, by name."""
        query = select(RuleRow).where(RuleRow.removed_at.is_(None)).order_by(RuleRow.name)
        async with self._db.reading() as session:
            return [rule_view(row) for row in await session.scalars(query)]

    async def remove(self, who: Principal, rule: str) -> AlertRule:
        """Remove a rule that the API declared; its alerts are cleared. Raises `RuleNotFound`, `DeclaredElsewhere`."""
        mine = RuleRow.id == rule if is_id("arul", rule) else RuleRow.name == rule
        query = select(RuleRow).where(mine, RuleRow.removed_at.is_(None)).with_for_update()
        async with self._db.unit_of_work() as uow:
            row = (await uow.session.scalars(query)).one_or_none()
            if row is None:
                raise RuleNotFound
            if row.origin != API:
                raise DeclaredElsewhere
            view = rule_view(row)
            row.removed_at = now()
            before = {"source": row.source, "target": row.target, "fire_at": row.fire_at}
            await uow.audit(who.account, who.key, "alert_rule.remove", row.name, before=before)
            return view

    async def alerts(self, *, firing_only: bool, limit: int, before: str | None) -> Sequence[Alert]:
        """Alerts, newest first; those older than the alert `before`."""
        query = select(AlertRow).order_by(AlertRow.id.desc()).limit(limit)
        if firing_only:
            query = query.where(AlertRow.cleared_at.is_(None))
        if before is not None:
            query = query.where(AlertRow.id < before)
        async with self._db.reading() as session:
            return [alert_view(row) for row in await session.scalars(query)]


def rule_row(wanted: WantedRule, origin: str, *, account: str | None = None) -> RuleRow:
    """The row of a new rule."""
    row = RuleRow(id=new_id("arul"), origin=origin, account=account, created_at=now())
    apply_rule(row, wanted)
    return row


def apply_rule(row: RuleRow, wanted: WantedRule) -> None:
    """Make a row what is declared."""
    row.name, row.source, row.target, row.direction = wanted.name, wanted.source, wanted.target, wanted.direction
    row.fire_at, row.clear_at = wanted.fire_at, check_rule(wanted)
    row.for_seconds, row.clear_seconds = wanted.for_seconds, wanted.clear_seconds
    row.severity, row.grouping, row.is_mailed = wanted.severity, wanted.group, wanted.mail


def rule_view(row: RuleRow) -> AlertRule:
    """A rule as everybody sees it."""
    return AlertRule(
        id=row.id,
        name=row.name,
        source=row.source,
        target=row.target,
        direction=row.direction,
        fire_at=row.fire_at,
        clear_at=row.clear_at,
        for_seconds=row.for_seconds,
        clear_seconds=row.clear_seconds,
        severity=row.severity,
        group=row.grouping,
        mail=row.is_mailed,
        origin=row.origin,
        created_at=row.created_at,
    )


def alert_view(row: AlertRow) -> Alert:
    """An alert as everybody sees it."""
    return Alert(
        id=row.id,
        rule=row.rule_name,
        series=row.series,
        group=row.grouping,
        severity=row.severity,
        state="firing" if row.cleared_at is None else "cleared",
        reason=row.reason,
        value=row.value,
        fired_at=row.fired_at,
        cleared_at=row.cleared_at,
    )
