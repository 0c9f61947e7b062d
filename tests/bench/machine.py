"""What processes use: CPU time and memory of a process and of all that it started, as the operating system counts them."""

import hashlib
import os
import platform
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter, process_time

from msgspec import Struct

TICKS = os.sysconf("SC_CLK_TCK")
CALIBRATION_ROUNDS = 5
HASHES = 200_000
SYNCS = 40


class Cpu(Struct, frozen=True):
    """CPU seconds: of the server process itself, and of the database that it started."""

    server: float
    database: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.server + self.database

    def __sub__(self, before: "Cpu") -> "Cpu":
        return Cpu(self.server - before.server, self.database - before.database)


def cpu_of(pid: int) -> Cpu:
    """What a process used so far, and what all below it used, those that have ended included."""
    own = _seconds(pid, ended=False)
    # A child that has ended is counted by whoever waited for it.
    return Cpu(own, _waited_for(pid) + sum(_seconds(child) for child in descendants(pid)))


def described() -> dict[str, float | str]:
    """What the figures of this run hold for: processors, interpreter, and how fast this machine is just now."""
    return {
        "processors": float(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": os.getloadavg()[0],
        "hash_us": round(min(_hash_us() for _ in range(CALIBRATION_ROUNDS)), 3),
        "fsync_ms": round(_sync_ms(), 2),
    }


def _hash_us() -> float:
    """CPU of one SHA-256 of 64 bytes, called from Python: the calibration that runs can be compared by."""
    data, start = b"x" * 64, process_time()
    for _ in range(HASHES):
        hashlib.sha256(data)
    return (process_time() - start) * 1e6 / HASHES


def _sync_ms() -> float:
    """The median time of bringing 8 KiB to the disk where the databases lie."""
    took = []
    with tempfile.NamedTemporaryFile(prefix="aitbc-bench-") as file:
        for _ in range(SYNCS):
            file.write(b"x" * 8192)
            file.flush()
            start = perf_counter()
            os.fdatasync(file.fileno())
            took.append((perf_counter() - start) * 1000)
    return statistics.median(took)


def pss_mib(pids: Iterable[int]) -> float:
    """Memory in MiB, with what is shared between processes divided among them."""
    total = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


def descendants(pid: int) -> list[int]:
    """Every live process below this one."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children[int(fields[1])].append(int(entry.name))
    found, left = [], [pid]
    while left:
        below = children[left.pop()]
        found += below
        left += below
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on; none of a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _seconds(pid: int, *, ended: bool = True) -> float:
    fields = _stat(pid)
    return sum(map(int, fields[11:15] if ended else fields[11:13])) / TICKS


def _waited_for(pid: int) -> float:
    return sum(map(int, _stat(pid)[13:15])) / TICKS
