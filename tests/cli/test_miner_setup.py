"""A miner before it works for others: every kind tried once, and a service that starts it with the machine."""

import json
import stat
import subprocess
from pathlib import Path

import pytest

from aitbc.kernel.crypto.api_key import new_key
from aitbc_cli.exits import USAGE
from tests.cli.program import AITBC, in_process

URL = "http://127.0.0.1:9"


@pytest.fixture
def systemd(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl that notes what it is asked, and does it."""
    folder = home / "bin"
    folder.mkdir()
    program = folder / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {home}/asked\nexit $(cat {home}/code 2>/dev/null || echo 0)\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return home / "asked"


def unit_of(home: Path) -> Path:
    return home / ".config" / "systemd" / "user" / "aitbc-miner-attic.service"


def test_a_service_is_written_with_the_options_and_started(
    home: Path, systemd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    token = new_key("enrol")
    monkeypatch.setenv("AITBC_ENROLMENT_TOKEN", token)
    words = ("miner", "install", "--name", "attic", "--url", URL, "--json", "--", "--region", 'a "b" 100% $X')
    ended = in_process(capsys, *words)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == {"unit": str(unit_of(home)), "name": "attic", "started": True}
    text = unit_of(home).read_text()
    kept = home / "state" / "miners" / "attic" / "enrolment_token"
    assert f'"--token-file" "{kept}" "--region" "a \\"b\\" 100%% $$X"' in text
    assert f"Environment=AITBC_URL={URL}" in text and "Delegate=yes" in text and token not in text
    assert (kept.read_text(), stat.S_IMODE(kept.stat().st_mode)) == (token, 0o600)
    assert systemd.read_text().splitlines() == [
        "--user daemon-reload",
        "--user enable --now aitbc-miner-attic.service",
    ]
    (home / "code").write_text("1")
    again = in_process(capsys, *words)
    assert again.code == 0 and json.loads(again.out)["started"] is False
    assert "systemctl --user enable --now aitbc-miner-attic.service" in again.err


def test_a_ray_gets_no_containers_and_says_what_does(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ray = ("--ray", "http://127.0.0.1:9")
    refused = in_process(capsys, "miner", "run", *ray, "--image", f"py=localhost/py@sha256:{'0' * 64}")
    assert refused.code == USAGE and "apptainer exec" in refused.err, refused
    for more in (("--slurm", "--ray", "http://127.0.0.1:9"), ("--ray", "here"), ("--ray", "http://127.0.0.1:9")):
        allow = () if more[-1].startswith("http") and more[0] == "--ray" else ("--allow", "t=/bin/true")
        refused = in_process(capsys, "miner", "run", *more, *allow)
        assert refused.code == USAGE and "--ray" in refused.err, refused


def test_a_dry_run_shows_the_service_and_changes_nothing(
    home: Path, systemd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = in_process(capsys, "miner", "install", "--name", "attic", "--url", URL, "--dry-run")
    assert ended.code == 0 and "ExecStart=" in ended.out, ended.err
    assert not unit_of(home).exists() and not systemd.exists() and not (home / "state").exists()


@pytest.mark.parametrize("wrong", [("--", "--name", "x"), ("--", "--state-dir=x")])
def test_what_the_service_says_itself_is_not_said_twice(
    home: Path, systemd: Path, capsys: pytest.CaptureFixture[str], wrong: tuple[str, ...]
) -> None:
    assert in_process(capsys, "miner", "install", "--name", "attic", "--url", URL, *wrong).code == 2
    assert not unit_of(home).exists()


@pytest.mark.parametrize(("hours", "fault"), [("22-7", "is no time of day"), ("22:00-22:00", "is no time of day")])
def test_hours_that_are_none_are_refused_at_once(
    home: Path, capsys: pytest.CaptureFixture[str], hours: str, fault: str
) -> None:
    ended = in_process(capsys, "miner", "run", "--url", URL, "--kind", "embed", "--schedule", hours)
    assert ended.code == 2 and fault in ended.err


def test_every_kind_is_tried_and_what_is_missing_is_named(home: Path) -> None:
    words = ("miner", "test", "--kind", "command", "--json", "--kinds-file")

    def tried(programs: str) -> tuple[int, dict[str, str]]:
        kinds = home / "kinds.toml"
        kinds.write_text(f"[command.programs]\n{programs}\n")
        done = subprocess.run([AITBC, *words, str(kinds)], capture_output=True, text=True, timeout=120, check=False)
        (row,) = json.loads(done.stdout)
        return done.returncode, row

    code, row = tried('sh = ["/bin/sh", "-c"]')
    assert (code, row["kind"], row["result"]) == (0, "command", "ok")
    code, row = tried('sh = ["/bin/sh", "-c"]\nlost = ["/no/such"]')
    assert (code, row["result"]) == (1, "warning") and "lost: /no/such is not an executable file" in row["message"]
    code, row = tried('lost = ["/no/such"]')
    assert (code, row["result"]) == (1, "failed")
