"""Evaluates the rules: which alerts fire and which are cleared, and who is told, in one transaction."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct
from sqlalchemy import select

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.ids import new_id
from aitbc.modules.monitoring.events import AlertsChanged
from aitbc.modules.monitoring.models.alerting import BETWEEN, FIRING, AlertStanding, Thresholds
from aitbc.modules.monitoring.models.standing import BADNESS, MAINTENANCE, UNKNOWN
from aitbc.modules.monitoring.models.tables import AlertRow, AlertStandingRow, RuleRow
from aitbc.modules.monitoring.service.figures import event_figure, value_of
from aitbc.modules.monitoring.service.mails import Mails
from aitbc.modules.monitoring.service.monitor_rows import Standings

LINES_MAX = 50
"""How many alerts one message names; it says how many more there are."""
PAGE = "/monitoring/alerts"
"""Where the alerts are shown."""


class Reading(Struct, frozen=True, kw_only=True):
    """What a rule finds in one series now."""

    series: str
    value: float | None
    words: str
    is_silent: bool = False
    """Whether something above it is down: then it fires nothing new."""


class Outcome(Struct, frozen=True, kw_only=True):
    """An alert that fired, or was cleared."""

    rule: RuleRow
    alert: AlertRow
    fired: bool


class Evaluation:
    """Brings every alert up to date."""

    def __init__(self, db: Database, mails: Mails) -> None:
        self._db = db
        self._mails = mails

    @retrying
    async def run(
        self,
        samples: Mapping[str, float],
        events: Mapping[str, float],
        burning: Mapping[str, float],
        *,
        operator: str,
    ) -> Sequence[Outcome]:
        """Evaluate every rule over figures, counts of events, objectives and monitors; tell each account once a group.

        `operator` is the account that is told by rules that nobody made over the API.
        """
        at = now()
        async with self._db.unit_of_work() as uow:
            rules = (
                await uow.session.scalars(select(RuleRow).where(RuleRow.removed_at.is_(None)).order_by(RuleRow.id))
            ).all()
            standings = await Standings.load(uow.session)
            locked = select(AlertStandingRow).order_by(AlertStandingRow.rule, AlertStandingRow.series).with_for_update()
            rows = {(row.rule, row.series): row for row in await uow.session.scalars(locked)}
            outcomes: list[Outcome] = []
            for rule in rules:
                for reading in _readings(rule, _Known(samples, events, burning, standings)):
                    row = rows.pop((rule.id, reading.series), None)
                    outcomes += await _step(uow, rule, reading, row, at)
            outcomes += await _clear_orphans(uow, rows, at)
            await self._tell(uow, outcomes, operator, at)
            return outcomes

    async def _tell(self, uow: UnitOfWork, outcomes: Sequence[Outcome], operator: str, at: datetime) -> None:
        groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
        for outcome in outcomes:
            groups[outcome.rule.account or operator, outcome.alert.grouping].append(outcome)
        for (account, group), told in sorted(groups.items(), key=lambda one: one[0]):
            fired = _lines([one.alert for one in told if one.fired])
            cleared = _lines([one.alert for one in told if not one.fired])
            uow.publish(
                AlertsChanged(account=account, group=group, fired=fired, cleared=cleared, page=PAGE, changed_at=at)
            )
            if any(one.rule.is_mailed for one in told):
                self._mails.add(uow, group, fired, cleared)


class _Known(NamedTuple):
    """All that rules look at."""

    samples: Mapping[str, float]
    events: Mapping[str, float]
    burning: Mapping[str, float]
    standings: Standings


def _readings(rule: RuleRow, known: _Known) -> list[Reading]:
    """What a rule finds now: one reading for each of its series."""
    if rule.source == "monitor":
        return _monitor_readings(rule, known.standings)
    if rule.source == "figure":
        value = value_of(known.samples, rule.target)
        words = f"{rule.target} is {value:g}" if value is not None else f"nothing is known of {rule.target}"
        return [Reading(series=rule.target, value=value, words=words)]
    if rule.source == "objective":
        value = known.burning.get(rule.target)
        is_known = "burns its budget too fast" if value else "keeps within its budget"
        words = f"{rule.target} {is_known}" if value is not None else f"there is no objective {rule.target}"
        return [Reading(series=rule.target, value=value, words=words)]
    count = known.events.get(event_figure(rule.target), 0.0)
    return [Reading(series=rule.target, value=count, words=f"{rule.target} came {count:g} times in 5 minutes")]


def _monitor_readings(rule: RuleRow, standings: Standings) -> list[Reading]:
    """The states of the monitors of a rule."""
    watched = [row for row in standings.rows if rule.target in ("*", row.name)]
    if not watched and rule.target != "*":
        return [Reading(series=rule.target, value=None, words=f"there is no monitor {rule.target}")]
    found = []
    for row in watched:
        state = standings.state(row.name) or UNKNOWN
        value = 0.0 if state == MAINTENANCE else float(BADNESS[state])
        words = f"{row.name} is {state}" + (f": {row.reason}" if row.reason else "")
        silent = standings.silenced_by(row) is not None
        found.append(Reading(series=row.name, value=value, words=words, is_silent=silent))
    return found


async def _step(
    uow: UnitOfWork, rule: RuleRow, reading: Reading, row: AlertStandingRow | None, at: datetime
) -> list[Outcome]:
    """Bring one alert up to date with one reading."""
    before = (
        AlertStanding()
        if row is None
        else AlertStanding(state=row.state, bad_since=row.bad_since, good_since=row.good_since)
    )
    thresholds = Thresholds(
        direction=rule.direction,
        fire_at=rule.fire_at,
        clear_at=rule.clear_at,
        for_seconds=rule.for_seconds,
        clear_seconds=rule.clear_seconds,
    )
    if reading.is_silent:
        after = before.after(BETWEEN, at, thresholds) if before.state == FIRING else AlertStanding()
    else:
        after = before.after(thresholds.judge(reading.value), at, thresholds)
    if after == before:
        return []
    if row is None:
        row = AlertStandingRow(rule=rule.id, series=reading.series, alert=None)
        uow.add(row)
    row.state, row.bad_since, row.good_since = after.state, after.bad_since, after.good_since
    if after.state == FIRING and before.state != FIRING:
        alert = _fired(rule, reading, at)
        uow.add(alert)
        row.alert = alert.id
        return [Outcome(rule=rule, alert=alert, fired=True)]
    if before.state == FIRING and after.state != FIRING:
        return await _cleared(uow, rule, row, at)
    return []


def _fired(rule: RuleRow, reading: Reading, at: datetime) -> AlertRow:
    return AlertRow(
        id=new_id("alrt"),
        rule=rule.id,
        rule_name=rule.name,
        series=reading.series,
        grouping=rule.grouping,
        severity=rule.severity,
        reason=reading.words,
        value=reading.value,
        fired_at=at,
    )


async def _cleared(uow: UnitOfWork, rule: RuleRow, row: AlertStandingRow, at: datetime) -> list[Outcome]:
    alert = None if row.alert is None else await uow.session.get(AlertRow, row.alert)
    row.alert = None
    if alert is None or alert.cleared_at is not None:
        return []
    alert.cleared_at = at
    return [Outcome(rule=rule, alert=alert, fired=False)]


async def _clear_orphans(
    uow: UnitOfWork, rows: Mapping[tuple[str, str], AlertStandingRow], at: datetime
) -> list[Outcome]:
    """Clear the alerts whose rule, or series, is gone."""
    outcomes: list[Outcome] = []
    for (rule_id, _), row in rows.items():
        rule = await uow.session.get(RuleRow, rule_id)
        if rule is not None:
            outcomes += await _cleared(uow, rule, row, at)
        await uow.session.delete(row)
    return outcomes


def _lines(alerts: Sequence[AlertRow]) -> tuple[str, ...]:
    lines = [f"{alert.severity}: {alert.rule_name}: {alert.reason}" for alert in alerts[:LINES_MAX]]
    return (*lines, f"and {len(alerts) - LINES_MAX} more") if len(alerts) > LINES_MAX else tuple(lines)
