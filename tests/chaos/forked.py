"""Programs forked from a process that has loaded the application: loading takes longer than all else that a start does.

What is forked runs the same code with its own environment, folder and output, and dies by the same signals. The tests of the
command line, of the demonstration and of the units start whole programs.
"""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

context = multiprocessing.get_context("forkserver")
"""Forks from the one process that has loaded the application and the command line."""
context.set_forkserver_preload(["tests.chaos.preloaded"])


class Forked:
    """One running function, with what `subprocess.Popen` offers of a process."""

    def __init__(
        self,
        function: Callable[..., int | None],
        *arguments: Any,
        environment: Mapping[str, str],
        out: Path,
        err: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        """Start it in a folder, this process's own where none is given; it writes to the ends of the files, or of the one.

        The function is one of a module, and gives the exit code.
        """
        err = err or out
        for file in (out, err):
            file.touch()
        given = (function, arguments, dict(environment), folder or Path.cwd(), out, err)
        self._process: ForkServerProcess = context.Process(target=_become, args=given, daemon=True)
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
            raise subprocess.TimeoutExpired("forked", timeout or 0.0)
        return self._process.exitcode

    def terminate(self) -> None:
        """SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()


class ForkedServer(Forked):
    """One running `serve`."""

    clusters: Path | None = None
    """The folder of the migrated cluster that a new embedded database is a copy of; none: it makes its own."""

    def __init__(
        self, flags: Mapping[str, Any], me: str, environment: Mapping[str, str], log: Path, folder: Path | None = None
    ) -> None:
        """Start it; it writes what it says to the end of the log."""
        super().__init__(_serve, dict(flags), me, self.clusters, environment=environment, out=log, folder=folder)


def _serve(flags: dict[str, Any], me: str, clusters: Path | None) -> int:
    from aitbc.app import serve  # loaded already
    from tests.chaos.clusters import copy_clusters

    if clusters is not None:
        copy_clusters(clusters)
    return serve(flags, me)


def _become(
    function: Callable[..., int | None],
    arguments: tuple[Any, ...],
    environment: dict[str, str],
    folder: Path,
    out: Path,
    err: Path,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    for path, standard in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, standard)
        os.close(opened)
    sys.exit(function(*arguments))
