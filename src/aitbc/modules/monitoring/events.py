"""What monitoring publishes. Any module may handle it; what concerns an account goes to its webhooks."""

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


class ClassRenewalEnded(Event, frozen=True, kw_only=True):
    """A service class that was to be renewed is not: it is not sold any more, or its price was not there."""

    kind: ClassVar[str] = "monitoring.class_renewal_ended"
    concerns: ClassVar[tuple[str, ...]] = ("account",)
    account: str
    """Who bought it."""
    purchase: str
    """The last period."""
    service_class: str
    """The class, by its name."""
    reason: str
    ended_at: datetime

    def public(self) -> Mapping[str, Any]:
        """The last period, its class, and why no other one follows."""
        return {
            "purchase": self.purchase,
            "service_class": self.service_class,
            "reason": self.reason,
            "ended_at": self.ended_at,
        }


class ClassJudged(Event, frozen=True, kw_only=True):
    """A period of a service class that an account bought was judged."""

    kind: ClassVar[str] = "monitoring.class_judged"
    concerns: ClassVar[tuple[str, ...]] = ("account",)
    account: str
    """Who bought it."""
    purchase: str
    service_class: str
    """The class, by its name."""
    missed: bool
    """Whether its target was missed."""
    good: int
    """Jobs that were in time."""
    bad: int
    """Jobs that were not."""
    credit: str
    """What of the price is credited, in AITBC."""
    judged_at: datetime

    def public(self) -> Mapping[str, Any]:
        """The class, the verdict, and what is credited."""
        return {
            "purchase": self.purchase,
            "service_class": self.service_class,
            "missed": self.missed,
            "good": self.good,
            "bad": self.bad,
            "credit": self.credit,
            "judged_at": self.judged_at,
        }
