"""A miner in a process forked from one that has loaded it; it is killed, and is told to stop, as the program is."""

import os
import subprocess
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tests.chaos.forked import context

CHECK_SECONDS = 2.0
"""How often it asks a chat server that it forwards to, so that tests need not wait for what it finds."""


class ForkedMiner:
    """One running miner, with what `subprocess.Popen` offers of a process."""

    def __init__(self, told: dict[str, Any], log: Path) -> None:
        """Start it with these options; it writes what it says to the end of the log."""
        log.touch()
        self._process: ForkServerProcess = context.Process(
            target=_mine, args=(told, dict(os.environ), log), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code; `subprocess.TimeoutExpired` when it takes longer."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("miner", timeout or 0.0)
        return self._process.exitcode

    def terminate(self) -> None:
        """SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()


def _mine(told: dict[str, Any], environment: dict[str, str], log: Path) -> None:
    from aitbc_cli.miner import kinds  # loaded already
    from aitbc_cli.miner.daemon import run
    from aitbc_cli.miner.options import MinerFailed, Options

    os.environ.clear()
    os.environ.update(environment)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    kinds.FORWARDED_SECONDS = CHECK_SECONDS
    try:
        sys.exit(run(Options(**told | {"home": Path(told["home"])})))
    except MinerFailed as failed:
        sys.stderr.write(f"{failed}\n")
        sys.exit(failed.exit_code)
