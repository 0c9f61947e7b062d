"""The ground that the measurements stand on: one folder, its servers started when first asked for, and no trace afterwards."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

from aitbc.server.postgres.paths import POINTER
from tests.bench.crowd import Buyer, Rig
from tests.bench.stage import Server, free_port, served

CLIENTS = 64
SLOTS = 4
MODULES = ("gpu", "ai", "trading")


class Stand:
    """A server under measurement, and the people at it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.ports = [server.port]
        """Where its load comes in, client after client."""

    @cached_property
    def people(self) -> tuple[list[Buyer], list[Rig]]:
        """A buyer and a miner for each client of the load of paid jobs."""
        clerk = self.server.clerk
        return asyncio.run(clerk.buyers(CLIENTS)), asyncio.run(clerk.rigs(CLIENTS, SLOTS))


class Ground:
    """What measurements share; everything is started when first asked for."""

    def __init__(self, folder: Path, rounds: int, stack: ExitStack) -> None:
        self.folder = folder
        self.rounds = rounds
        self._stack = stack

    @cached_property
    def main(self) -> Stand:
        """The server that most is measured at."""
        return self._stand("server")

    @property
    def server(self) -> Server:
        """The same, without the people."""
        return self.main.server

    @cached_property
    def small_server(self) -> Server:
        """Another one, in which there is little."""
        return self._stand("small").server

    @cached_property
    def voting(self) -> Server:
        """One whose proposals are voted on a second after they are made, for an hour."""
        rules = self.folder / "rules.toml"
        rules.write_text("[governance]\ndelay_seconds = { general = 1 }\nvoting_seconds = { general = 3600 }\n")
        return self._stand("voting", AITBC_CONFIG=str(rules)).server

    @cached_property
    def exposed(self) -> tuple[Stand, int]:
        """One whose jobs have a port of their own in the same process; and that port."""
        port = free_port()
        return self._stand("exposed", AITBC_MODULES__AI__PLACE="exposed", AITBC_MODULES__AI__PORT=str(port)), port

    @cached_property
    def split(self) -> tuple[Stand, int]:
        """One whose modules all have processes of their own; and the port of the jobs."""
        ports = {name: free_port() for name in MODULES}
        places = {f"AITBC_MODULES__{name.upper()}__PLACE": "split" for name in MODULES}
        places |= {f"AITBC_MODULES__{name.upper()}__PORT": str(port) for name, port in ports.items()}
        return self._stand("split", **places), ports["ai"]

    @cached_property
    def replicas(self) -> Stand:
        """Two servers over the database of the first one, with the same secrets; its load comes in at both in turns."""
        first = self._stand("first")
        state, second = first.server.state, self.folder / "second" / "state"
        second.mkdir(parents=True, mode=0o700)
        for name in ("node.key", "admin.key"):
            shutil.copy2(state / name, second / name)
        way = first.server.database
        other = self._stand(
            "second",
            AITBC_DATABASE__URL=f"postgresql://{way.user}@localhost:{way.port}/{way.database}?host={way.host}",
            AITBC_SECRET_KEY=(state / "secret.key").read_text().strip(),
        )
        first.ports = [first.server.port, other.server.port]
        return first

    def _stand(self, name: str, **environment: str) -> Stand:
        return Stand(self._stack.enter_context(served(self.folder / name / "state", **environment)))


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
