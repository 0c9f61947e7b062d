"""What the tests of the embedded PostgreSQL share: a program that dies with a server, and ways to look at one."""

import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import aitbc
from aitbc.server.postgres.account import Account, choose_account
from aitbc.server.postgres.embedded import Address, EmbeddedPostgres, binaries

FAST = {"fsync": "off", "shared_buffers": "16MB", "io_method": "sync"}
ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not ROOT, reason="needs root, who can become somebody else")

Server = Callable[..., EmbeddedPostgres]


def put_copy(made: Path, folder: Path) -> None:
    """A copy of the cluster to spoil, owners and all."""
    folder.mkdir(parents=True)
    subprocess.run(["cp", "-a", str(made), str(folder / "data")], check=True)


def sql(address: Address, statement: str) -> str:
    """What a statement answers, asked with the psql of the wheel."""
    command: list[str | Path] = [binaries() / "psql", "-XAtqc", statement, "-h", address.host, "-p", str(address.port)]
    command += ["-U", address.user, address.database]
    answer: str = subprocess.run(command, check=True, capture_output=True, text=True, env={}).stdout
    return answer.strip()


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that happens in another process."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def lives(pid: int) -> bool:
    """Whether a process does anything still; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# A program that starts a server and waits. Its imports come first: as another user it may not reach its own library.
PROGRAM = """
import os, sys, time
from pathlib import Path
from aitbc.server.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError
folder, uid = Path(sys.argv[1]), int(sys.argv[2])
if uid != os.geteuid():
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
try:
    settings = {"fsync": "off", "shared_buffers": "16MB"}
    server = EmbeddedPostgres(folder, settings=settings, system_folder=folder.parent / "system")
    address = server.start()
except EmbeddedPostgresError as error:
    print("refused:", str(error).replace(chr(10), " | "), flush=True)
    sys.exit(1)
print(server.pid, address.host, flush=True)
time.sleep(60)
"""


@contextmanager
def program(folder: Path, uid: int) -> Iterator[subprocess.Popen[str]]:
    """The program above as a process of its own, gone at the end."""
    environment = {**os.environ, "PYTHONPATH": str(Path(aitbc.__file__).parents[1])}
    command = [sys.executable, "-c", PROGRAM, str(folder), str(uid)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd="/")
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    """What a program says first."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def stranger() -> Account:
    """An unprivileged account that is not the one root's server runs as."""
    taken = choose_account(None, Path("/nonexistent")).uid
    entry = next(entry for entry in reversed(pwd.getpwall()) if entry.pw_uid not in (0, taken))
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
