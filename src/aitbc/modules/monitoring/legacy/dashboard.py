"""The dashboard of the monitoring service, measured: health, services, and the machine."""

from typing import Any

from litestar import Controller, get
from litestar.di import NamedDependency
from msgspec import Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.legacy.caller import Who
from aitbc.kernel.legacy.health import OPEN, HealthController
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.version import this_build
from aitbc.modules.monitoring.service import MonitoringService
from aitbc.modules.monitoring.service.dashboard import (
    DESCRIPTIONS,
    PORTS,
    figures_view,
    overall,
    service_view,
    status_of,
)
from aitbc.modules.monitoring.service.host import HostReading

READ = {"permission": "self:read"}
Monitoring = NamedDependency[MonitoringService]
"""The parameter `monitoring` of a handler."""


class Root(Struct, frozen=True, kw_only=True):
    """What this is."""

    service: str
    version: str
    status: str


class LegacyHealth(HealthController):
    """Whether the service runs."""

    service = "monitoring-service"

    @get("/", opt=OPEN)
    async def root(self) -> Root:
        """What this is."""
        return Root(service="AITBC Monitoring Service", version=this_build().version, status="operational")


class LegacyDashboard(Controller):
    """The services of this installation as they were last found, and the machine."""

    @get("/dashboard", opt=READ)
    async def dashboard(self, monitoring: Monitoring, who: Who) -> dict[str, Any]:
        """Every service with its state, how long it took to answer, and when that was."""
        return await whole_dashboard(monitoring, who)

    @get("/dashboard/summary", opt=READ)
    async def summary(self, monitoring: Monitoring) -> dict[str, Any]:
        """Every service in brief."""
        return await brief_dashboard(monitoring)

    @get("/dashboard/metrics", opt=READ)
    async def metrics(self, monitoring: Monitoring) -> dict[str, Any]:
        """The machine."""
        return await machine(monitoring)


async def whole_dashboard(monitoring: MonitoringService, who: Principal) -> dict[str, Any]:
    """Every service, how many are how, and what that comes to."""
    services, at = await monitoring.dashboard.services(), now()
    statuses = [status_of(monitor) for monitor in services.values()]
    newest = max((one.checked_at for one in services.values() if one.checked_at is not None), default=at)
    return {
        "timestamp": at.isoformat(),
        "overall_status": overall(statuses),
        "services": {name: service_view(name, monitor, who) for name, monitor in services.items()},
        "metrics": figures_view(statuses),
        "summary": {
            "total_services": len(statuses),
            "healthy_services": statuses.count("healthy"),
            "degraded_services": statuses.count("degraded"),
            "unhealthy_services": statuses.count("unhealthy"),
            "unknown_services": statuses.count("unknown"),
            "last_updated": f"{newest:%Y-%m-%d %H:%M:%S} UTC",
        },
    }


async def brief_dashboard(monitoring: MonitoringService) -> dict[str, Any]:
    """Every service with its name, port and state."""
    return {
        "timestamp": now().isoformat(),
        "services": {
            name: {
                "name": f"{name.capitalize()} Service",
                "port": PORTS.get(name),
                "status": status_of(monitor),
                "description": DESCRIPTIONS.get(name, name),
                "last_check": None if monitor.checked_at is None else monitor.checked_at.isoformat(),
            }
            for name, monitor in (await monitoring.dashboard.services()).items()
        },
    }


async def machine(monitoring: MonitoringService) -> dict[str, Any]:
    """Processor, memory, disk and network, and which services there are."""
    reading, names = await monitoring.host.read(), list(await monitoring.dashboard.services())
    return {
        "timestamp": now().isoformat(),
        "system": system_view(reading),
        "network": {
            name: getattr(reading, name) for name in ("bytes_sent", "bytes_recv", "packets_sent", "packets_recv")
        },
        "services": {"total_services": len(names), "service_names": names},
    }


def system_view(reading: HostReading) -> dict[str, Any]:
    """The machine without its network."""
    names = ("cpu_percent", "cpu_count", "memory_percent", "memory_total_gb", "memory_available_gb")
    return {name: getattr(reading, name) for name in (*names, "disk_percent", "disk_total_gb", "disk_free_gb")}
