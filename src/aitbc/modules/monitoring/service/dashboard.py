"""The dashboard of the older services, out of what was measured: nothing is probed when somebody looks."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aitbc.kernel.identity.principal import Principal
from aitbc.modules.monitoring.api import Alert, Monitor
from aitbc.modules.monitoring.models.standing import DEGRADED, DOWN, MAINTENANCE, UNKNOWN, UP
from aitbc.modules.monitoring.service.alert_rules import AlertRules
from aitbc.modules.monitoring.service.monitors import Monitors

WORDS = {UP: "healthy", MAINTENANCE: "healthy", DEGRADED: "degraded", DOWN: "unhealthy", UNKNOWN: "unknown"}
"""The older words for our states; what is maintained is not reported as broken."""
ORDER = ("healthy", "degraded", "unknown", "unhealthy")
"""From the best to the worst."""
PORTS = {
    "gateway": 8080,
    "gpu": 8101,
    "marketplace": 8102,
    "trading": 8104,
    "governance": 8105,
    "ai": 8106,
    "monitoring": 8107,
    "hermes": 8108,
    "plugins": 8109,
}
"""The historic port of each service."""
DESCRIPTIONS = {
    "gateway": "The gateway in front of all services",
    "gpu": "Miners and their GPUs",
    "marketplace": "Offers of software and services",
    "trading": "The ledger, receipts and blocks",
    "governance": "Proposals and votes",
    "ai": "Paid jobs",
    "monitoring": "What this comes from",
    "hermes": "Agents and their messages",
    "plugins": "Plugins",
}
ALERTS_MAX = 50


class Dashboard:
    """Puts the states of the services together."""

    def __init__(self, monitors: Monitors, alerts: AlertRules) -> None:
        self._monitors = monitors
        self._alerts = alerts

    async def services(self) -> Mapping[str, Monitor]:
        """The monitor of each service of this installation by its older name, the gateway's process first."""
        monitors = {monitor.name: monitor for monitor in await self._monitors.list_all()}
        found = {"gateway": monitors["process/main"]} if "process/main" in monitors else {}
        prefix = "module/"
        return found | {
            name.removeprefix(prefix): monitor
            for name, monitor in monitors.items()
            if name.startswith(prefix) and name != "module/monitoring"
        }

    async def firing(self) -> Sequence[Alert]:
        """The alerts that fire."""
        return await self._alerts.alerts(firing_only=True, limit=ALERTS_MAX, before=None)


def status_of(monitor: Monitor) -> str:
    """The older word for the state of a service."""
    return WORDS[monitor.state]


def overall(statuses: Sequence[str]) -> str:
    """The worst of some older words; what is not known makes the whole degraded, for that is the nearest there is."""
    worst = max(statuses, key=ORDER.index, default="unknown")
    return "degraded" if worst == "unknown" else worst


def service_view(name: str, monitor: Monitor, who: Principal) -> dict[str, Any]:
    """A service as the dashboard shows it; why it does not work is for operators."""
    status = status_of(monitor)
    view: dict[str, Any] = {
        "status": status,
        "response_time": None if monitor.response_seconds is None else round(monitor.response_seconds, 6),
        "last_check": _text(monitor.checked_at),
    }
    if status in ("unhealthy", "unknown"):
        hidden = "It does not work." if status == "unhealthy" else "It was not looked at lately."
        return view | {"error": monitor.reason if who.is_admin and monitor.reason else hidden}
    return view | {"details": {"status": status, "service": name, "since": _text(monitor.since)}}


def figures_view(statuses: Sequence[str]) -> dict[str, Any]:
    """How many services are how."""
    counts = {word: statuses.count(word) for word in ("healthy", "degraded", "unhealthy", "unknown")}
    share = round(100 * counts["healthy"] / len(statuses), 2) if statuses else 0.0
    return {"overall_status": overall(statuses), "status_counts": counts, "health_percentage": share}


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()
