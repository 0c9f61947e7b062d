"""The demonstration of `make run` as a reader has it at work: a server, a miner, and a first paid job."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READY_SECONDS = 120.0
READY = "Ctrl-C stops everything"


@contextmanager
def demonstration(place: Path, **variables: str) -> Iterator[dict[str, str]]:
    """Run it on a state folder of its own, and give what another terminal of its user has in its environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AITBC_")}
    environment = kept | {"HOME": str(place), "AITBC_STATE_DIR": str(place / "state")}
    log = place / "demonstration.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("aitbc")), "demo", "--port", "0"],
            env=environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        end = time.monotonic() + READY_SECONDS
        while READY not in log.read_text():
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield environment
    finally:
        process.terminate()
        process.wait(60)
