"""Monitoring by the real program: what is watched, what fires, what was paid, one look at all of it, and the audit trail."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.cli.installation import CliInstallation


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliInstallation]:
    """An installation that may look at this machine."""
    installation = CliInstallation(tmp_path_factory.mktemp("installation"), AITBC_WEBHOOKS__ALLOW_PRIVATE="true")
    installation.server.start()
    try:
        installation.settle()
        yield installation
    finally:
        installation.server.stop()


def until_up(installation: CliInstallation, name: str) -> None:
    """Until a monitor was looked at and is up."""
    end = time.monotonic() + 30
    while {row["name"]: row["state"] for row in installation.admin.gets("monitor", "list")}.get(name) != "up":
        assert time.monotonic() < end
        time.sleep(0.2)


def test_what_is_watched_is_made_listed_and_taken_back(installation: CliInstallation) -> None:
    admin = installation.admin
    port = installation.server.port
    made = admin.gets("monitor", "create", "door", "--tcp", f"127.0.0.1:{port}", "--every", "5s", "--public")
    assert (made["kind"], made["interval_seconds"]) == ("tcp", 5.0)
    until_up(installation, "door")
    until_up(installation, "module/trading")
    assert admin.gets("monitor", "show", made["id"])["origin"] == "api"
    assert admin.gets("monitor", "history", made["id"], "--by", "day")[0]["up"] >= 1
    assert admin.gets("monitor", "changes", "--monitor", "door")[-1]["after"] == "up"
    window = admin.gets("monitor", "plan", "New disks", "2099-01-01T00:00:00Z", "2099-01-01T01:00:00Z")
    assert admin.gets("monitor", "cancel", window["id"])["state"] == "canceled"
    assert admin.gets("monitor", "maintenance")[0]["id"] == window["id"]
    admin.does("monitor", "create", "both", "--push", "--tcp", "x:1", code=2)
    assert admin.gets("monitor", "delete", made["id"], "--yes")["id"] == made["id"]
    assert admin.gets("monitor", "upkeep", "cleanup")["action"] == "cleanup"
    assert admin.gets("monitor", "objectives") == []
    installation.alice.does("monitor", "list", code=4)


def test_rules_are_made_and_fire(installation: CliInstallation) -> None:
    admin = installation.admin
    figure = 'aitbc_jobs{state="queued"}'
    made = admin.gets("alert", "create", "queue", "--figure", figure, "--above", "100", "--clear", "50", "--for", "5m")
    assert (made["threshold"], made["clear_threshold"], made["for_seconds"]) == (100.0, 50.0, 300.0)
    assert {"queue", "parts-down"} <= {row["name"] for row in admin.gets("alert", "rules")}
    assert admin.gets("alert", "list", "--firing") == []
    admin.does("alert", "create", "nothing", "--figure", figure, code=2)
    assert admin.gets("alert", "delete", made["id"], "--yes")["name"] == "queue"


def test_usage_is_told_to_everybody_of_their_own(installation: CliInstallation) -> None:
    assert installation.alice.gets("usage", "--by", "kind", "--by", "day") == []
    assert installation.admin.gets("usage", "--from", "2030-01-01") == []


def test_a_service_class_is_sold_bought_and_withdrawn(installation: CliInstallation) -> None:
    admin, alice = installation.admin, installation.alice
    made = admin.gets("class", "create", "gold", "--work", "embed", "--finish", "60", "--price", "0.01", "--days", "1")
    assert (made["price"], made["credit_percent"], made["target"]) == ("0.01", 100, 0.99)
    assert [one["name"] for one in alice.gets("class", "list")] == ["gold"]
    bought = alice.gets("class", "buy", "gold")
    assert (bought["state"], bought["price"]) == ("active", "0.01")
    assert alice.gets("class", "show", bought["id"])["good"] == 0
    assert [one["id"] for one in alice.gets("class", "bought")] == [bought["id"]]
    assert admin.gets("class", "withdraw", "gold", "--yes")["name"] == "gold"
    alice.does("class", "buy", "gold", code=5)


def test_one_look_shows_what_is_wrong(installation: CliInstallation) -> None:
    until_up(installation, "module/ai")
    end = time.monotonic() + 30
    while "no miner is enrolled" not in (shown := installation.admin.does("top").out):  # no terminal: once
        assert time.monotonic() < end, shown
        time.sleep(0.2)
    assert "module/ai" in shown
    seen = installation.admin.gets("top")
    assert seen["counts"]["up"] > 3 and seen["monitors"]


def test_the_audit_trail_is_watched_as_it_grows(installation: CliInstallation) -> None:
    command = [
        sys.executable,
        "-m",
        "aitbc_cli.main",
        "audit",
        "--watch",
        "-o",
        "jsonl",
        "--every",
        "200ms",
        "--limit",
        "1",
    ]
    environment = installation.admin.environment
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        assert first["action"]
        made = installation.admin.gets("monitor", "create", "watched", "--push")
        try:
            while (told := json.loads(watching.stdout.readline()))["object"] != "watched":
                pass
        finally:
            watching.terminate()
    assert (told["action"], told["object"]) == ("monitor.create", "watched")
    assert made["push_token"] and made["push_token"] not in json.dumps(told)


def test_levels_of_the_log_and_the_database_are_looked_into(installation: CliInstallation) -> None:
    before = installation.admin.gets("log-level", "list")
    told = installation.admin.gets("log-level", "set", "warning", "--logger", "uvicorn")
    assert told[0]["levels"]["uvicorn"] == "warning" and told[0]["levels"]["*"] == before[0]["levels"]["*"]
    state = installation.admin.gets("db", "state")
    assert state["size_bytes"] > 0 and any(one["module"] == "ai" for one in state["schemas"])
