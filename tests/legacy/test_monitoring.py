"""The dashboard of the older monitoring service, and what the older coordinator's administrators did: measured, and done."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aitbc.app import MODULES
from tests.legacy.installation import PATIENCE_SECONDS, Installation

SERVICES = {"gateway", *(module.name for module in MODULES)} - {"monitoring"}


def looked(installation: Installation) -> Any:
    """The dashboard, once every service was looked at and is healthy: on a starved machine one may be slow at first."""
    end = time.monotonic() + PATIENCE_SECONDS
    with installation.client("monitoring") as client:
        while True:
            found = client.get("/dashboard").json()
            services = found["services"]
            is_seen = set(services) == SERVICES and all(one["last_check"] for one in services.values())
            if is_seen and all(one["status"] == "healthy" for one in services.values()):
                return found
            assert time.monotonic() < end, services
            time.sleep(0.1)


def test_health_and_root_say_what_this_is(installation: Installation) -> None:
    with installation.client("monitoring") as client:
        assert client.get("/health").json() == {"status": "healthy", "service": "monitoring-service"}
        root = client.get("/").json()
    assert (root["service"], root["status"]) == ("AITBC Monitoring Service", "operational")


def test_the_dashboard_is_measured_and_adds_up(installation: Installation) -> None:
    found = looked(installation)
    assert set(found["services"]) == SERVICES
    times = {service["response_time"] for service in found["services"].values()}
    assert len(times) > 1 and all(0 < one < 10 for one in times)  # nobody invents the same figure for all
    for service in found["services"].values():
        assert datetime.now(UTC) - datetime.fromisoformat(service["last_check"]) < timedelta(seconds=120)
        assert service["status"] == "healthy" and service["details"]["status"] == "healthy"
    counts, summary = found["metrics"]["status_counts"], found["summary"]
    assert sum(counts.values()) == summary["total_services"] == len(SERVICES)
    assert summary["healthy_services"] + summary["degraded_services"] + summary["unhealthy_services"] == len(SERVICES)
    assert found["metrics"]["health_percentage"] == 100.0
    assert found["overall_status"] == found["metrics"]["overall_status"] == "healthy"
    assert summary["last_updated"].endswith(" UTC")


def test_the_summary_has_ports_and_times(installation: Installation) -> None:
    looked(installation)
    with installation.client("monitoring") as client:
        found = client.get("/dashboard/summary").json()["services"]
    assert {name: found[name]["port"] for name in SERVICES} == {
        "gateway": 8080,
        "marketplace": 8102,
        "gpu": 8101,
        "ai": 8106,
        "trading": 8104,
        "governance": 8105,
        "plugins": 8109,
        "hermes": 8108,
    }
    assert all(service["last_check"] for service in found.values())


def test_the_machine_is_read_and_blocks_nobody(installation: Installation) -> None:
    looked(installation)
    with installation.client("monitoring") as client:
        found = client.get("/dashboard/metrics").json()
    system = found["system"]
    assert 0 <= system["cpu_percent"] <= 100 and system["cpu_count"] >= 1
    assert 0 < system["memory_available_gb"] <= system["memory_total_gb"]
    assert 0 < system["disk_free_gb"] <= system["disk_total_gb"]
    assert found["network"]["bytes_recv"] >= 0
    assert set(found["services"]["service_names"]) == SERVICES


def test_why_something_is_broken_is_for_operators_and_upkeep_too(installation: Installation) -> None:
    with installation.client("coordinator") as client:  # the account `local`
        for method, path in (("GET", "/v1/admin/stats"), ("GET", "/admin/logs"), ("POST", "/admin/execute/backup")):
            assert client.request(method, path).status_code == 403, path
        assert client.get("/v1/dashboard").status_code == 200
    with installation.client("coordinator", installation.admin) as client:
        unknown = client.post("/admin/execute/format-disk")
        assert unknown.status_code == 422 and "cleanup" in unknown.text
        stats = client.get("/v1/admin/stats").json()
        assert stats.keys() == {"total_jobs", "active_jobs", "online_miners", "avg_miner_job_duration_ms"}
        status = client.get("/v1/admin/status").json()
        assert status["jobs"].keys() == {"total", "active", "completed", "failed"}


def test_a_backup_that_was_asked_for_is_a_private_file(installation: Installation) -> None:
    with installation.client("coordinator", installation.admin) as client:
        done = client.post("/admin/maintenance/backup").json()
    file = Path(done["file"])
    assert file.stat().st_size == done["bytes"] > 0
    assert file.stat().st_mode & 0o077 == 0
    assert file.parent == installation.server.state / "backups"
