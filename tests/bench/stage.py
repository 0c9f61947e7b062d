"""What is measured: a server of its own with its embedded database, as users run it, and doors to look behind it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from aitbc.kernel.database.unit_of_work import Target
from tests.bench.crowd import Clerk
from tests.bench.machine import Cpu, cpu_of, descendants, pss_mib
from tests.chaos.server_process import ServerProcess

QUIET_SECONDS = 30.0
LEFT_OVER = """
SELECT (SELECT count(*) FROM ai.outbox WHERE delivered_at IS NULL AND dead_at IS NULL)
     + (SELECT count(*) FROM trading.unsealed)"""


class Server(ServerProcess):
    """A server under measurement, with the log level that it has by default."""

    def __init__(self, state: Path, **environment: str) -> None:
        super().__init__(state, free_port(), AITBC_LOG__LEVEL="info", **environment)

    @property
    def clerk(self) -> Clerk:
        """Who makes people here."""
        return Clerk(self.url, self.admin_key)

    def cpu(self) -> Cpu:
        """What it used so far."""
        return cpu_of(self.pid)

    def pss_mib(self, *, alone: bool = False) -> float:
        """Its memory, with the database's or alone."""
        return pss_mib([self.pid] if alone else [self.pid, *descendants(self.pid)])

    def sql(self, statement: str, *values: Any, database: str | None = None) -> list[asyncpg.Record]:
        """Ask the embedded database as its owner."""
        return fetch_now(self.target(database), statement, *values)

    def target(self, database: str | None) -> Target:
        """The owner's way into one of the databases in the cluster."""
        told = self.database
        return Target(host=told.host, port=told.port, user=told.user, database=database or told.database)

    def wait_until_quiet(self) -> None:
        """Wait until every event is delivered and every record sealed: what lives leave behind is part of their cost."""
        end = time.monotonic() + QUIET_SECONDS
        while self.sql(LEFT_OVER)[0][0] and time.monotonic() < end:
            time.sleep(0.2)


@contextmanager
def served(state: Path, **environment: str) -> Iterator[Server]:
    """A server that runs until the block ends."""
    server = Server(state, **environment)
    server.start()
    try:
        yield server
    finally:
        if server.is_alive:
            server.stop()


@contextmanager
def bare_server(body_bytes: int) -> Iterator[tuple[int, int]]:
    """A server of the same make with nothing in it but an answer of this size; gives its pid and port."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.bare", str(port), str(body_bytes)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_port(port)
        yield process.pid, port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)


async def fetch(target: Target, statement: str, *values: Any) -> list[asyncpg.Record]:
    """The rows of one statement, on a connection of its own, without a limit of time."""
    arguments = target.connect_arguments(application="bench", statement_seconds=0) | {"command_timeout": None}
    connection = await asyncpg.connect(**arguments)
    try:
        return list(await connection.fetch(statement, *values))
    finally:
        await connection.close()


def fetch_now(target: Target, statement: str, *values: Any) -> list[asyncpg.Record]:
    """As `fetch`, where no event loop runs."""
    return asyncio.run(fetch(target, statement, *values))


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def rounds_wanted() -> int:
    """How many rounds the medians are made of: `make bench ROUNDS=1` is quick."""
    return max(1, int(os.environ.get("ROUNDS", "3")))


def _wait_for_port(port: int) -> None:
    end = time.monotonic() + 15
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < end, "the bare server did not start"
            time.sleep(0.02)
        else:
            return
