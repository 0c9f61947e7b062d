"""Process trees on Linux: who descends from whom, how much they hold, and how to end them all for certain."""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# Loaded once, because the call is also made between fork and exec, where nothing should be loaded any more.
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Process:
    """One row of /proc: a process, its parent and group, and whether it is dead and only waits to be reaped."""

    pid: int
    parent: int
    group: int
    dead: bool


def die_with_parent(with_signal: signal.Signals) -> None:
    """Have the kernel send this process the signal when the thread that started it ends."""
    _control(_PR_SET_PDEATHSIG, int(with_signal))


def end_with_parent(parent: int) -> None:
    """End when the process that started this one ends, however it does, with all that was started from here."""
    adopt_orphans()
    signal.signal(signal.SIGTERM, _end_with_descendants)
    die_with_parent(signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the kernel was asked for the signal
        sys.exit(1)


def _end_with_descendants(_signal: int, _frame: object) -> None:
    kill_descendants(os.getpid())
    os._exit(143)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none leaves the tree."""
    _control(_PR_SET_CHILD_SUBREAPER, 1)


def renounce_privileges() -> None:
    """No program started from here may gain privileges by a set-user-id bit."""
    _control(_PR_SET_NO_NEW_PRIVS, 1)


def _control(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


def descendants(root: int) -> list[Process]:
    """All processes below this one, the dead ones included."""
    children: dict[int, list[Process]] = {}
    for pid in _process_ids():
        if process := _read_process(pid):
            children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    parents = [root]
    while parents:
        below = children.pop(parents.pop(), [])
        found += below
        parents += [process.pid for process in below]
    return found


def living(root: int) -> list[int]:
    """The process ids below this one that still run."""
    return [process.pid for process in descendants(root) if not process.dead]


def _read_process(pid: int) -> Process | None:
    stat = _read(f"/proc/{pid}/stat")
    # The name stands in parentheses and may hold spaces and parentheses itself.
    fields = stat[stat.rfind(b")") + 2 :].split(b" ", 3)
    if len(fields) < 4:
        return None
    return Process(pid=pid, parent=int(fields[1]), group=int(fields[2]), dead=fields[0] in b"ZX")


def kill_descendants(root: int, *, within_seconds: float = 4.0) -> bool:
    """End everything below a process; answers whether nothing is left alive."""
    deadline = time.monotonic() + within_seconds
    with _hurry():
        while below := [process for process in descendants(root) if not process.dead]:
            if time.monotonic() > deadline:
                return False
            _kill_groups(below, root)
            _send(_freeze(root, deadline), signal.SIGKILL)
            time.sleep(0.005)
    return True


def _kill_groups(below: list[Process], root: int) -> None:
    """End whole process groups: the kernel does that at once, and no fork of a member slips through.

    A group belongs to one session, and what is below a worker is in sessions that were begun there.
    """
    for group in {process.group for process in below} - {os.getpgid(0), _group_of(root)}:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def _freeze(root: int, deadline: float) -> list[int]:
    """Stop all that is below a process, and answer their ids.

    Each is stopped as soon as it is seen, and what is known is not looked at again: this is faster than a fork, so
    that processes which leave their group and fork without end are caught up with.
    """
    frozen: set[int] = set()
    strangers: set[int] = set()
    while time.monotonic() < deadline:
        caught = 0
        looked_at_all = not strangers
        for pid in _process_ids():
            if pid in frozen or pid in strangers or not (process := _read_process(pid)):
                continue
            if not process.dead and (process.parent == root or process.parent in frozen):
                _send([pid], signal.SIGSTOP)
                frozen.add(pid)
                caught += 1
            else:
                strangers.add(pid)
        if not caught and looked_at_all:
            break
        if not caught:
            strangers.clear()
    return list(frozen)


@contextlib.contextmanager
def _hurry() -> Iterator[None]:
    """Go before all ordinary processes where this is allowed: among thousands, a fair share comes too late."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def kill_tree(root: int) -> bool:
    """End a process and everything below it; answers whether nothing of it was left below."""
    # Stopped, not killed: while it exists, orphans come to it and not to the first process of the system.
    _send([root], signal.SIGSTOP)
    gone = kill_descendants(root)
    _send([root], signal.SIGKILL)
    return gone


def kill_marked(marker: str) -> None:
    """End the processes that have this text in their environment: the orphans of a worker that died itself."""
    wanted = marker.encode()
    for _ in range(20):
        marked = [pid for pid in _process_ids() if wanted in _environment(pid)]
        if not marked:
            return
        _send(marked, signal.SIGSTOP)
        _send(marked, signal.SIGKILL)
        time.sleep(0.01)


def reap() -> None:
    """Collect the dead children that nobody waits for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def memory_bytes(pids: list[int], *, enough: int) -> int:
    """The memory that these processes hold for themselves.

    The quick figure counts a page shared since a fork once a process; only when it reaches `enough` are shares
    divided exactly, which costs more to read.
    """
    quick = sum(_private_bytes(pid) for pid in pids)
    return quick if quick < enough else sum(proportional_bytes(pid) for pid in pids)


def _private_bytes(pid: int) -> int:
    fields = _read(f"/proc/{pid}/statm").split()
    return (int(fields[1]) - int(fields[2])) * _PAGE_BYTES if len(fields) > 2 else 0


def proportional_bytes(pid: int) -> int:
    """The memory of one process, shared pages divided among those that share them; 0 if it is gone."""
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def tasks_of_user(user: int) -> int:
    """How many threads a user runs: what the kernel compares with RLIMIT_NPROC."""
    total = 0
    for pid in _process_ids():
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid == user:  # noqa: PTH116
                total += len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208
    return total


def _process_ids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]  # noqa: PTH208


def _group_of(pid: int) -> int:
    process = _read_process(pid)
    return process.group if process else pid


def _environment(pid: int) -> bytes:
    return _read(f"/proc/{pid}/environ")


def _read(path: str) -> bytes:
    """The content of a small file of /proc, or nothing if its process is gone or not ours to look at."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(file, 65_536)
    except OSError:
        return b""
    finally:
        os.close(file)


def _send(pids: list[int], what: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, what)
