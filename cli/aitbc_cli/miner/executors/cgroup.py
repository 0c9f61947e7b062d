"""A control group for one program: the kernel bounds the memory that all its processes use together."""

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LEAF = "aitbc-miner"
"""Where the miner itself moves to under cgroup v2, which lets no process sit beside the groups that are bounded."""
_PREFIX = "aitbc-program"
_REMOVE_SECONDS = 1.0
_numbers = itertools.count(1)


class Cgroup:
    """One group, of version 2 or 1 of the kernel's interface."""

    def __init__(self, folder: Path, *, is_v2: bool, memory_bytes: int) -> None:
        self._folder = folder
        self._is_v2 = is_v2
        folder.mkdir()
        try:
            if is_v2:
                (folder / "memory.max").write_text(str(memory_bytes))
                _write_where_known(folder / "memory.swap.max", "0")
                _write_where_known(folder / "memory.oom.group", "1")
            else:
                (folder / "memory.limit_in_bytes").write_text(str(memory_bytes))
                _write_where_known(folder / "memory.memsw.limit_in_bytes", str(memory_bytes))
            self._entrance = os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            folder.rmdir()
            raise

    def enter(self) -> None:
        """Move the calling process in; called between fork and exec, where the file is still open."""
        with suppress(OSError):  # the parent looks, and moves it
            os.write(self._entrance, b"0")

    def holds(self, pid: int) -> bool:
        """Whether a process is in the group; one that is not is moved in first."""
        if pid in self._pids():
            return True
        with suppress(OSError):
            os.write(self._entrance, str(pid).encode())
        return pid in self._pids()

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel has ended a process of the group because the group was full."""
        name = "memory.events" if self._is_v2 else "memory.oom_control"
        with suppress(OSError):
            counts = dict(line.split() for line in (self._folder / name).read_text().splitlines())
            return int(counts.get("oom_kill", 0)) > 0
        return False

    def remove(self) -> None:
        """Remove the group; its processes have ended."""
        with suppress(OSError):
            os.close(self._entrance)
        deadline = time.monotonic() + _REMOVE_SECONDS
        while time.monotonic() < deadline:
            try:
                self._folder.rmdir()
            except FileNotFoundError:
                return
            except OSError:  # the kernel has not finished with its last process
                time.sleep(0.005)
            else:
                return

    def _pids(self) -> set[int]:
        with suppress(OSError):
            return {int(line) for line in (self._folder / "cgroup.procs").read_text().split()}
        return set()


class CgroupParent:
    """Where this process may make groups."""

    def __init__(self, folder: Path, *, is_v2: bool) -> None:
        self._folder = folder
        self._is_v2 = is_v2

    def make(self, *, memory_bytes: int) -> Cgroup | None:
        """A group for one program; none where the kernel refuses it."""
        name = f"{_PREFIX}-{os.getpid()}-{next(_numbers)}"
        try:
            return Cgroup(self._folder / name, is_v2=self._is_v2, memory_bytes=memory_bytes)
        except OSError:
            return None

    def remove_left(self) -> None:
        """Remove the groups of workers that were killed."""
        for folder in self._folder.glob(f"{_PREFIX}-*-*"):
            if not Path(f"/proc/{folder.name.split('-')[2]}").exists():
                with suppress(OSError):  # one that still has processes stays
                    folder.rmdir()


def cgroup_parent(root: Path = Path("/")) -> CgroupParent | None:
    """Where this process may bound the memory of programs; none where no group can be made. `root` is that of /proc."""
    for mount, is_v2 in _memory_folders(root):
        parent = mount.parent if is_v2 and mount.name == LEAF else mount
        if is_v2 and "memory" not in _words(parent / "cgroup.subtree_control"):
            continue
        found = CgroupParent(parent, is_v2=is_v2)
        probe = found.make(memory_bytes=1 << 30)
        if probe is not None:
            probe.remove()
            return found
    return None


def make_room(root: Path = Path("/")) -> bool:
    """Under cgroup v2, move this process into a leaf of its own group, so that groups can be made beside it.

    Done only in a group that this process was given for itself (a service with `Delegate=yes`, a container): processes
    of others are never moved. Answers whether it was done.
    """
    for folder, is_v2 in _memory_folders(root):
        if not is_v2 or folder.name == LEAF or "memory" not in _words(folder / "cgroup.controllers"):
            continue
        leaf = folder / LEAF
        try:
            if _words(folder / "cgroup.procs") != {str(os.getpid())}:
                continue
            leaf.mkdir(exist_ok=True)
            (leaf / "cgroup.procs").write_text(str(os.getpid()))
            (folder / "cgroup.subtree_control").write_text("+memory")
        except OSError:
            with suppress(OSError):
                (folder / "cgroup.procs").write_text(str(os.getpid()))
            with suppress(OSError):
                leaf.rmdir()
            continue
        return True
    return False


def _memory_folders(root: Path) -> Iterator[tuple[Path, bool]]:
    """The folders of this process's own groups that bound memory, and whether each is of version 2."""
    own: dict[str, str] = {}
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            own |= dict.fromkeys(controllers.split(","), path)
    mounts: list[tuple[str, str, str, str]] = []
    with suppress(OSError):
        for line in (root / "proc/self/mountinfo").read_text().splitlines():
            place, _, kind = line.partition(" - ")
            fields, (name, _, options) = place.split(), kind.split(" ", 2)
            mounts.append((fields[3], fields[4], name, options))
    for mount_root, point, name, options in mounts:
        is_v2 = name == "cgroup2"
        if is_v2 or (name == "cgroup" and "memory" in options.split(",")):
            group = own.get("" if is_v2 else "memory")
            if group is not None and group.startswith(mount_root):
                yield root / point.lstrip("/") / group.removeprefix(mount_root).lstrip("/"), is_v2


def _words(path: Path) -> set[str]:
    with suppress(OSError):
        return set(path.read_text().split())
    return set()


def _write_where_known(path: Path, value: str) -> None:
    """Set what not every kernel has, or what it refuses."""
    if path.exists():
        with suppress(OSError):
            path.write_text(value)
