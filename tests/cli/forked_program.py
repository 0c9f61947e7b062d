"""The command line in a process forked from one that has loaded it: for stories of many commands.

Loading is most of what a command takes. What is forked has its own environment, folder, arguments and streams. That the program
starts, reads its standard input and knows a terminal is tested with the program itself.
"""

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.chaos.forked import context
from tests.cli.program import AITBC, SECONDS, Ended


def as_forked(*words: str, environment: Mapping[str, str], folder: Path) -> Ended:
    """Run a command line, with nothing on its standard input."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        paths = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (out, err)]
        process = context.Process(target=_run, args=(words, dict(environment), folder, *paths), daemon=True)
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
        process.join()
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
    assert process.exitcode is not None
    return Ended(process.exitcode, *said)


def _run(words: tuple[str, ...], environment: dict[str, str], folder: Path, out: str, err: str) -> None:
    from aitbc_cli.main import main  # loaded already

    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    for path, standard in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, standard)
        os.close(opened)
    sys.argv = [AITBC, *words]
    main()
