"""The processes of the demonstration: a server and a miner, started here and ended with it, however it ends."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
STOP_SECONDS = 15.0


class ChildFailed(Exception):
    """A process of the demonstration ended by itself, or did not get ready in time."""


class Child:
    """One process, in a session of its own so that a Ctrl-C reaches us first, with its output in a file."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        module: str = "aitbc_cli.main",
    ) -> None:
        self.name = name
        self.log = log
        parent = os.getpid()

        def tie_to_parent() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # we died before the tie was made
                os._exit(1)

        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=tie_to_parent,  # noqa: PLW1509 - nothing but two system calls, and no thread is running yet
            )

    def check(self) -> None:
        """Raises `ChildFailed`, with its last words, when the process has ended."""
        if (code := self._process.poll()) is not None:
            raise ChildFailed(f"the {self.name} ended with exit code {code}:\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])

    def await_ready(self, is_ready: Callable[[], bool], seconds: float) -> None:
        """Wait until something holds, as long as the process lives. Raises `ChildFailed`."""
        end = time.monotonic() + seconds
        while not is_ready():
            self.check()
            if time.monotonic() > end:
                raise ChildFailed(f"the {self.name} was not ready after {seconds:.0f} s:\n{self.last_words()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Ask it to end, and end it if it does not."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
