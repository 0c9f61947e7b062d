"""What the older coordinator showed of itself, and what its administrators had done."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from litestar import Controller, get, post
from litestar.params import FromPath, QueryParams
from msgspec import Meta, Struct

from aitbc.kernel.legacy.caller import Who
from aitbc.kernel.legacy.errors import invalid
from aitbc.kernel.legacy.health import OPEN
from aitbc.kernel.legacy.paging import read_query
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.version import this_build
from aitbc.modules.monitoring.api import Usage
from aitbc.modules.monitoring.legacy.dashboard import (
    READ,
    Monitoring,
    brief_dashboard,
    machine,
    system_view,
    whole_dashboard,
)
from aitbc.modules.monitoring.service import MonitoringService
from aitbc.modules.monitoring.service.dashboard import overall, status_of
from aitbc.modules.monitoring.service.figures import value_of
from aitbc.modules.monitoring.service.host import python_version
from aitbc.modules.monitoring.service.upkeep import ACTIONS

ADMIN = {"permission": "monitors:read"}
DO = {"permission": "upkeep:run", "idempotency": "natural", "waits": True}


class DaysQuery(Struct, frozen=True):
    """Over how many days."""

    days: Annotated[int, Meta(ge=1, le=365)] = 7


class LogsQuery(Struct, frozen=True):
    """Which lines of the log."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "debug", "info", "warning", "error"] = "INFO"
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


class Online(Struct, frozen=True, kw_only=True):
    """That the coordinator runs, and since when."""

    status: str
    version: str
    uptime: float
    """Seconds since this process was started."""
    timestamp: str


class CoordinatorDashboard(Controller):
    """Dashboards and status, as the older coordinator's paths were."""

    @get("/status", opt=OPEN)
    async def status(self, monitoring: Monitoring) -> Online:
        """That it runs, which version, and for how long."""
        return Online(
            status="online", version=this_build().version, uptime=monitoring.uptime, timestamp=now().isoformat()
        )

    @get("/v1/dashboard", opt=READ)
    async def dashboard(self, monitoring: Monitoring, who: Who) -> dict[str, Any]:
        """Every service."""
        return await whole_dashboard(monitoring, who)

    @get("/v1/dashboard/summary", opt=READ)
    async def summary(self, monitoring: Monitoring) -> dict[str, Any]:
        """Every service in brief."""
        return await brief_dashboard(monitoring)

    @get("/v1/dashboard/metrics", opt=READ)
    async def metrics(self, monitoring: Monitoring) -> dict[str, Any]:
        """The machine."""
        return await machine(monitoring)

    @get(["/api/v1/dashboard", "/swarm/api/v1/dashboard"], opt=READ)
    async def watched(self, monitoring: Monitoring, who: Who) -> dict[str, Any]:
        """Every service, with the jobs and the alerts."""
        whole, jobs = await whole_dashboard(monitoring, who), await _jobs(monitoring)
        alerts = await monitoring.dashboard.firing() if who.is_admin else []
        return whole | {
            "metrics": whole["metrics"] | {"active_jobs": jobs["active"], "total_jobs": jobs["total"]},
            "alerts": [
                {"name": one.rule, "severity": one.severity, "message": one.reason, "since": one.fired_at.isoformat()}
                for one in alerts
            ],
        }

    @get(["/dashboard", "/swarm/dashboard"], opt=READ)
    async def listed(self, monitoring: Monitoring, who: Who) -> list[dict[str, Any]]:
        """Every service, as a list."""
        whole = await whole_dashboard(monitoring, who)
        return [{"id": name, **service} for name, service in whole["services"].items()]


class CoordinatorAdmin(Controller):
    """Figures and upkeep for administrators."""

    @get("/v1/admin/stats", opt=ADMIN)
    async def stats(self, monitoring: Monitoring) -> dict[str, Any]:
        """The jobs and miners in four figures."""
        jobs, online = await _jobs(monitoring), await _miners(monitoring)
        return {
            "total_jobs": jobs["total"],
            "active_jobs": jobs["active"],
            "online_miners": online["online"],
            "avg_miner_job_duration_ms": jobs["average_ms"],
        }

    @get("/v1/admin/status", opt=ADMIN)
    async def status(self, monitoring: Monitoring) -> dict[str, Any]:
        """Jobs, miners and the machine."""
        jobs, miners = await _jobs(monitoring), await _miners(monitoring)
        system = system_view(await monitoring.host.read())
        states = [status_of(monitor) for monitor in (await monitoring.dashboard.services()).values()]
        usage = await monitoring.usage(["kind"])
        return {
            "jobs": {
                "total": jobs["total"],
                "active": jobs["active"],
                "completed": sum(one.jobs for one in usage),
                "failed": max(0, jobs["ended"] - sum(one.jobs for one in usage)),
            },
            "miners": {**miners, "avg_job_duration_ms": jobs["average_ms"]},
            "system": {
                **{name: system[name] for name in ("cpu_percent", "memory_percent", "disk_percent")},
                "python_version": python_version(),
                "timestamp": now().isoformat(),
            },
            "status": overall(states),
        }

    @get("/admin/analytics", opt=ADMIN)
    async def analytics(self, monitoring: Monitoring, query: QueryParams) -> dict[str, Any]:
        """What was paid for work in the last days, by day, kind and model."""
        days = read_query(query, DaysQuery).days
        since = (now() - timedelta(days=days - 1)).date()
        found = {by: await monitoring.usage([by], since=since) for by in ("day", "kind", "model")}
        return {
            "days": days,
            "from": since.isoformat(),
            "total_jobs": sum(one.jobs for one in found["kind"]),
            **{f"by_{by}": [_usage_view(by, one) for one in rows] for by, rows in found.items()},
            "timestamp": now().isoformat(),
        }

    @get("/admin/logs", opt=ADMIN)
    async def logs(self, monitoring: Monitoring, query: QueryParams) -> dict[str, Any]:
        """The newest lines of the log of this process, newest first."""
        wish = read_query(query, LogsQuery)
        lines = monitoring.probes.installation.logs(wish.level.lower(), wish.limit)
        return {"logs": list(lines), "total": len(lines), "level": wish.level.upper()}

    @post("/admin/execute/{action:str}", status_code=200, opt=DO)
    async def execute(self, monitoring: Monitoring, who: Who, action: FromPath[str]) -> dict[str, Any]:
        """Clean up, reindex or back up; what else was asked for is refused."""
        return await _upkeep(monitoring, who, action)

    @post("/admin/maintenance/{action:str}", status_code=200, opt=DO)
    async def maintain(self, monitoring: Monitoring, who: Who, action: FromPath[str]) -> dict[str, Any]:
        """Clean up, reindex or back up."""
        return await _upkeep(monitoring, who, action)


async def _upkeep(monitoring: MonitoringService, who: Who, action: str) -> dict[str, Any]:
    if action not in ACTIONS:
        raise invalid("/action", f"There are the actions {', '.join(ACTIONS)}")
    done = await monitoring.upkeep_runs.run(who, action)
    return {
        "status": "completed",
        "action": done.action,
        "started_at": done.started_at.isoformat(),
        "completed_at": done.ended_at.isoformat(),
        **done.result,
    }


async def _jobs(monitoring: MonitoringService) -> Mapping[str, Any]:
    samples = await monitoring.figures.read()
    average = value_of(samples, "aitbc_attempt_average_seconds")
    total, ended = (value_of(samples, f"aitbc_jobs_{word}_total") or 0.0 for word in ("submitted", "ended"))
    return {
        "total": int(total),
        "ended": int(ended),
        "active": int(value_of(samples, "aitbc_jobs") or 0.0),
        "average_ms": None if not average else round(average * 1000),
    }


async def _miners(monitoring: MonitoringService) -> dict[str, int]:
    presence = await monitoring.presence()
    return {"total": presence.known, "online": presence.online, "offline": presence.known - presence.online}


def _usage_view(by: str, one: Usage) -> dict[str, Any]:
    value = getattr(one, by)
    return {by: str(value), "jobs": one.jobs, "paid": one.price, "fees": one.fee, "earned": one.earned}
