"""A NATS server with JetStream for the tests: Debian's, on loopback; it can be killed, started again, and robbed of its memory."""

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

PROGRAM = "nats-server"
PATH = "/usr/sbin:/usr/bin:/usr/local/bin:/bin"
START_SECONDS = 30.0


class NatsServer:
    """One server over one folder; at most one process of it runs."""

    @staticmethod
    def is_installed() -> bool:
        """Whether there can be one."""
        return shutil.which(PROGRAM, path=PATH) is not None

    def __init__(self, folder: Path) -> None:
        """Skips the test where the program is not installed."""
        program = shutil.which(PROGRAM, path=PATH)
        if program is None:
            pytest.skip("nats-server is not installed (Debian: apt-get install nats-server)")
        self._program = program
        self.folder = folder
        self.port = _free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it takes connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        store = self.folder / "store"
        command = [self._program, "-js", "-sd", str(store), "-a", "127.0.0.1", "-p", str(self.port)]
        with (self.folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + START_SECONDS
        while not self.answers():
            assert time.monotonic() < end, (self.folder / "nats.log").read_text()[-2000:]
            time.sleep(0.02)

    def answers(self) -> bool:
        """Whether it takes connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM; nothing where none runs."""
        self._end(signal.SIGTERM)

    def forget(self) -> None:
        """Lose everything that was stored; it must not run."""
        assert self._process is None
        shutil.rmtree(self.folder / "store", ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
