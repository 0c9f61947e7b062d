"""The command line in a process forked from one that has loaded it: for stories of many commands.

Loading is most of what a command takes. What is forked has its own environment, folder, arguments and streams. That the program
starts, reads its standard input and knows a terminal is tested with the program itself.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.chaos.forked import Forked
from tests.cli.program import AITBC, SECONDS, Ended


def as_forked(*words: str, environment: Mapping[str, str], folder: Path) -> Ended:
    """Run a command line, with nothing on its standard input."""
    with tempfile.TemporaryDirectory() as said:
        out, err = Path(said, "out"), Path(said, "err")
        process = Forked(_run, words, environment=environment, out=out, err=err, folder=folder)
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        return Ended(code, out.read_text(), err.read_text())


def _run(words: tuple[str, ...]) -> None:
    from aitbc_cli.main import main  # loaded already

    sys.argv = [AITBC, *words]
    main()
