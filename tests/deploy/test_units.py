"""The units for systemd: they close what they can, name settings that exist, and the server lives under them."""

import inspect
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aitbc.app import MODULES
from aitbc.server.config.keys import keys_of
from aitbc.server.config.settings import ServerSettings
from aitbc.server.postgres.process import PREDECESSOR_SECONDS, STOP_STEPS
from aitbc_cli import exits
from aitbc_cli.commands import miner_run
from aitbc_cli.miner.daemon import LEAVING_SECONDS
from aitbc_cli.times import seconds_of
from tests.deploy.machine import Machine, machine
from tests.deploy.programs import DEPLOY, free_port, run
from tests.scale import only_in_full

UNITS = [DEPLOY / "systemd" / name for name in ("aitbc.service", "aitbc@.service")]
MINER = DEPLOY / "systemd/aitbc-miner.service"
EXPOSURE_MAX = 1.5
MINER_EXPOSURE_MAX = 2.0
"""It talks to a server elsewhere, sees graphics cards, and runs libraries that compile at run time."""
OWN = {"ExecStart", "TimeoutStartSec", "TimeoutStopSec", "OOMPolicy"}
"""What the two units may do differently."""


def directives(unit: Path) -> dict[str, dict[str, list[str]]]:
    """The directives of a unit by section and name; a name may come more than once."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in unit.read_text().splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            section.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("unit", [*UNITS, MINER], ids=lambda unit: unit.name)
def test_systemd_finds_little_exposed(unit: Path) -> None:
    said = run("systemd-analyze", "security", "--offline=yes", "--no-pager", unit)
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert exposure, said
    assert float(exposure[1]) <= (MINER_EXPOSURE_MAX if unit == MINER else EXPOSURE_MAX), said


@pytest.mark.parametrize("unit", [*UNITS, MINER], ids=lambda unit: unit.name)
def test_systemd_understands_every_line(unit: Path, tmp_path: Path) -> None:
    runnable = tmp_path / unit.name
    text = unit.read_text().replace("/opt/aitbc/.venv/bin/aitbc", "/bin/true")
    runnable.write_text(re.sub(r"(?m)^(After|Wants|Requires|PartOf|WantedBy)=.*\n", "", text))
    said = run("systemd-analyze", "verify", "--man=no", runnable)
    assert unit.stem not in said, said


def test_both_units_are_closed_alike() -> None:
    one, other = ({k: v for k, v in directives(unit)["Service"].items() if k not in OWN} for unit in UNITS)
    assert one == other


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_variables_and_credentials_are_settings(unit: Path) -> None:
    keys = keys_of({m.name: m.settings for m in MODULES if m.settings is not None}, [m.name for m in MODULES])
    variables = {variable for key in keys.values() for variable in key.variables}
    service = directives(unit)["Service"]
    named = {value.partition("=")[0] for value in service["Environment"]}
    assert {name for name in named if name.startswith("AITBC_")} <= variables
    credentials = {value.partition(":")[0] for value in service["LoadCredential"]}
    assert credentials == {"database.url", "secret_key"}
    assert all(keys[name].secret for name in credentials)


def test_the_server_has_the_time_it_takes_to_stop() -> None:
    limit = int(directives(UNITS[0])["Service"]["TimeoutStopSec"][0].removesuffix("s"))
    assert limit > ServerSettings().drain_seconds + 2 + sum(seconds for _, seconds in STOP_STEPS)
    assert limit > PREDECESSOR_SECONDS


def test_the_miner_has_the_time_it_takes_to_stop_and_is_started_again_only_where_that_helps() -> None:
    service = directives(MINER)["Service"]
    grace = seconds_of(inspect.signature(miner_run.run).parameters["grace"].default)
    assert int(service["TimeoutStopSec"][0].removesuffix("s")) > grace + LEAVING_SECONDS
    stays_down = {int(code) for code in service["RestartPreventExitStatus"][0].split()}
    assert stays_down == {exits.USAGE, exits.NOT_ALLOWED, exits.REFUSED, exits.CONFIGURATION}
    assert directives(MINER)["Unit"]["StartLimitIntervalSec"] == ["0"]


# Under a systemd of its own ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def port() -> int:
    """Where the server listens."""
    return free_port()


@pytest.fixture(scope="module")
def bare(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A systemd with our units, a credential, and a module to be split out."""
    with machine(tmp_path_factory.mktemp("machine"), port=port) as made:
        made.write("/etc/credstore/aitbc.secret_key", "a secret of some length, and another\n", "600")
        settings = f'[modules.ai]\nplace = "split"\nsupervised = false\nport = {free_port()}\n'
        made.write("/etc/aitbc/config.toml", settings)
        made.run("mkdir", "/run/units/aitbc.service.wants")  # what `systemctl enable aitbc@ai` does
        made.run("ln", "-s", "/run/units/aitbc@.service", "/run/units/aitbc.service.wants/aitbc@ai.service")
        made.run("systemctl", "daemon-reload")
        yield made


def ask(port: int, path: str, key: str | None = None) -> Any:
    """Status and body of an answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if key is not None:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def until_ready(port: int, made: Machine, seconds: float = 60) -> None:
    """Wait for it."""
    end = time.monotonic() + seconds
    while ask(port, "/readyz")[0] != 200:
        assert time.monotonic() < end, made.said()
        time.sleep(0.2)


@pytest.fixture
def booted(bare: Machine, port: int) -> Machine:
    """The same with the server running, whatever the test before has done to it."""
    bare.run("systemctl", "reset-failed")
    bare.run("systemctl", "start", "aitbc.service")
    assert ask(port, "/healthz")[0] == 200  # that is what READY=1 says
    until_ready(port, bare)
    return bare


@contextmanager
def changed(made: Machine, setting: str) -> Iterator[None]:
    """With one more directive for the server, until the block ends."""
    made.write("/run/units/aitbc.service.d/changed.conf", f"[Service]\n{setting}\n")
    made.run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        made.run("rm", "/run/units/aitbc.service.d/changed.conf")
        made.run("systemctl", "daemon-reload")


@only_in_full
def test_started_means_ready_with_a_module_of_its_own(booted: Machine, port: int) -> None:
    assert booted.show("aitbc.service")["ActiveState"] == "active"
    assert booted.show("aitbc@ai.service")["ActiveState"] == "active"
    key = booted.run("cat", "/var/lib/aitbc/admin.key").strip()
    status, page = ask(port, "/api/v1/ai/jobs", key)
    assert (status, json.loads(page)["data"]) == (200, [])
    assert "process_resident_memory_bytes" in ask(port, "/metrics", key)[1]


@only_in_full
def test_the_account_of_the_service_runs_its_commands(booted: Machine, port: int) -> None:
    command = ["runuser", "-u", "aitbc", "--", "env", "AITBC_STATE_DIR=/var/lib/aitbc"]
    said = booted.run(*command, "LD_LIBRARY_PATH=/opt/python/lib", "/opt/aitbc/.venv/bin/aitbc", "status")
    assert f"http://127.0.0.1:{port}" in said


@only_in_full
def test_the_server_holds_no_power_and_takes_its_secret_from_systemd(booted: Machine) -> None:
    pid = booted.show("aitbc.service")["MainPID"]
    status = dict(re.findall(r"(?m)^(\w+):\s+(.*)$", booted.run("cat", f"/proc/{pid}/status")))
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["Uid"].split()[0] != "0"
    assert not booted.succeeds("test", "-e", "/var/lib/aitbc/secret.key")


@only_in_full
def test_a_database_that_crashes_comes_back_under_the_sandbox(booted: Machine, port: int) -> None:
    before = booted.show("aitbc.service")
    booted.run("pkill", "-KILL", "-o", "-x", "postgres")
    time.sleep(1)
    until_ready(port, booted)
    assert booted.show("aitbc.service")["MainPID"] == before["MainPID"]


@only_in_full
def test_a_server_that_stands_still_is_ended_and_started_again(booted: Machine, port: int) -> None:
    with changed(booted, "WatchdogSec=3s"):
        booted.run("systemctl", "restart", "aitbc.service")
        until_ready(port, booted)
        frozen = booted.show("aitbc.service")["MainPID"]
        booted.run("kill", "-STOP", frozen)
        end = time.monotonic() + 60
        while booted.show("aitbc.service")["MainPID"] in (frozen, "0"):
            assert time.monotonic() < end
            time.sleep(0.2)
        until_ready(port, booted)
        assert int(booted.show("aitbc.service")["NRestarts"]) > 0


@only_in_full
def test_a_fault_of_the_configuration_is_not_tried_again(booted: Machine) -> None:
    with changed(booted, "Environment=AITBC_SERVER__HOST=0.0.0.0"):
        assert not booted.succeeds("systemctl", "restart", "aitbc.service")
        shown = booted.show("aitbc.service")
        assert (shown["ExecMainStatus"], shown["ActiveState"]) == ("78", "failed")
        assert booted.show("aitbc@ai.service")["ActiveState"] == "inactive"


@only_in_full
def test_stopping_ends_both_and_every_process(booted: Machine) -> None:
    booted.run("systemctl", "stop", "aitbc.service")
    for unit in ("aitbc.service", "aitbc@ai.service"):
        shown = booted.show(unit)
        assert (shown["ActiveState"], shown["Result"]) == ("inactive", "success"), booted.said()
    assert not booted.succeeds("pgrep", "-x", "postgres")
