"""Servers forked from a process that has loaded the application: loading takes longer than all else that a start does.

What is forked runs the same `serve` with its own environment, folder and log, and dies by the same signals. The tests of the
command line, of the demonstration and of the units start whole programs.
"""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

context = multiprocessing.get_context("forkserver")
"""Forks from the one process that has loaded the application and the command line."""
context.set_forkserver_preload(["tests.chaos.preloaded"])


class ForkedServer:
    """One running `serve`, with what `subprocess.Popen` offers of a process."""

    def __init__(
        self, flags: Mapping[str, Any], me: str, environment: Mapping[str, str], log: Path, folder: Path | None = None
    ) -> None:
        """Start it in a folder, this process's own where none is given; it writes what it says to the end of the log."""
        log.touch()
        arguments = (dict(flags), me, dict(environment), folder or Path.cwd(), log)
        self._process: ForkServerProcess = context.Process(target=_serve, args=arguments, daemon=True)
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
            raise subprocess.TimeoutExpired("serve", timeout or 0.0)
        return self._process.exitcode

    def terminate(self) -> None:
        """SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()


def _serve(flags: dict[str, Any], me: str, environment: dict[str, str], folder: Path, log: Path) -> None:
    from aitbc.app import serve  # loaded already

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(serve(flags, me))
