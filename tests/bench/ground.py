"""The ground that the measurements stand on: one folder, its servers started when first asked for, and no trace afterwards."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

from aitbc.kernel.embedded_place import POINTER
from tests.bench.crowd import Buyer, Rig
from tests.bench.stage import Server, served

CLIENTS = 64
SLOTS = 4


class Ground:
    """What measurements share."""

    def __init__(self, folder: Path, rounds: int, stack: ExitStack) -> None:
        self.folder = folder
        self.rounds = rounds
        self._stack = stack

    @cached_property
    def server(self) -> Server:
        """The server that most is measured at, started when first asked for."""
        return self._stack.enter_context(served(self.folder / "server" / "state"))

    @cached_property
    def small_server(self) -> Server:
        """Another one, in which there is little."""
        return self._stack.enter_context(served(self.folder / "small" / "state"))

    @cached_property
    def people(self) -> tuple[list[Buyer], list[Rig]]:
        """A buyer and a miner for each client of the load of paid jobs."""
        clerk = self.server.clerk
        return asyncio.run(clerk.buyers(CLIENTS)), asyncio.run(clerk.rigs(CLIENTS, SLOTS))


@contextmanager
def ground(rounds: int) -> Iterator[Ground]:
    """A new ground; its folder, and where root's data went instead, are removed in the end."""
    folder = Path(tempfile.mkdtemp(prefix="aitbc-bench-"))
    folder.chmod(0o711)  # the account that PostgreSQL runs under when we are root walks through
    try:
        with ExitStack() as stack:
            yield Ground(folder, rounds, stack)
    finally:
        for pointer in folder.glob(f"**/{POINTER}"):
            shutil.rmtree(pointer.read_text().split("\n", 1)[0], ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
