"""The demonstration as a newcomer runs it: everything holds, the data stays, and nothing is left running."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cli.forked_program import as_forked
from tests.journeys.shapes import SHAPES, placed
from tests.scale import FULL, only_in_full, scaled

AITBC = str(Path(sys.executable).with_name("aitbc"))
SECONDS = 120


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A user's surroundings with a state folder of their own; nothing of it may run at the end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AITBC_")}
    yield {**kept, "HOME": str(tmp_path), "AITBC_STATE_DIR": str(tmp_path / "state"), "AITBC_NO_INPUT": "1"}
    assert not _processes_of(tmp_path), _processes_of(tmp_path)


def _processes_of(folder: Path) -> list[str]:
    """Command lines of the processes that name or work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            surroundings = (process / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if int(process.name) != os.getpid() and (str(folder) in line or f"AITBC_STATE_DIR={folder}" in surroundings):
            found.append(line)
    return found


def _run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([AITBC, *arguments], env=environment, capture_output=True, text=True, timeout=SECONDS)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("shape", scaled(["mounted"], ["mounted", "all split"]))
def test_it_holds_once_and_again_with_the_data_of_the_first_time_and_serves_until_ctrl_c(
    environment: dict[str, str], shape: str
) -> None:
    environment |= placed(**SHAPES[shape])
    state = Path(environment["AITBC_STATE_DIR"])
    chain, height = state / "demo/chain.jsonl", 0
    if FULL:  # the second time does all that the first does
        first = _run(environment, "demo", "--once", "--port", "0")
        assert first.returncode == 0, first.stdout + first.stderr
        assert "receipt verified" in first.stdout
        assert "chain verified" in first.stdout
        height = _height(chain)
    assert _again_until_ctrl_c(environment) == 0
    assert state.stat().st_mode & 0o077 == 0
    assert _height(chain) > height
    here: Any = {"environment": environment, "folder": state.parent}
    checked = as_forked("receipt", "verify", str(chain.with_name("receipt.json")), "--json", **here)
    assert json.loads(checked.out)["verified"] is True
    assert as_forked("chain", "verify", str(chain), **here).code == 0


def _height(chain: Path) -> int:
    return int(json.loads(chain.read_text().splitlines()[-1])["end"]["height"])


def _again_until_ctrl_c(environment: dict[str, str]) -> int:
    """Its exit code: on a terminal, with the interrupt that its driver sends to the whole foreground group."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(AITBC, [AITBC, "demo", "--port", "0"], environment)
    try:
        _try_it(environment, terminal)
    finally:
        with suppress(OSError):
            os.write(terminal, b"\x03")
        _, status = os.waitpid(child, 0)
        os.close(terminal)
    return os.waitstatus_to_exitcode(status)


def _try_it(environment: dict[str, str], terminal: int) -> None:
    shown = _read_until(terminal, "Ctrl-C stops everything")
    assert "everything held" in shown
    assert _run(environment, "demo", "--once").stderr.count("a server is running on") == 1
    words = ("job", "submit", "embed", "--text", "hello", "--max-price", "0.05", "--wait", "--json")
    bought = as_forked(*words, environment=environment, folder=Path(environment["HOME"]))
    assert bought.code == 0, bought.err
    told = json.loads(bought.out)
    assert told["receipt"].startswith("rcpt_")
    assert len(told["output"]["vectors"][0]) == 256


def _read_until(terminal: int, words: str) -> str:
    shown, end = "", time.monotonic() + SECONDS
    while words not in shown:
        assert time.monotonic() < end, shown
        try:
            piece = os.read(terminal, 65_536)
        except OSError:
            piece = b""
        assert piece, shown
        shown += piece.decode(errors="replace")
    return shown


def test_a_port_that_is_taken_ends_it_with_the_reason(environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = _run(environment, "demo", "--once", "--port", str(taken.getsockname()[1]))
    assert ended.returncode == 1
    assert "port" in ended.stderr


@only_in_full
def test_a_server_that_dies_on_the_way_is_no_success(environment: dict[str, str]) -> None:
    state = Path(environment["AITBC_STATE_DIR"])
    demo = subprocess.Popen(
        [AITBC, "demo", "--port", "0"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + SECONDS
    while not (state / "server.json").exists() and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(int(json.loads((state / "server.json").read_text())["pid"]), signal.SIGKILL)
    _, said = demo.communicate(timeout=SECONDS)
    assert demo.returncode == 1, said
    assert "aitbc demo: " in said
    assert "Traceback" not in said
