"""The processes of the embedded PostgreSQL: children that die with their parent, and leftovers of dead servers.

Traps:

* The kernel forgets a process's "signal me when my parent dies" whenever its user changes. So the child changes its
  user itself, and asks for the signal after that.
* The parent may be dead before the child asks. The child then sees another parent than the one that started it, and
  leaves.
* The signal comes when the *thread* that started the child ends. So only the main thread may start one.
* The number in an old pid file may have passed to an innocent process. One counts as a server of this data only if it
  calls itself postgres and works in this very folder, and it is signalled through a handle, not by its number.
"""

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from aitbc.server.postgres.account import Account, EmbeddedPostgresError

INITDB_SECONDS = 180.0
PREDECESSOR_SECONDS = 30.0
"""How long a server of a killed predecessor may take to shut down."""
ORPHAN_SECONDS = 5.0
"""How long the children of a dead server may take to notice."""
STOP_STEPS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
"""Fast shutdown, then an immediate one, then the last resort; seconds for each."""

_SET_PARENT_DEATH_SIGNAL = 1
# Loaded before any fork, since a forked child of a program with threads must not load libraries. A PyDLL keeps the
# interpreter's lock during the call: nothing for the child to wait for.
_prctl = ctypes.PyDLL(None, use_errno=True).prctl
_prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)


def child_setup(account: Account) -> Callable[[], None]:
    """What a child does between fork and exec: become the account, and be sent SIGINT when this process dies.

    It only makes system calls, since other threads may have held any lock at the moment of the fork.
    """
    parent = os.getpid()
    change = not account.is_current_user
    uid, gid, interrupt = account.uid, account.gid, int(signal.SIGINT)

    def prepare() -> None:
        if change:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        os.umask(0o077)
        if _prctl(_SET_PARENT_DEATH_SIGNAL, interrupt, 0, 0, 0) != 0 or os.getppid() != parent:
            os._exit(70)

    return prepare


def require_main_thread() -> None:
    """Require the main thread: the server ends with the thread that starts it."""
    if threading.current_thread() is not threading.main_thread():
        raise EmbeddedPostgresError(
            "The embedded PostgreSQL must be started from the main thread: it would end with any other thread."
        )


def start_program(command: Sequence[str | Path], account: Account, output: int) -> subprocess.Popen[bytes]:
    """Start a program of PostgreSQL as the account, in a session of its own, with all output to `output`."""
    environment = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}  # none of the user's PG… variables
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd="/",  # the account may not be allowed where we are
        env=environment,
        start_new_session=True,
        preexec_fn=child_setup(account),  # noqa: PLW1509
    )


def terminate(process: subprocess.Popen[bytes]) -> None:
    """Terminate a child with fast, then immediate shutdown, then SIGKILL, and reap it."""
    for step, seconds in STOP_STEPS:
        process.send_signal(step)  # does nothing to one that has ended
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return


def end_predecessor(folder: Path) -> None:
    """Wait until no server works in this data folder, and remove the pid file that a dead one left.

    One that is shutting down is waited for. Children that outlived their server are killed in the end: they hold its
    memory, and nobody else will. Raises `EmbeddedPostgresError` when a whole server stays.
    """
    began = time.monotonic()
    while pids := _working_in(folder):
        master = pid_in_file(folder)
        waited = time.monotonic() - began
        if master not in pids and waited > ORPHAN_SECONDS:
            for pid in pids:
                _kill(pid, folder)
        if waited > PREDECESSOR_SECONDS:
            raise EmbeddedPostgresError(
                f"Another PostgreSQL (process {master or pids[0]}) works on {folder} and was not started from here. "
                f"Stop it first: kill -INT {master or pids[0]}"
            )
        time.sleep(0.01)
    (folder / "postmaster.pid").unlink(missing_ok=True)


def pid_in_file(folder: Path) -> int | None:
    """The process number in a data folder's pid file, if there is one."""
    try:
        return int((folder / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _working_in(folder: Path) -> list[int]:
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if _works_in(pid, folder)]


def _works_in(pid: int, folder: Path) -> bool:
    try:
        # The name first: it is readable for anybody's process, and rules out nearly all of them.
        if Path(f"/proc/{pid}/comm").read_text().strip() != "postgres":
            return False
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False  # it has just ended, or is a zombie, or is somebody else's


def _kill(pid: int, folder: Path) -> None:
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            if _works_in(pid, folder):  # still the one we mean, now that the number cannot change hands
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
