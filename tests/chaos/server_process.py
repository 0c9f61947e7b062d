"""A server as its users run it: a process of its own that can be killed, and started again on the same state."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from aitbc.kernel.database.unit_of_work import Target
from aitbc.server.config.placement import MAIN
from tests.chaos.forked import Forked, ForkedServer

START = "import gc; gc.disable(); import sys; from aitbc.app import serve; sys.exit(serve({'server.port': int(sys.argv[1])}))"
"""As the command line does."""
READY_SECONDS = 60.0
REFUSED_SECONDS = 60.0


class ServerProcess:
    """One installation in a folder; at most one process serves it."""

    forked = False
    """Whether servers are forked from a process that has loaded the application, instead of started as programs."""

    def __init__(self, state: Path, port: int, **environment: str) -> None:
        self.state = state
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._environment = {**os.environ, "AITBC_STATE_DIR": str(state), "AITBC_LOG__LEVEL": "warning", **environment}
        self._process: subprocess.Popen[bytes] | ForkedServer | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that it is started with."""
        return self._environment

    @property
    def pid(self) -> int:
        """The process that serves now."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start and wait until it is ready; answers the seconds that took."""
        started = time.monotonic()
        self.state.parent.mkdir(parents=True, exist_ok=True)
        self._process = self._launch(self.state.parent / "server.log")
        while not self.is_ready():
            assert self._process.poll() is None, (self.state.parent / "server.log").read_text()[-3000:]
            assert time.monotonic() - started < READY_SECONDS, "the server was not ready in time"
            time.sleep(0.05)
        return time.monotonic() - started

    def _launch(self, log: Path) -> "subprocess.Popen[bytes] | ForkedServer":
        if self.forked:
            return ForkedServer({"server.port": self.port}, MAIN, self._environment, log)
        command = [sys.executable, "-c", START, str(self.port)]
        with log.open("ab") as file:
            return subprocess.Popen(command, env=self._environment, stdout=file, stderr=file)

    def is_ready(self) -> bool:
        """Whether it says so."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM; answers the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(60)

    @property
    def admin_key(self) -> str:
        """The operator's key, from its file."""
        return (self.state / "admin.key").read_text().strip()

    @property
    def database(self) -> Target:
        """The owner's way into the embedded database, while the server runs."""
        told = json.loads((self.state / "server.json").read_text())["database"]
        return Target(**told)

    def kill_database(self) -> None:
        """SIGKILL the postmaster; the server starts it again."""
        for child in children_of(self.pid):
            if b"postgres" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)


def children_of(pid: int) -> list[int]:
    """The processes that this one started and that live."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def descendants_of(pid: int) -> list[int]:
    """The processes that this one and its own started, and that live."""
    found = children_of(pid)
    return found + [each for child in found for each in descendants_of(child)]


def name_of(pid: int) -> str:
    """The name that a process has given itself; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except OSError:
        return ""


def run_briefly(state: Path, port: int, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A server that is expected to refuse: its exit code, and what it said."""
    settings = {**os.environ, "AITBC_STATE_DIR": str(state), **environment}
    with tempfile.TemporaryDirectory() as said:
        out, err = Path(said, "out"), Path(said, "err")
        refused = Forked(serve_on, port, environment=settings, out=out, err=err)
        try:
            code = refused.wait(REFUSED_SECONDS)
        finally:
            refused.kill()
        return subprocess.CompletedProcess(("serve", str(port)), code, out.read_text(), err.read_text())


def serve_on(port: int) -> int:
    """Serve at a port; gives the exit code."""
    from aitbc.app import serve  # loaded already

    return serve({"server.port": port})
