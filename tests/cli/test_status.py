"""`aitbc status` against a real server, seen by an admin, by a narrow key, by nobody, and when it is not ready."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aitbc.kernel.crypto.api_key import new_key
from aitbc.server.admin.health import CACHE_SECONDS
from aitbc_cli import exits
from aitbc_cli.main import run
from tests.chaos.server_process import ServerProcess, children_of

ADMIN_SEES = {"key", "balance", "miners", "jobs", "block"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for the tests of this file."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    process = ServerProcess(tmp_path_factory.mktemp("served") / "state", port)
    process.start()
    yield process
    if process.is_alive:
        process.stop()


@pytest.fixture(autouse=True)
def at_home(served: ServerProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On the machine of the server, as its user, in a folder without settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AITBC_STATE_DIR", str(served.state))
    for name in (
        "AITBC_URL",
        "AITBC_API_KEY",
        "AITBC_API_KEY_FILE",
        "AITBC_PROFILE",
        "AITBC_OUTPUT",
        "XDG_CONFIG_HOME",
    ):
        monkeypatch.delenv(name, raising=False)


def status(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and what a program reads."""
    capsys.readouterr()
    code = run(["status", "-o", "json", *arguments])
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, told


def test_an_admin_sees_every_part(served: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = status(capsys)
    assert code == exits.DONE
    assert told["state"] == "ready" and told["unseen"] == {}
    server = told["server"]
    assert (server["url"], server["ready"], server["failing"]) == (served.url, True, [])
    assert server["version"] and server["started_at"].endswith("Z")
    assert told["key"]["kind"] == "admin" and told["key"]["origin"] == str(served.state / "admin.key")
    assert told["balance"]["account"] == told["key"]["account"]
    assert told["block"]["height"] >= 0 and 0 <= told["block"]["age_seconds"] < 120
    assert set(told["jobs"]) == {"queued", "leased", "running", "succeeded", "failed", "canceled", "expired", "more"}


def test_jobs_and_money_are_those_of_the_server(served: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    _, before = status(capsys)
    assert run(["deposit", before["key"]["account"], "5", "--yes", "-q"]) == exits.DONE
    assert run(["job", "submit", "embed", "--text", "hello", "--max-price", "0.05", "-q"]) == exits.DONE
    _, after = status(capsys)
    assert after["jobs"]["queued"] == before["jobs"]["queued"] + 1
    assert (after["balance"]["owned"], after["balance"]["held"]) == ("5", "0.05")
    assert run(["status"]) == exits.DONE
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["Jobs"] == "1 queued (everybody's)" and lines["Miners"] == "none (everybody's)"
    assert lines["Balance"] == "4.95 available, 0.05 held" and lines["Ready"] == "ready"


def test_what_a_key_may_not_see_is_said_and_never_invented(
    served: ServerProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    capsys.readouterr()
    assert run(["key", "create", "narrow", "--scope", "jobs:read", "-o", "json"]) == exits.DONE
    monkeypatch.setenv("AITBC_API_KEY", json.loads(capsys.readouterr().out)["secret"])
    code, told = status(capsys)
    assert code == exits.DONE and told["jobs"] is not None
    assert told["miners"] is told["block"] is told["balance"] is told["server"]["started_at"] is None
    assert told["unseen"]["miners"] == "needs miners:read"
    assert told["unseen"]["block"] == "needs chain:read"
    assert run(["status"]) == exits.DONE
    assert "Miners   - (needs miners:read)" in capsys.readouterr().out


def test_without_a_key_the_public_part_is_shown(
    served: ServerProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AITBC_STATE_DIR", str(tmp_path))
    code, told = status(capsys, "--url", served.url)
    assert code == exits.DONE and told["server"]["ready"]
    assert {name for name in ADMIN_SEES if told[name] is None} == ADMIN_SEES
    assert set(told["unseen"].values()) == {"needs an API key"}


def test_a_key_that_is_refused_ends_with_its_own_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AITBC_API_KEY", new_key("live"))
    code, told = status(capsys)
    assert (code, told["state"]) == (exits.NOT_ALLOWED, "refused")
    assert set(told["unseen"].values()) == {"the server refuses this key"}


def test_nobody_there_and_another_program_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        assert status(capsys, "--url", f"http://127.0.0.1:{port}", "--timeout", "300ms")[0] == exits.TIMED_OUT
    code, told = status(capsys, "--url", f"http://127.0.0.1:{port}")
    assert code == exits.UNAVAILABLE and told["error"]["code"] == "refused_connection"


def test_a_server_without_its_database_is_not_ready(served: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    stopped = [child for child in children_of(served.pid) if b"postgres" in Path(f"/proc/{child}/cmdline").read_bytes()]
    everything = [*stopped, *(each for one in stopped for each in children_of(one))]
    for process in everything:
        os.kill(process, signal.SIGSTOP)
    try:
        time.sleep(CACHE_SECONDS + 0.1)
        code, told = status(capsys)
        late, unanswered = status(capsys, "--timeout", "1s")
    finally:
        for process in everything:
            os.kill(process, signal.SIGCONT)
        while not served.is_ready():
            time.sleep(0.05)
    assert code == exits.UNAVAILABLE
    assert told["state"] == "not ready" and told["server"]["failing"] == ["database"]
    assert (late, unanswered["error"]["code"]) == (exits.TIMED_OUT, "timed_out")
    assert told["jobs"] is None and told["unseen"]["jobs"]
