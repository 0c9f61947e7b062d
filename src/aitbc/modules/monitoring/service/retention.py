"""How long monitoring keeps what it wrote down: periods that governance may change."""

from collections.abc import Sequence
from datetime import timedelta

from aitbc.kernel.parameters import Parameter, Parameters
from aitbc.modules.monitoring.models.rollups import WIDTHS

MONITORING_PARAMETERS = tuple(
    Parameter(name=f"monitoring.{name}", text=text, unit=unit, least=least, most=most, default=default)
    for name, text, unit, least, most, default in (
        ("minutes_kept_hours", "How long rollups by the minute are kept.", "hours", 7, 744, 24),
        ("hours_kept_days", "How long rollups by the hour are kept.", "days", 30, 366, 30),
        ("days_kept_days", "How long rollups by the day are kept.", "days", 100, 3_650, 365),
        ("changes_kept_days", "How long changes of states, and alerts that ended, are kept.", "days", 30, 3_650, 365),
        ("mails_kept_days", "How long mails that were sent or given up are kept.", "days", 1, 365, 30),
    )
)
"""Nobody looks back further than the least of each: objectives at 6 hours by the minute, status pages at 90 days."""


class Retention:
    """What holds now."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters

    def of_width(self, width: int) -> timedelta:
        """How long rollups of so many seconds are kept."""
        if width == WIDTHS["minute"]:
            return timedelta(hours=self._value("minutes_kept_hours", 24))
        if width == WIDTHS["hour"]:
            return timedelta(days=self._value("hours_kept_days", 30))
        return timedelta(days=self._value("days_kept_days", 365))

    def purges(self) -> Sequence[tuple[str, str, str, timedelta]]:
        """Table, time, condition, and how long its rows are kept."""
        changes = timedelta(days=self._value("changes_kept_days", 365))
        mails = timedelta(days=self._value("mails_kept_days", 30))
        rolled = [
            (table, "start", f"width = {width}", self.of_width(width))
            for table in ("rollups", "figures")
            for width in WIDTHS.values()
        ]
        return (
            *rolled,
            ("changes", "at", "true", changes),
            ("alerts", "cleared_at", "cleared_at IS NOT NULL", changes),
            ("mails", "created_at", "(sent_at IS NOT NULL OR dead_at IS NOT NULL)", mails),
        )

    def _value(self, name: str, otherwise: int) -> int:
        return self._parameters.value(f"monitoring.{name}", otherwise)
