"""Every example of docs/api.md, run in its order in one shell against a real server, prints what the document says."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.chaos.server_process import ServerProcess
from tests.docs.console import Example, examples, outputs, script

EXAMPLES = examples(ROOT / "docs/api.md")
MARK = "--example--"
SECONDS = 100


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """What each example printed; fewer than there are examples when the shell did not come to the end."""
    place = tmp_path_factory.mktemp("examples")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
        server = ServerProcess(place / "state", port, AITBC_WEBHOOKS__ALLOW_PRIVATE="true")  # as the page says
    server.start()
    try:
        yield outputs(_run(script(EXAMPLES, MARK), place, server), MARK)
    finally:
        server.stop()


def _run(program: str, place: Path, server: ServerProcess) -> str:
    """Standard output and standard error of a shell that runs the program in a folder with the checkout's pictures."""
    (place / "cli").symlink_to(ROOT / "cli")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AITBC_")}
    environment |= {"AITBC_URL": server.url, "KEY": server.admin_key, "HOME": str(place)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    output = place / "output"
    with output.open("w") as file:
        shell = subprocess.Popen(
            ["bash", "-c", program],
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        try:
            with suppress(subprocess.TimeoutExpired):
                shell.wait(SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)  # what it left in the background
            shell.wait(10)
    return output.read_text()


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 40


@pytest.mark.parametrize("number", range(len(EXAMPLES)), ids=[str(example) for example in EXAMPLES])
def test_an_example_prints_what_the_document_says(printed: list[str], number: int) -> None:
    example = EXAMPLES[number]
    assert number < len(printed), f"the shell stopped at {EXAMPLES[len(printed)]}"
    wanted = "\n".join(example.printed)
    assert example.agrees_with(printed[number]), f"{example}\nwanted:\n{wanted}\nprinted:\n{printed[number]}"


@pytest.mark.parametrize(
    ("wanted", "output", "agrees"),
    [
        ([], "", True),
        ([], "surprise\n", False),
        (["{…}"], '{"a":1}\n', True),
        (['{"a":…,"c":3}'], '{"a":1,"b":2,"c":3}\n', True),
        (['{"a":…,"c":3}'], '{"a":1,"b":2,"c":4}\n', False),
        (["one", "…", "four"], "one\ntwo\nthree\nfour\n", True),
        (["one", "four"], "one\ntwo\nfour\n", False),
    ],
)
def test_wildcards_stand_for_anything_and_nothing_else(wanted: list[str], output: str, agrees: bool) -> None:
    assert Example(1, "x", wanted).agrees_with(output) is agrees
