"""The shell that the examples of a document are run in: one bash for all of them, and none of what it started is left."""

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.docs.console import Example, outputs, script

MARK = "--example--"


def run_examples(
    commands: list[Example], folder: Path, environment: Mapping[str, str], output: Path, seconds: float
) -> list[str]:
    """What each example printed to either stream; fewer than there are when the shell did not come to the end."""
    with output.open("w") as file:
        shell = subprocess.Popen(
            ["bash", "-c", script(commands, MARK)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        try:
            with suppress(subprocess.TimeoutExpired):
                shell.wait(seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)  # what it left in the background
            shell.wait(30)
    return outputs(output.read_text(), MARK)
