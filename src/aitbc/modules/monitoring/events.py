"""What monitoring publishes. Any module may handle it; `AlertsChanged` goes to webhooks."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from aitbc.kernel.database.outbox import Event


class MonitorChanged(Event, frozen=True, kw_only=True):
    """A monitor came to another state."""

    kind: ClassVar[str] = "monitoring.monitor_changed"
    monitor: str
    name: str
    before: str
    after: str
    reason: str
    changed_at: datetime


class AlertsChanged(Event, frozen=True, kw_only=True):
    """Alerts of one group began to fire, or were cleared, at one moment."""

    kind: ClassVar[str] = "monitoring.alerts_changed"
    concerns: ClassVar[tuple[str, ...]] = ("account",)
    account: str
    """Whose rules they come from."""
    group: str
    fired: tuple[str, ...]
    """What fires now: alert, severity and reason, one line each."""
    cleared: tuple[str, ...]
    page: str
    """Where the alerts are shown: a path of this server."""
    changed_at: datetime

    def public(self) -> Mapping[str, Any]:
        """The group, what fires and what was cleared."""
        return {
            "group": self.group,
            "fired": self.fired,
            "cleared": self.cleared,
            "page": self.page,
            "changed_at": self.changed_at,
        }
